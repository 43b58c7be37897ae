"""Targets as pictures: in the terminal, and as a PNG file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..core.errors import ContentError
from ..core.target import DosTarget
from ..core.target.distances import in_words, measured_wishes
from .text import pairs

_MARKERS = ("braille", "+", "o", "x", "*")
_GRANTED = 2.0  # tolerances; the broadening alone takes one
_X, _Y = "energy (eV), 0 is the highest occupied level", "DOS (states/eV/atom)"


def curves_of(name: str, target: DosTarget) -> dict[str, tuple[list[float], list[float]]]:
    """Return energies and values of each curve by what it is called in a legend, as far as it is known.

    Sites with the same curve have one in common. A curve that was made from wishes is NaN where they say nothing.
    """
    shown = (target.grid.points >= target.low) & (target.grid.points <= target.high)
    if target.only_wishes:
        spoken = target.spoken(target.grid.points)
        return {f"{name}, made of wishes": (target.grid.points.tolist(), np.where(spoken, target.total, np.nan).tolist())}
    energies = target.grid.points[shown].tolist()
    if target.kind == "total":
        return {name: (energies, target.total[shown].tolist())}
    alike: dict[bytes, list[int]] = {}
    for atom, curve in zip(target.atoms, target.curves, strict=True):
        alike.setdefault(np.round(curve, 4).tobytes(), []).append(atom)
    curves = dict(zip(target.atoms, target.curves, strict=True))
    return {
        f"{name}, {'site' if len(atoms) == 1 else 'sites'} {', '.join(map(str, atoms))}": (
            energies,
            curves[atoms[0]][shown].tolist(),
        )
        for atoms in alike.values()
    }


def in_terminal(targets: Mapping[str, DosTarget], width: int | None = None, height: int = 24, colour: bool = True) -> str:
    """Return the plot of targets as text.

    :param width: columns; by default those of the terminal, 100 at most.
    """
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.theme("simple" if colour else "colorless")
    figure.plot_size(width or min(100, shutil.get_terminal_size((100, 24)).columns), height)
    every = [curve for name, target in targets.items() for curve in curves_of(name, target).items()]
    for number, (label, (energies, values)) in enumerate(every):
        # without colours curves are told apart by what they are drawn with
        marker = "braille" if colour else _MARKERS[number % len(_MARKERS)]
        for piece, run in enumerate(_runs(energies, values)):
            signal = figure.signal(*run, marker=marker).lines()
            figure.draw(signal if piece else signal.label(label))
    # room above the curves for the legend, which would hide them
    highest = max((np.nanmax(values) for _, (_, values) in every if np.isfinite(values).any()), default=1.0)
    top = highest * height / max(height - 7 - 2 * len(every), 4)
    figure.ruler("y").lim(0, top)
    figure.draw(figure.segment((0, 0), (0, top), marker="┊"))
    figure.label(_X, "lower")
    figure.title(_Y)
    return figure.build().string(colorless=not colour)


def _runs(energies: list[float], values: list[float]) -> list[tuple[list[float], list[float]]]:
    """Return the pieces of a curve between NaNs."""
    finite = np.isfinite(values)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], finite.astype(int), [0]])))
    return [(energies[a:b], values[a:b]) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def wishes_in_words(target: DosTarget) -> list[str]:
    """Return the wishes of a target, a line each, with what goes by them."""
    rows = []
    for one in target.wishes:
        if getattr(one, "channel", None):
            where = "scored by DFT; predicted curves do not tell channels, so that it is not known before"
        elif one.windows and target.only_wishes:
            where = "sampled, screened and scored by DFT"
        elif one.bounds(target.grid.points) is not None:
            where = "screened and scored by DFT; of the sampling, only a classifier goes by it"
        else:
            where = "screened and scored by DFT, not sampled"
        rows.append((f"wish: {one}", where))
    return pairs(rows)


def ungranted(target: DosTarget) -> list[str]:
    """Return what the curve that was made from wishes misses of them, a line each: they contradict each other."""
    if not target.only_wishes:
        return []
    rows = measured_wishes(target.wishes, target.dos, n_atoms=1)["wishes"]
    return [
        f"no curve was found that grants all of it: {row['wish']}: {in_words(row)}"
        for one, row in zip(target.wishes, rows, strict=True)
        if row["missed_by"] is not None and row["missed_by"] > _GRANTED * one.tolerance
    ]


def as_png(targets: Mapping[str, DosTarget], path: Path) -> None:
    """Draw targets into a PNG file; what lies beyond the energy up to which a curve is compared is shaded.

    :raises ContentError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.6))
    panel = figure.subplots()
    for name, target in targets.items():
        for label, (energies, values) in curves_of(name, target).items():
            panel.plot(energies, values, label=label, lw=1.4)
        for one in target.wishes:
            for low, high in one.windows:
                panel.axvspan(low, high, ymax=0.02, color="C1", alpha=0.5, lw=0)
            panel.plot([], [], color="C1", alpha=0.5, lw=4, label=str(one))
    grid = next(iter(targets.values())).grid
    limit = min((target.complete_below for target in targets.values() if not target.only_wishes), default=grid.emax)
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
