"""The target density of states as a node."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid, gaussian_dos
from ..core.errors import ContentError
from ..core.target import DosTarget
from .base import ContentFileData, as_validation_error, attribute, saved
from .pdos import compared_dos, pdos_nodes, target_of

if TYPE_CHECKING:
    import pymatgen.electronic_structure.dos
    from aiida.orm import WorkChainNode

    from .crystals import CrystalSetData


class DosTargetData(ContentFileData):
    """A :class:`~aiida_dosmatgen.core.target.DosTarget`: curves for all sites or for chosen ones, or one total curve.

    :param file: a ``DosTarget``, or the path or stream of an ``npz`` file that holds one.
    :param label_source: where the curves come from, in words.
    :raises ValidationError: for a file of another kind.
    """

    DEFAULT_FILENAME = "target.npz"

    class AttributesModel(ContentFileData.AttributesModel):
        kind: str = attribute("kind", "'sites' or 'total'")
        n_sites: int = attribute("n_sites", "number of curves")
        sites: list[int] | None = attribute("sites", "the chosen atoms that the curves are for; None if none are chosen", None)
        n_atoms: int | None = attribute("n_atoms", "atoms of a candidate, if known", None)
        complete_below: float | None = attribute("complete_below", "eV up to which the curves are compared; None: all", None)
        label_source: str | None = attribute("label_source", "where the curves come from", None)

    def __init__(
        self, file: DosTarget | str | Path | BinaryIO | None = None, *, label_source: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(saved(file) if isinstance(file, DosTarget) else file, **kwargs)
        if label_source is not None:
            self.base.attributes.set("label_source", label_source)

    @classmethod
    def describe(cls, path: Path) -> dict[str, Any]:
        """Return the attributes of a target file."""
        target = DosTarget.load(path)
        return {
            "kind": target.kind,
            "n_sites": len(target.curves),
            "sites": target.sites,
            "n_atoms": target.n_atoms,
            "complete_below": target.complete_below,  # stored as None if infinite
        }

    @property
    def target(self) -> DosTarget:
        """The target itself."""
        with as_validation_error(), self.open(mode="rb") as stream:
            return DosTarget.load(stream)

    # --- from what people have ------------------------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> DosTargetData:
        """Make a target from a CSV, JSON or ``npz`` file.

        :param options: for CSV and JSON, as in :meth:`DosTarget.from_curves`.
        :raises ValidationError: naming the line or key that is wrong.
        """
        path = Path(path).expanduser()
        if path.suffix == ".npz":
            return cls(path, label_source=path.name)
        with as_validation_error():
            try:
                text = path.read_text(encoding="utf-8")
            except FileNotFoundError:
                raise ContentError(f"{path} does not exist") from None
            except UnicodeDecodeError:
                raise ContentError(f"{path} is not a text file; a target is a CSV, JSON or npz file") from None
            return cls(DosTarget.from_text(text, path.name, **options), label_source=path.name)

    @classmethod
    def from_complete_dos(
        cls,
        dos: pymatgen.electronic_structure.dos.CompleteDos,
        sigma: float = DEFAULT_SIGMA,
        gap_tolerance: float = 1e-3,
        grid: EnergyGrid = DEFAULT_GRID,
    ) -> DosTargetData:
        """Make per-site targets from pymatgen's projected DOS: orbitals and spins summed, one curve for each site.

        Energies are aligned by the valence band maximum of a DOS with a gap and by its Fermi energy otherwise. The curves are
        broadened with a Gaussian like every other curve of this package: give a DOS of small smearing, or ``sigma=0`` for one
        that is broadened already.

        :param sigma: standard deviation of the broadening in eV.
        :param gap_tolerance: states/eV below which the DOS counts as zero when the gap is looked for.
        :raises ValidationError: if there are no projections on sites, or the curves are no DOS.
        """
        with as_validation_error():
            if not getattr(dos, "pdos", None):
                raise ContentError("the CompleteDos has no site projections; compute it with a projected DOS")
            energies = np.asarray(dos.energies, float)
            zero = _zero_of(
                energies, np.sum([np.asarray(d, float) for d in dos.densities.values()], axis=0), dos.efermi, gap_tolerance
            )
            curves = np.stack(
                [sum(np.asarray(d, float) for d in dos.get_site_dos(site).densities.values()) for site in dos.structure]
            )
            relative = energies - zero
            if sigma > 0:
                # also refuses NaN and unsorted energies, before they are smeared out
                DosTarget.from_curves(relative, curves, grid=grid)
                curves = gaussian_dos(relative, curves * np.gradient(relative), grid, sigma)
                limit = float(relative[-1]) - 2 * sigma
                target = DosTarget(curves, "sites", None, math.inf if limit >= grid.emax else limit, grid)
            else:
                target = DosTarget.from_curves(relative, curves, grid=grid)
            return cls(target, label_source=f"pymatgen CompleteDos of {dos.structure.composition.reduced_formula}")

    @classmethod
    def from_pdos_workchain(cls, node: WorkChainNode) -> DosTargetData:
        """Make per-site targets from a finished ``PdosWorkChain``, aligned by its highest occupied level.

        For provenance use the calcfunction :func:`~aiida_dosmatgen.calculations.functions.target_from_pdos` instead.

        :raises ValidationError: if outputs are missing or the DOS does not hold the electrons.
        """
        with as_validation_error():
            return cls(target_of(**pdos_nodes(node)), label_source=f"PdosWorkChain {node.uuid}")

    @classmethod
    def from_labelled(cls, node: CrystalSetData, index: int) -> DosTargetData:
        """Make per-site targets from the labels of one crystal of a labelled set.

        For provenance use the calcfunction :func:`~aiida_dosmatgen.calculations.functions.target_from_labelled` instead.

        :raises ValidationError: if there is no such crystal or it has no labels.
        """
        with as_validation_error():
            crystals = node.crystals
            if not 0 <= index < len(crystals):
                raise ContentError(f"there is no crystal {index}; the set has crystals 0 to {len(crystals) - 1}")
            if "dos_low" in crystals.crystal_columns:
                curves, high = compared_dos(crystals[index], "partition")
                return cls(DosTarget(curves, complete_below=high), label_source=f"crystal {index} of {node.uuid}")
            if "dos" not in crystals.atom_columns or "complete_below" not in crystals.crystal_columns:
                raise ContentError("the crystals have no columns dos and complete_below; take a labelled set")
            crystal = crystals[index]
            grid = node.base.attributes.get("grid", None)
            target = DosTarget(
                crystal.atom_columns["dos"],
                complete_below=float(crystal.crystal_columns["complete_below"][0]),
                grid=EnergyGrid(**grid) if grid else DEFAULT_GRID,
            )
            if not math.isfinite(target.complete_below):
                target = dataclasses.replace(target, complete_below=math.inf)
            return cls(target, label_source=f"crystal {index} ({crystal.formulas[0]}) of {node.uuid}")


def _zero_of(energies: np.ndarray, total: np.ndarray, efermi: float, tolerance: float) -> float:
    """Return the Fermi energy of a metal, and the valence band maximum if the Fermi energy lies in a gap, in eV."""
    filled = np.flatnonzero((energies <= efermi) & (total > tolerance))
    if not filled.size:
        raise ContentError(f"the DOS has no states below its Fermi energy of {efermi:g} eV")
    last = int(filled[-1])
    metallic = last + 1 < len(energies) and energies[last + 1] > efermi and total[last + 1] > tolerance
    return float(efermi if metallic else energies[last])
