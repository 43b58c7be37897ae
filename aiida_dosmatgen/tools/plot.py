"""The curves of a crystal, drawn by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from aiida import orm

from ..core.target.distances import rank_key
from .campaign import CampaignResults, RankedCrystal, compared, results_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_dos(
    campaign: orm.WorkChainNode, target: str | None = None, candidate: int | None = None, axes: Axes | None = None
) -> Axes:
    """Draw the target, the predicted and the DFT curve of a crystal, in states/eV/atom over eV.

    Curves are means over the atoms that are compared with the target, and end where the bands do.

    :param target: the name of the target; needed only if several have a candidate of this number.
    :param candidate: its number; by default the one with the smallest DFT distance, or the first of the ranking.
    :param axes: to draw on; new ones by default.
    :raises ValueError: if the node is no campaign, has no ranking (yet), or no such candidate.
    """
    results = results_of(campaign)
    crystal = chosen(results, target, candidate)
    wanted = results.targets[crystal.target]
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    energies = wanted.grid.points
    shown, label = wanted.spoken(energies), "made of wishes" if wanted.only_wishes else "target"
    axes.fill_between(energies, wanted.total, where=shown, color="0.85", label=label)
    if crystal.predicted is not None:
        curve = compared(wanted, crystal, crystal.predicted).mean(0)
        there = (energies >= crystal.predicted_window[0]) & (energies <= crystal.predicted_window[1])
        axes.plot(energies[there], curve[there], "--", color="C1", lw=1.2, label="predicted")
    if crystal.dft is not None:
        whole = (energies >= crystal.low) & (energies <= crystal.complete_below)
        axes.plot(energies[whole], compared(wanted, crystal, crystal.dft).mean(0)[whole], color="C0", lw=1.5, label="DFT")
    axes.axvline(0, color="0.5", lw=0.6)
    ends = (wanted.grid.emin, np.inf) if wanted.only_wishes else (wanted.low, wanted.complete_below)
    axes.set(
        xlim=(ends[0], min(wanted.grid.emax, ends[1], crystal.complete_below)),
        xlabel="energy relative to the highest occupied level (eV)",
        ylabel="DOS (states/eV/atom)",
        title=f"{crystal.row['formula']}, candidate {crystal.row['candidate']} for {crystal.target}".replace("$", r"\$"),
    )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


def chosen(results: CampaignResults, target: str | None = None, candidate: int | None = None) -> RankedCrystal:
    """Return one crystal of a campaign; arguments as of :func:`plot_dos`.

    :raises ValueError: if there is none, or more than one.
    """
    if target is not None and target not in results.targets:
        raise ValueError(f"there is no target {target!r}; the campaign has {', '.join(sorted(results.targets))}")
    among = [crystal for crystal in results.crystals if target in (None, crystal.target)]
    if candidate is not None:
        found = [crystal for crystal in among if crystal.row["candidate"] == candidate]
        if len(found) > 1:
            names = ", ".join(crystal.target for crystal in found)
            raise ValueError(f"candidate {candidate} is ranked for several targets ({names}); say for which")
        if not found:
            raise ValueError(f"candidate {candidate} is not in the ranking")
        return found[0]
    if not among:
        raise ValueError("no crystal is in the ranking")
    return min(among, key=lambda crystal: rank_key(crystal.row.get("dft")))
