"""Targets as ``npz`` files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, BinaryIO

from ..curves import Curves
from ..dos import EnergyGrid
from ..errors import ContentError
from ..files.archive import load_arrays, save_arrays
from .target import DosTarget

_FORMAT = "dosmatgen-target"
_VERSION = 4  # 1 had no chosen sites; 1 and 2 had one limit, and neither a broadening nor what the curves mean; 3 no wishes
_WITHOUT_WISHES = 3  # what has none is written as before, so that equal content keeps an equal hash
_ABOUT = ("sigma", "low", "high", "zero", "gap", "n_electrons", "projected", "meaning")


def save(target: DosTarget, path: str | Path | BinaryIO, header: dict[str, Any]) -> None:
    """Write a target; see :meth:`.DosTarget.save`."""
    save_arrays(
        path,
        {
            **header,
            "format": _FORMAT,
            "version": _VERSION if target.wishes else _WITHOUT_WISHES,
            "kind": target.kind,
            "n_atoms": target.n_atoms,
            "grid": dataclasses.asdict(target.grid),
            "sites": None if target.sites is None else list(target.sites),
            "channels": list(target.dos.channels),
            **{name: getattr(target.dos, name) for name in _ABOUT},
            **(
                {"wishes": [one.model_dump() for one in target.wishes], "only_wishes": target.only_wishes}
                if target.wishes
                else {}
            ),
        },
        {"values": target.dos.values},
    )


def load(path: str | Path | BinaryIO) -> DosTarget:
    """Read a target; see :meth:`.DosTarget.load`."""
    header, arrays = load_arrays(path, _FORMAT, _VERSION)
    name = "values" if header["version"] > 2 else "curves"
    if name not in arrays:
        raise ContentError(f"{path} lacks the array {name!r}")
    try:
        sites, grid = header.get("sites"), EnergyGrid(**header["grid"])
        if name == "curves":  # sums of projections, as the models of that time learnt them
            complete = math.inf if header["complete_below"] is None else header["complete_below"]
            return DosTarget(arrays[name], header["kind"], header["n_atoms"], complete, grid, sites)
        dos = Curves(arrays[name], grid.points, channels=tuple(header["channels"]), **{key: header[key] for key in _ABOUT})
        wishes = {"wishes": header.get("wishes", ()), "only_wishes": header.get("only_wishes", False)}
        return DosTarget(dos, header["kind"], header["n_atoms"], sites=sites, **wishes)
    except (KeyError, TypeError) as exception:
        raise ContentError(f"{path} has a header that is not a target's: {exception}") from None
