"""The plots of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida_dosmatgen.core.dos import DEFAULT_GRID

_BLUE, _ORANGE, _GREY = "#2b5c8a", "#c8702a", "#777777"


def plot(result: dict[str, Any], folder: Path) -> dict[str, str]:
    """Draw what there is to draw, and return the file names."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    drawn = {}
    with plt.rc_context(style):
        for name, draw in (("guidance", _guidance), ("surrogate", _surrogate), ("panels", _panels)):
            figure = draw(plt, result)
            if figure is not None:
                drawn[name] = f"quality-{name}.png"
                figure.savefig(folder / drawn[name], dpi=130, bbox_inches="tight", metadata={"Software": None})
                plt.close(figure)
    return drawn


def _guidance(plt: Any, result: dict[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(5, 3.2))
    for group, colour, label in (
        ("classifier-free", _BLUE, "classifier-free"),
        ("classifier-based", _ORANGE, "classifier-based"),
    ):
        rows = [mode for mode in result["modes"].values() if mode["group"] == group]
        for key, style in (("mean", "o-"), ("best", "o--")):
            axes.plot([r["scale"] for r in rows], [r[key] for r in rows], style, color=colour, label=f"{label}, {key}", ms=4)
    base = result["modes"]["unconditional"]
    axes.axhline(base["mean"], color=_GREY, lw=1, label="told nothing, mean")
    axes.axhline(base["best"], color=_GREY, lw=1, ls="--", label="told nothing, best")
    axes.set(xlabel="guidance scale", ylabel="distance by the surrogate (states/eV/atom)", ylim=(0, None))
    axes.legend(fontsize=7, ncol=2)
    return figure


def _surrogate(plt: Any, result: dict[str, Any]) -> Any:
    rows = [row for row in result.get("dft", []) if row["distance"] is not None]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(3.8, 3.6))
    for who, colour in (("conditional", _BLUE), ("unconditional", _GREY)):
        own = [row for row in rows if row["kind"].startswith(who + ",")]
        axes.plot([r["surrogate"] for r in own], [r["distance"] for r in own], "o", color=colour, label=who, ms=4, alpha=0.8)
    top = 1.05 * max(max(row["surrogate"], row["distance"]) for row in rows)
    axes.plot([0, top], [0, top], color="black", lw=0.7)
    axes.set(xlabel="distance by the surrogate", ylabel="distance by DFT (states/eV/atom)", xlim=(0, top), ylim=(0, top))
    axes.legend()
    return figure


def _panels(plt: Any, result: dict[str, Any]) -> Any:
    panels = result.get("panels", [])
    if not panels:
        return None
    rows = -(-len(panels) // 3)
    figure, grid = plt.subplots(
        rows, min(3, len(panels)), figsize=(3 * min(3, len(panels)), 2.2 * rows), squeeze=False, sharex=True
    )
    energies = DEFAULT_GRID.points
    for axes, panel in zip(grid.ravel(), panels, strict=False):
        axes.axvspan(panel["complete_below"], DEFAULT_GRID.emax, color="black", alpha=0.06, lw=0)
        axes.fill_between(energies, panel["target_dos"], color=_GREY, alpha=0.35, lw=0, label="target")
        axes.plot(energies, panel["dft_dos"], color=_BLUE, lw=1.1, label="obtained, DFT")
        axes.plot(energies, panel["predicted_dos"], color=_ORANGE, lw=0.9, ls="--", label="obtained, surrogate")
        axes.set_title(f"{panel['of']} → {panel['formula']}: {panel['distance']:.3f}", fontsize=8)
        axes.set(ylim=(0, None), xlim=(energies[0], energies[-1]))
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("energy (eV)")
    grid[0, 0].set_ylabel("states/eV/atom")
    grid[0, 0].legend(fontsize=6)
    figure.tight_layout()
    return figure
