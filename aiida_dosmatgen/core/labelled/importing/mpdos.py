"""The public MP-DOS records: crystals with a density of states for each atom, as json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...crystals import CrystalSet
from ...errors import ContentError
from .records import is_record, labelled_mp_dos
from .streams import json_records


def read_records(paths: str | Path | Iterable[str | Path]) -> CrystalSet:
    """Read MP-DOS records: one json file or several, each one record or a list of them. A bad record is an error.

    A record has ``structure_id``, ``positions`` (N, 3; Cartesian, Å), ``cell`` (3, 3; rows, Å), ``atomic_numbers`` (N) and
    ``y`` (N, 400; states/eV on −10 … 10 eV, relative to the Fermi energy, both spins summed); other keys are ignored. Energy
    zero becomes the valence band maximum where the curves show a gap (:func:`.site_curves.aligned`).
    :func:`.read.read_set` reads the same and leaves bad records out.

    :return: crystals with the columns ``structure_id``, ``dos``, and those of :mod:`...curve_columns`; the broadening is
        unknown (NaN); no energies of the crystals.
    :raises ContentError: naming the file and the record.
    """
    crystals = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for where, content, _ in json_records(Path(path), is_record):
            try:
                crystal = labelled_mp_dos(content, dtype=np.float32)
            except ContentError as exception:
                raise ContentError(f"{where}: {exception}") from None
            columns = {"structure_id": crystal.crystal_columns["id"], "complete_below": np.array([np.inf])}
            crystals.append(crystal.with_columns(crystal=columns))
    if not crystals:
        raise ContentError("no MP-DOS records in what was given")
    return CrystalSet.concatenate(crystals)
