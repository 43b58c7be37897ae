"""Meshes of k-points, and the settings that the labels of the twelve-element set were computed with."""

from __future__ import annotations

import numpy as np
import spglib
from scipy.sparse.csgraph import connected_components

_SYMPREC = 1e-4  # Å


def n_bands(n_electrons: float, n_atoms: int) -> int:
    """Bands of a run: the occupied ones and enough empty ones for metals and the lower conduction bands."""
    return int(np.ceil(n_electrons / 2 + 1.5 * n_atoms + 2))


def kpoints_mesh(lattice: np.ndarray, distance: float) -> tuple[int, int, int]:
    """Return the Γ-centred mesh whose points are at most ``distance`` 1/Å apart along each reciprocal vector (2π included).

    :param lattice: lattice vectors as rows in Å, shape (3, 3).
    """
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(lattice).T, axis=1)
    return tuple(max(1, int(np.ceil(round(n, 5)))) for n in lengths / distance)  # type: ignore[return-value]


def symmetric_mesh(mesh: tuple[int, int, int], lattice: np.ndarray) -> tuple[int, int, int]:
    """Return the smallest mesh with at least as many divisions that each operation of the lattice takes to itself.

    A reciprocal vector that an operation takes to a sum with others needs as many divisions as they have: a primitive cell of a
    body-centred tetragonal lattice, whose vectors differ in length, would else have a mesh of lower symmetry than its crystal.

    :param mesh: divisions of a Γ-centred mesh.
    :param lattice: lattice vectors as rows in Å, shape (3, 3).
    """
    point = (lattice.tolist(), [[0.0, 0.0, 0.0]], [1])
    symmetry = spglib.get_symmetry(point, symprec=_SYMPREC)
    rotations = np.eye(3, dtype=int)[None] if symmetry is None else symmetry["rotations"]
    joined = (rotations != 0).any(0)
    joined |= joined.T
    _, part = connected_components(joined)
    return tuple(max(n for n, p in zip(mesh, part, strict=True) if p == own) for own in part)  # type: ignore[return-value]


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
