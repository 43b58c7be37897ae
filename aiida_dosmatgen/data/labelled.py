"""Labelled crystals: what models are trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.crystal_files.labels import read_labels
from ..core.crystals import CrystalSet
from ..core.dos import DEFAULT_GRID, EnergyGrid
from ..core.errors import ContentError
from .base import as_validation_error, attribute
from .crystals import CrystalSetData, file_header


class LabelledCrystalSetData(CrystalSetData):
    """Crystals with their per-atom DOS, and with energies and forces where the labels have them.

    Columns: ``dos`` (states/eV) for each atom and ``complete_below`` or ``high`` (eV) for each crystal are required; what the
    curves are is said by the columns of :mod:`~aiida_dosmatgen.core.curve_columns`, or by the grid for all of them. ``energy``
    (eV), ``forces`` (eV/Å) and ``stress`` (eV/Å³) come together or not at all, as in public DOS data sets.

    :param grid: the energies of ``dos``; by default what the file says, or −10 … 10 eV with 400 points.
    :param card: how the labels were made (code, settings, counts), JSON values.
    :raises ValidationError: naming the column or the first crystal that is wrong.
    """

    class AttributesModel(CrystalSetData.AttributesModel):
        grid: dict[str, float] = attribute("grid", "emin and emax (eV) and n of the energies of the DOS")
        card: dict[str, Any] = attribute("card", "how the labels were made")
        has_energies: bool = attribute("has_energies", "whether the crystals have energies and forces")
        reading: str | None = attribute("reading", "what was made of the file, in one line", None)

    def __init__(
        self,
        file: CrystalSet | str | Path | BinaryIO | None = None,
        *,
        grid: EnergyGrid | None = None,
        card: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(file, CrystalSet):
            with as_validation_error():
                header = {"grid": dataclasses.asdict(grid or grid_of_columns(file) or DEFAULT_GRID), "card": dict(card or {})}
            super().__init__(file, header=header, **kwargs)
        else:
            super().__init__(file, **kwargs)
            if card is not None:
                self.base.attributes.set("card", dict(card))

    @classmethod
    def describe(cls, path: Path) -> dict[str, Any]:
        """Return the attributes of a file of labelled crystals.

        :raises ContentError: if labels are missing, of a wrong shape, not finite, or a DOS is negative.
        """
        header, crystals = file_header(path), CrystalSet.load(path)
        try:
            grid = grid_of_columns(crystals) or (EnergyGrid(**header["grid"]) if header.get("grid") else DEFAULT_GRID)
        except TypeError:
            raise ContentError(f"{path.name}: its grid must have emin, emax and n, not {header['grid']}") from None
        check_labels(crystals, grid)
        return {
            **cls.describe_crystals(crystals),
            "grid": dataclasses.asdict(grid),
            "card": header.get("card") or {},
            "has_energies": "energy" in crystals.crystal_columns,
        }

    @property
    def reading(self) -> str | None:
        """What was made of the file that the crystals come from, in one line; None if all of it was taken."""
        return self.base.attributes.get("reading", None)

    @property
    def grid(self) -> EnergyGrid:
        """The energies of the DOS."""
        return EnergyGrid(**self.base.attributes.get("grid"))

    @classmethod
    def from_file(cls, path: str | Path, **kwargs: Any) -> LabelledCrystalSetData:
        """Make a node from an ``npz`` file of labelled crystals, or from an extxyz file with the array ``dos``;
        :attr:`reading` says what of the file was left out. As in :func:`~aiida_dosmatgen.tools.nodes.dataset`, crystals without
        labels that can be learnt from are left out and named.

        :raises ValidationError: for a truncated or foreign file, and for missing or bad labels.
        """
        path = Path(path).expanduser()
        if path.suffix == ".npz":
            return cls(path, **kwargs)
        with as_validation_error():
            crystals, notes = read_labels(path)
            node = cls(crystals, **kwargs)
        reading = "; ".join([f"{path.name}: {len(crystals)} crystals", *notes])
        node.base.attributes.set("reading", reading)
        return node


def grid_of_columns(crystals: CrystalSet) -> EnergyGrid | None:
    """Return the energies that the columns of crystals say; None if they do not.

    :raises ContentError: if they are not the same for all crystals.
    """
    columns = crystals.crystal_columns
    if "dos_low" not in columns or "dos" not in crystals.atom_columns or not len(crystals):
        return None
    ends = np.stack([columns["dos_low"], columns["dos_high"]], 1)
    if not np.allclose(ends, ends[0]):
        raise ContentError("the curves of the crystals are on different energies; put them on the same")
    return EnergyGrid(float(ends[0, 0]), float(ends[0, 1]), crystals.atom_columns["dos"].shape[-1])


def check_labels(crystals: CrystalSet, grid: EnergyGrid) -> None:
    """Check that crystals have labels that can be trained on.

    :raises ContentError: naming the column, and the first crystal if the values are wrong.
    """
    if not len(crystals):
        raise ContentError("there are no crystals in the set")
    n, atoms = len(crystals), len(crystals.numbers)
    limit = (
        "high" if "high" in crystals.crystal_columns and "complete_below" not in crystals.crystal_columns else "complete_below"
    )
    shape_of_dos = crystals.atom_columns["dos"].shape if "dos" in crystals.atom_columns else ()
    resolved = len(shape_of_dos) == 4 and "dos_low" in crystals.crystal_columns  # by spin and channel
    required: dict[str, tuple[int, ...]] = {"dos": (atoms, *(shape_of_dos[1:3] if resolved else ()), grid.n), limit: (n,)}
    together = {"energy": (n,), "forces": (atoms, 3), "stress": (n, 3, 3)}
    columns = {**crystals.crystal_columns, **crystals.atom_columns}
    if "energy" in columns or "forces" in columns:
        required |= {k: v for k, v in together.items() if k != "stress" or k in columns}
    missing = [name for name in required if name not in columns]
    if missing:
        raise ContentError(f"the crystals lack the column {missing[0]!r}; labelled crystals have {', '.join(required)}")
    for name, shape in required.items():
        values = columns[name]
        if values.shape != shape:
            raise ContentError(f"column {name!r} has shape {values.shape}, expected {shape}")
        good = ~np.isnan(values) if name == limit else np.isfinite(values)
        if name == "dos":
            good &= values >= -1e-6 * max(float(np.nanmax(values)), 1e-300)
        rows = good.reshape(len(good), -1).all(1)
        if not rows.all():
            row = int(np.argmin(rows))
            i = int(crystals.crystal_of_atom[row]) if name in crystals.atom_columns else row
            what = "negative or not finite" if name == "dos" else "not finite"
            raise ContentError(f"crystal {i} ({crystals.formulas[i]}): {name} is {what}; leave out crystals without labels")
    largest = np.zeros(n)
    np.maximum.at(largest, crystals.crystal_of_atom, columns["dos"].reshape(atoms, -1).max(1))
    if (largest <= 0).any():
        i = int(np.argmax(largest <= 0))
        raise ContentError(
            f"crystal {i} ({crystals.formulas[i]}): the dos is zero everywhere; leave out crystals without labels"
        )
