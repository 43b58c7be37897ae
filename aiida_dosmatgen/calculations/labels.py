"""From the outputs of pw.x and projwfc.x to labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from qe_tools import CONSTANTS
from scipy.constants import physical_constants

from ..core.crystals import CrystalSet
from ..core.dft.labels import GPA, outlier
from ..core.dos import DEFAULT_SIGMA
from ..core.errors import ContentError
from ..data.pdos import electrons_problem, projected_crystal

_HARTREE = physical_constants["Hartree energy in eV"][0]  # the parser's is of 2010, which is 0.4 meV for an atom of gallium
_NODES = ("bands", "projections", "parameters", "trajectory")


def labels_of(crystals: CrystalSet, runs: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[CrystalSet, dict[str, str]]:
    """Return the crystals that have labels, and {row: reason} of runs whose labels cannot be used.

    :param runs: ``bands_i``, ``projections_i``, ``parameters_i``, ``trajectory_i`` for crystal i.
    :param settings: its ``sigma`` (eV) is the broadening.
    :raises ContentError: for names that do not fit, or nodes that are missing.
    """
    by_row: dict[int, dict[str, Any]] = {}
    for key, node in runs.items():
        name, _, number = key.rpartition("_")
        if name not in _NODES or not number.isdigit() or int(number) >= len(crystals):
            raise ContentError(f"{key!r} is not one of {', '.join(_NODES)} with the row of a crystal, e.g. 'bands_0'")
        by_row.setdefault(int(number), {})[name] = node
    done, left_out = [], {}
    for row in sorted(by_row):
        missing = [name for name in _NODES if name not in by_row[row]]
        if missing:
            raise ContentError(f"crystal {row} lacks {missing[0]}_{row}")
        try:
            labelled = _label(crystals[row], by_row[row], float(settings.get("sigma", DEFAULT_SIGMA)))
        except ContentError as exception:
            left_out[str(row)] = str(exception)
            continue
        reason = outlier(labelled)
        if reason is None:
            done.append(labelled)
        else:
            left_out[str(row)] = reason
    return CrystalSet.concatenate(done), left_out


def _label(crystal: CrystalSet, run: Mapping[str, Any], sigma: float) -> CrystalSet:
    projected = projected_crystal(crystal, run["bands"], run["projections"], run["parameters"], sigma=sigma)
    problem = electrons_problem(projected)
    if problem:
        raise ContentError(problem)
    energy = run["parameters"].get_dict().get("energy")
    names = run["trajectory"].get_arraynames()
    if energy is None or "forces" not in names or "stress" not in names:
        raise ContentError("pw.x left out energy, forces or stress")
    energy = float(energy) * _HARTREE / CONSTANTS.hartree_to_ev
    # pw.x and AiiDA count compression as positive, ASE counts tension
    stress = -np.asarray(run["trajectory"].get_array("stress")[-1], float) / GPA
    return projected.with_columns(
        crystal={"energy": np.array([energy]), "stress": stress.reshape(1, 3, 3), "status": np.array(["ok"])},
        atom={"forces": np.asarray(run["trajectory"].get_array("forces")[-1], float)},
    )
