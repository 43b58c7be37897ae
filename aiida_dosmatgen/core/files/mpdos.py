"""The public MP-DOS records: crystals with a density of states for each atom, as json."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..curves import Curves
from ..dos import DEFAULT_GRID
from ..errors import ContentError
from .labels import check_contacts

_EMPTY = 0.01  # of the largest total; less counts as no states
_LEAST_GAP = 0.2  # eV; a smaller one may be a dip

_KEYS = ("structure_id", "positions", "cell", "atomic_numbers", "y")


def read_records(paths: str | Path | Iterable[str | Path]) -> CrystalSet:
    """Read MP-DOS records: one json file or several, each one record or a list of them.

    A record has ``structure_id``, ``positions`` (N, 3; Cartesian, Å), ``cell`` (3, 3; rows, Å), ``atomic_numbers`` (N) and
    ``y`` (N, 400; states/eV on −10 … 10 eV, relative to the Fermi energy, both spins summed); other keys are ignored.

    Energy zero becomes the valence band maximum where the curves show a gap: where the total at the Fermi energy is below 1 %
    of its largest value, and stays so over 0.2 eV at least. The maximum is then the last energy below at which the total is
    larger; what was below −10 eV is not known after that. Else zero stays the Fermi energy.

    :return: crystals with the columns ``structure_id``, ``dos``, and those of :mod:`..curve_columns`; the broadening is unknown
        (NaN); no energies of the crystals.
    :raises ContentError: naming the file and the record.
    """
    crystals = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ContentError(f"{path} does not exist") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as exception:
            raise ContentError(f"{path} is not valid JSON: {exception}") from None
        records = content if isinstance(content, list) else [content]
        crystals += [_crystal(record, f"{path}, record {i}") for i, record in enumerate(records)]
    if not crystals:
        raise ContentError("no MP-DOS records in what was given")
    return CrystalSet.concatenate(crystals)


def _crystal(record: Any, where: str) -> CrystalSet:
    missing = [key for key in _KEYS if not isinstance(record, dict) or key not in record]
    if missing:
        raise ContentError(f"{where} is not an MP-DOS record: it lacks {', '.join(missing)}")
    try:
        positions, cell, numbers, dos = (np.array(record[k], float) for k in _KEYS[1:])
    except (TypeError, ValueError):
        raise ContentError(f"{where}: positions, cell, atomic_numbers and y must be arrays of numbers") from None
    n = len(numbers)
    expected = {"positions": (n, 3), "cell": (3, 3), "atomic_numbers": (n,), "y": (n, DEFAULT_GRID.n)}
    for (key, shape), array in zip(expected.items(), (positions, cell, numbers, dos), strict=True):
        if array.shape != shape or not np.isfinite(array).all():
            raise ContentError(f"{where}: {key} must be finite numbers of shape {shape}; it has shape {array.shape}")
    if abs(float(np.linalg.det(cell))) < 1e-3:
        raise ContentError(f"{where}: the lattice vectors lie in a plane")
    if not n or (numbers != np.rint(numbers)).any():
        raise ContentError(f"{where}: atomic_numbers must be whole numbers, one for each atom, not {numbers.tolist()[:6]}")
    if dos.max() <= 0:
        raise ContentError(f"{where}: the density of states is zero everywhere")
    curves = _aligned(dos)
    about = {"dos_low": -10.0, "dos_high": 10.0, "sigma": math.nan, "low": curves.low, "high": curves.high, "gap": curves.gap}
    crystal = CrystalSet(
        np.array([n]),
        numbers,
        positions @ np.linalg.inv(cell),
        cell[None],
        {
            "structure_id": np.array([str(record["structure_id"])]),
            "complete_below": np.array([math.inf]),
            "meaning": np.array([curves.meaning]),
            **{name: np.array([value], dtype=np.float64) for name, value in about.items()},
        },
        {"dos": curves.sites.astype(np.float32)},
    )
    _check(crystal, where)
    return crystal


def _check(crystal: CrystalSet, where: str) -> None:
    defect = crystal.defect()
    if defect:
        raise ContentError(f"{where}: {defect}")
    check_contacts(crystal, lambda _: where)


def _aligned(dos: np.ndarray) -> Curves:
    """Return curves (N, n) on the default energies with their zero at the valence band maximum, if there is a gap."""
    points, total = DEFAULT_GRID.points, dos.sum(0)
    given = Curves(dos[:, None, None], points, None, -math.inf, math.inf, "fermi", 0.0, meaning="projections")
    filled = total > _EMPTY * total.max()
    below, above = np.flatnonzero(filled & (points <= 0)), np.flatnonzero(filled & (points > 0))
    if not below.size or not above.size:
        return given
    top, bottom = float(points[below[-1]]), float(points[above[0]])
    if bottom - top < _LEAST_GAP:
        return given
    return dataclasses.replace(given.shifted(top, "vbm").on(points), gap=bottom - top)
