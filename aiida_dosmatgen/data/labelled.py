"""Labelled crystals: what models are trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.crystals import CrystalSet
from ..core.dft.bands import CHANNELS
from ..core.dos import DEFAULT_GRID, EnergyGrid
from ..core.errors import ContentError
from ..core.files.mpdos import read_records
from .base import as_validation_error, attribute
from .crystals import CrystalSetData, file_header, read_with_ase


class LabelledCrystalSetData(CrystalSetData):
    """Crystals with their per-atom DOS, and with energies and forces where the labels have them.

    Columns: ``dos`` (states/eV, relative to the highest occupied level) for each atom and ``complete_below`` (eV) for each
    crystal are required; ``energy`` (eV), ``forces`` (eV/Å) and ``stress`` (eV/Å³) come together or not at all, as in public
    DOS data sets.

    :param grid: the energies of ``dos``; by default what the file says, or −10 … 10 eV with 400 points.
    :param card: how the labels were made (code, settings, counts), JSON values.
    :raises ValidationError: naming the column or the first crystal that is wrong.
    """

    class AttributesModel(CrystalSetData.AttributesModel):
        grid: dict[str, float] = attribute("grid", "emin and emax (eV) and n of the energies of the DOS")
        card: dict[str, Any] = attribute("card", "how the labels were made")
        has_energies: bool = attribute("has_energies", "whether the crystals have energies and forces")

    def __init__(
        self,
        file: CrystalSet | str | Path | BinaryIO | None = None,
        *,
        grid: EnergyGrid | None = None,
        card: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(file, CrystalSet):
            header = {"grid": dataclasses.asdict(grid or DEFAULT_GRID), "card": dict(card or {})}
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
            grid = EnergyGrid(**header["grid"]) if header.get("grid") else DEFAULT_GRID
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
    def grid(self) -> EnergyGrid:
        """The energies of the DOS."""
        return EnergyGrid(**self.base.attributes.get("grid"))

    @classmethod
    def from_file(cls, path: str | Path, **kwargs: Any) -> LabelledCrystalSetData:
        """Make a node from an ``npz`` file of labelled crystals, or from an extxyz file with the arrays ``dos`` and ``forces``.

        :raises ValidationError: for a truncated or foreign file, and for missing or bad labels.
        """
        path = Path(path).expanduser()
        if path.suffix == ".npz":
            return cls(path, **kwargs)
        with as_validation_error():
            return cls(_labels_of_frames(path), **kwargs)

    @classmethod
    def from_mp_dos(cls, paths: str | Path | Iterable[str | Path], **kwargs: Any) -> LabelledCrystalSetData:
        """Make a node from the public MP-DOS json records, which have a DOS but no energies.

        :raises ValidationError: naming the file and the record that is wrong.
        """
        with as_validation_error():
            return cls(read_records(paths), **{"card": {"origin": "MP-DOS records"}, **kwargs})


def check_labels(crystals: CrystalSet, grid: EnergyGrid) -> None:
    """Check that crystals have labels that can be trained on.

    :raises ContentError: naming the column, and the first crystal if the values are wrong.
    """
    if not len(crystals):
        raise ContentError("there are no crystals in the set")
    n, atoms = len(crystals), len(crystals.numbers)
    required: dict[str, tuple[int, ...]] = {"dos": (atoms, grid.n), "complete_below": (n,)}
    if "dos_low" in crystals.crystal_columns:  # curves that say all of themselves
        required = {"dos": crystals.atom_columns.get("dos", np.zeros((atoms, 2, len(CHANNELS), grid.n))).shape, "high": (n,)}
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
        good = ~np.isnan(values) if name == "complete_below" else np.isfinite(values)
        if name == "dos":
            good &= values >= -1e-6 * max(float(np.nanmax(values)), 1e-300)
        rows = good.reshape(len(good), -1).all(1)
        if not rows.all():
            row = int(np.argmin(rows))
            i = int(crystals.crystal_of_atom[row]) if name in crystals.atom_columns else row
            what = "negative or not finite" if name == "dos" else "not finite"
            raise ContentError(f"crystal {i} ({crystals.formulas[i]}): {name} is {what}; leave out crystals without labels")


def _labels_of_frames(path: Path) -> CrystalSet:
    """Read labels with ASE: arrays ``dos``, info ``complete_below``, and the energy, forces and stress of its calculator."""
    import ase.io

    crystals = read_with_ase(path)
    frames = ase.io.read(path, index=":")
    if any("dos" not in f.arrays for f in frames):
        first = next(i for i, f in enumerate(frames) if "dos" not in f.arrays)
        raise ContentError(f"{path}, crystal {first}: no array 'dos'; labelled crystals need a DOS for each atom")
    crystal: dict[str, Any] = {"complete_below": np.array([float(f.info.get("complete_below", np.inf)) for f in frames])}
    atom: dict[str, Any] = {"dos": np.concatenate([np.asarray(f.arrays["dos"], np.float32) for f in frames])}
    results = [f.calc.results if f.calc is not None else {} for f in frames]
    if all("energy" in r and "forces" in r for r in results):
        crystal["energy"] = np.array([r["energy"] for r in results], float)
        atom["forces"] = np.concatenate([r["forces"] for r in results])
        if all("stress" in r for r in results):
            crystal["stress"] = np.stack([f.get_stress(voigt=False) for f in frames])
    return crystals.with_columns(crystal, atom)
