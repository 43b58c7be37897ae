"""Targets as pictures: in the terminal, and as a PNG file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.errors import ContentError
from ..core.target import DosTarget

_X, _Y = "energy (eV), 0 is the highest occupied level", "DOS (states/eV/atom)"


def curves_of(name: str, target: DosTarget) -> dict[str, list[float]]:
    """Return the curves of a target by what they are called in a legend."""
    if target.kind == "total":
        return {name: target.total.tolist()}
    return {f"{name}, site {atom}": curve.tolist() for atom, curve in zip(target.atoms, target.curves, strict=True)}


def in_terminal(targets: Mapping[str, DosTarget], width: int | None = None, height: int = 20, colour: bool = True) -> str:
    """Return the plot of targets as text.

    :param width: columns; by default those of the terminal, 100 at most.
    """
    import plotext

    plotext.clear_figure()
    plotext.theme("clear" if not colour else "pro")
    plotext.plot_size(width or min(100, plotext.terminal_width() or 100), height)
    for name, target in targets.items():
        for label, curve in curves_of(name, target).items():
            plotext.plot(target.grid.points.tolist(), curve, label=label, marker="braille")
    plotext.vline(0)
    plotext.xlabel(_X)
    plotext.ylabel(_Y)
    text = plotext.build()
    return text if colour else plotext.uncolorize(text)


def as_png(targets: Mapping[str, DosTarget], path: Path) -> None:
    """Draw targets into a PNG file; what lies beyond the energy up to which a curve is compared is shaded.

    :raises ContentError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.6))
    panel = figure.subplots()
    for name, target in targets.items():
        for label, curve in curves_of(name, target).items():
            panel.plot(target.grid.points, curve, label=label, lw=1.4)
    grid = next(iter(targets.values())).grid
    limit = min(target.complete_below for target in targets.values())
    if limit < grid.emax:
        panel.axvspan(limit, grid.emax, color="0.93", label="not compared")
    panel.axvline(0, color="0.5", lw=0.6)
    panel.set(xlim=(grid.emin, grid.emax), ylim=(0, None), xlabel=_X, ylabel=_Y)
    panel.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as exception:
        raise ContentError(f"{path} cannot be written: {exception.strerror}") from None
