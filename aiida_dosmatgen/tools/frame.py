"""A campaign's ranking as a table of pandas."""

from __future__ import annotations

from typing import Any

import pandas
from aiida import orm

from .campaign import check_campaign
from .ranking import ranking_of

COLUMNS = (
    *("target", "rank", "candidate", "geometry", "formula", "n_atoms", "status", "score", "predicted_distance"),
    *("predicted_distance_total", "wasserstein", "uncertainty", "formation_energy", "relaxation_energy", "hull_distance"),
    *("known", "distance", "missed", "dft_distance", "dft_missed", "dft_mae", "dft_mae_window", "dft_mae_total"),
    *("dft_wasserstein", "dft_gap", "selected", "reason", "structure", "validation"),
)
_DFT = ("distance", "missed", "mae", "mae_window", "mae_total", "wasserstein", "gap")


def dataframe_of(campaign: orm.WorkChainNode) -> pandas.DataFrame:
    """Return one row for each ranked crystal of each target, each target's best first.

    - ``target``, ``rank``, ``candidate``, ``geometry`` (relaxed, unrelaxed), ``formula``, ``n_atoms``, ``status``
      (validated, not validated, failed), ``score``;
    - by the predictor ``predicted_distance``, ``predicted_distance_total`` and ``uncertainty`` in states/eV/atom,
      ``wasserstein`` in eV;
    - by the force field ``formation_energy`` and ``hull_distance`` of the relaxed geometry, and ``relaxation_energy`` of this
      geometry above it, in eV/atom; ``known``, the known crystal it equals;
    - by DFT ``dft_mae``, ``dft_mae_window`` (±3 eV) and ``dft_mae_total`` in states/eV/atom, ``dft_wasserstein`` in eV;
      ``dft_gap`` in eV, 0 for a metal;
    - of a target with wishes ``distance``, by which candidates are ranked (states/eV/atom), and ``missed``, by how many
      tolerances its wishes are missed, predicted and by DFT (``dft_distance``, ``dft_missed``);
    - ``selected`` (why DFT computed it), ``reason`` (why that failed), and the uuids ``structure`` and ``validation``.

    What is not known is missing (NaN or None).

    :raises ValueError: if the node is no campaign, or has no ranking (yet).
    """
    check_campaign(campaign)
    rows: list[dict[str, Any]] = []
    for target, ranking in ranking_of(campaign).items():
        for row in ranking:
            dft = row.get("dft") or {}
            rows.append({**row, "target": target, **{f"dft_{name}": dft.get(name) for name in _DFT}})
    frame = pandas.DataFrame(rows, columns=list(COLUMNS))
    of_wishes = ("distance", "missed")
    numbers = [
        name
        for name in COLUMNS
        if name.startswith(("dft_", "predicted", "formation", "hull", "wasser", "uncert", "score", "relaxation", *of_wishes))
    ]
    return frame.astype(dict.fromkeys(numbers, float))
