"""Settings of plane-wave runs that depend on the crystal: one source for the executable and the work chains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from pydantic import Field

from ..errors import ContentError
from ..strict import Strict

Cutoffs = Mapping[str, tuple[float, float]]
"""(ecutwfc, ecutrho) in Ry for each element."""


def n_bands(n_electrons: float, n_atoms: int) -> int:
    """Bands of a run: the occupied ones and enough empty ones for metals and the lower conduction bands."""
    return int(np.ceil(n_electrons / 2 + 1.5 * n_atoms + 2))


def more_bands(n_electrons: float, n_atoms: int) -> int:
    """Bands of a second run, after those of :func:`n_bands` did not reach far enough up: 2.5 times the empty ones.

    The number of states of nearly free electrons grows as E^(3/2), so the bands reach about twice as far.
    """
    return int(np.ceil(n_electrons / 2 + 2.5 * (n_bands(n_electrons, n_atoms) - n_electrons / 2)))


def kpoints_mesh(lattice: np.ndarray, distance: float) -> tuple[int, int, int]:
    """Return the Γ-centred mesh whose points are at most ``distance`` 1/Å apart along each reciprocal vector (2π included).

    :param lattice: lattice vectors as rows in Å, shape (3, 3).
    """
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(lattice).T, axis=1)
    return tuple(max(1, int(np.ceil(round(n, 5)))) for n in lengths / distance)  # type: ignore[return-value]


ALMOST_SYMMETRIC = "d_matrix"
"""The routine in which projwfc.x stops, as it doesn't take for rotations what pw.x found in a cell that is off by 1e-7."""

NO_SYMMETRY = {"nosym": True, "noinv": True}
"""What pw.x is told then, in the namelist SYSTEM."""


def label_namelists(
    n_electrons: float,
    n_atoms: int,
    cutoffs: tuple[float, float],
    smearing: str,
    degauss: float,
    max_seconds: float | None = None,
    symmetry: bool = True,
) -> dict[str, dict]:
    """Return the namelists of the self-consistent run behind a label: forces, stress, and bands enough for the DOS.

    :param cutoffs: (ecutwfc, ecutrho) in Ry.
    :param degauss: smearing in Ry.
    :param symmetry: whether pw.x uses the symmetry that it finds (:data:`ALMOST_SYMMETRIC`).
    """
    control: dict = {"calculation": "scf", "tprnfor": True, "tstress": True}
    if max_seconds is not None:
        control["max_seconds"] = int(max_seconds)
    return {
        "CONTROL": control,
        "SYSTEM": {
            "ecutwfc": cutoffs[0],
            "ecutrho": cutoffs[1],
            "nbnd": n_bands(n_electrons, n_atoms),
            "occupations": "smearing",
            "smearing": smearing,
            "degauss": degauss,
            **({} if symmetry else NO_SYMMETRY),
        },
        "ELECTRONS": {"conv_thr": 2e-9 * n_atoms, "mixing_beta": 0.4, "electron_maxstep": 80},
    }


def highest_cutoffs(symbols: Iterable[str], cutoffs: Cutoffs) -> tuple[float, float]:
    """Return the (ecutwfc, ecutrho) that satisfy all elements.

    :raises ContentError: naming the elements that have none.
    """
    wanted = sorted(set(symbols))
    missing = [symbol for symbol in wanted if symbol not in cutoffs]
    if missing:
        raise ContentError(f"no cutoffs for {' '.join(missing)}; known are {' '.join(sorted(cutoffs))}")
    return max(cutoffs[s][0] for s in wanted), max(cutoffs[s][1] for s in wanted)


class LabelParameters(Strict):
    """How the ``label`` work chain computes labels; the meanings are those of :class:`~aiida_dosmatgen.core.job.LabelSettings`.

    :param cutoffs: (ecutwfc, ecutrho) in Ry for each element.
    """

    kpoints_distance: float = Field(0.3, gt=0.01)
    smearing: str = "cold"
    degauss: float = Field(0.02, gt=0)
    sigma: float = Field(0.3, gt=0)
    cutoffs: dict[str, tuple[float, float]]


class ValidationSettings(Strict):
    """What the ``validate`` work chain fills in for each structure, where the parameters of pw.x leave it open.

    :param cutoffs: (ecutwfc, ecutrho) in Ry for each element.
    :param conv_thr_per_atom: convergence threshold of the self-consistent field in Ry/atom.
    :param etot_conv_thr_per_atom: convergence threshold of the energy in a relaxation in Ry/atom.
    :param complete_up_to: energy in eV, relative to the highest occupied level, up to which the bands must be complete (or as
        far as the target is, if that is less); the bands are computed once more, with more of them, if they are not.
    """

    cutoffs: dict[str, tuple[float, float]]
    conv_thr_per_atom: float = Field(2e-9, gt=0)
    etot_conv_thr_per_atom: float = Field(1e-5, gt=0)
    complete_up_to: float = 3.0
