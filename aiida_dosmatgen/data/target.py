"""The target density of states as a node."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..core.curve_columns import curves_of, with_energies
from ..core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from ..core.errors import ContentError
from ..core.paths import user_path
from ..core.target import DosTarget
from ..core.target.files import read_target, target_of_complete_dos
from ..core.target.wish_text import wishes_of
from ..core.target.wishes import Wish
from .base import ContentFileData, as_validation_error, attribute, saved
from .pdos import pdos_nodes, target_of

if TYPE_CHECKING:
    import pymatgen.electronic_structure.dos
    from aiida.orm import WorkChainNode

    from .crystals import CrystalSetData


class DosTargetData(ContentFileData):
    """A :class:`~aiida_dosmatgen.core.target.DosTarget`: curves for all sites or for chosen ones, one total curve, or wishes.

    :param file: a ``DosTarget``, or the path or stream of an ``npz`` file that holds one.
    :param label_source: where the curves come from, in words.
    :param reading: what was made of the file that the curves come from, in one line.
    :raises ValidationError: for a file of another kind.
    """

    DEFAULT_FILENAME = "target.npz"

    class AttributesModel(ContentFileData.AttributesModel):
        kind: str = attribute("kind", "'sites' or 'total'")
        n_sites: int = attribute("n_sites", "number of curves")
        sites: list[int] | None = attribute("sites", "the chosen atoms that the curves are for; None if none are chosen", None)
        n_atoms: int | None = attribute("n_atoms", "atoms of a candidate, if known", None)
        complete_below: float | None = attribute("complete_below", "the former name of high; None: all of its energies", None)
        low: float | None = attribute("low", "eV from which the curves are known", None)
        high: float | None = attribute("high", "eV up to which the curves are known", None)
        sigma: float | None = attribute("sigma", "broadening of the curves in eV, if known", None)
        zero: str | None = attribute("zero", "what energy zero is: 'vbm' or 'fermi', if known", None)
        gap: float | None = attribute("gap", "band gap in eV, if known", None)
        meaning: str | None = attribute("meaning", "what site curves hold: 'partition' or 'projections'", None)
        projected: float | None = attribute("projected", "share of the occupied states that the projectors saw", None)
        wishes: list[str] | None = attribute("wishes", "what is asked for besides the curves, as text; None: nothing", None)
        wish_kinds: list[str] | None = attribute("wish_kinds", "the kinds of the wishes: 'gap', 'states', …", None)
        only_wishes: bool | None = attribute("only_wishes", "whether the curve was made from the wishes; None: no wishes", None)
        label_source: str | None = attribute("label_source", "where the curves come from", None)
        reading: str | None = attribute("reading", "what was made of the file that the curves come from, in one line", None)

    def __init__(
        self,
        file: DosTarget | str | Path | BinaryIO | None = None,
        *,
        label_source: str | None = None,
        reading: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(saved(file) if isinstance(file, DosTarget) else file, **kwargs)
        for name, value in (("label_source", label_source), ("reading", reading)):
            if value is not None:
                self.base.attributes.set(name, value)

    @classmethod
    def describe(cls, path: Path) -> dict[str, Any]:
        """Return the attributes of a target file."""
        target = DosTarget.load(path)
        wishes = {
            "wishes": [str(one) for one in target.wishes],
            "wish_kinds": sorted({one.kind for one in target.wishes}),
            "only_wishes": target.only_wishes,
        }
        return {
            **(wishes if target.wishes else {}),
            "kind": target.kind,
            "n_sites": len(target.curves),
            "sites": target.sites,
            "n_atoms": target.n_atoms,
            "complete_below": target.complete_below,  # stored as None if infinite
            **{name: getattr(target.dos, name) for name in ("low", "high", "sigma", "zero", "gap", "meaning", "projected")},
        }

    @property
    def target(self) -> DosTarget:
        """The target itself."""
        with as_validation_error(), self.open(mode="rb") as stream:
            return DosTarget.load(stream)

    @property
    def reading(self) -> str | None:
        """What was made of the file that the curves come from, in one line; None if they come from elsewhere."""
        return self.base.attributes.get("reading", None)

    # --- from what people have ------------------------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> DosTargetData:
        """Make a target from a file or folder of densities of states; :attr:`reading` says what was made of it.

        VASP, Quantum ESPRESSO, tables of any dialect, pymatgen's and emmet's JSON and others are read
        (:mod:`~aiida_dosmatgen.core.curve_files`), and ``npz`` files of targets. What looks wrong is warned of.

        :param options: as in :func:`~aiida_dosmatgen.core.target.files.read_target`: ``n_atoms``, ``per_atom``, ``zero``,
            ``sigma``, ``low``, ``high``, ``gap``, ``meaning``, ``site_indices``, ``grid``.
        :raises ValidationError: naming the line, column or key that is wrong.
        """
        path = user_path(path)
        with as_validation_error():
            read = read_target(path, **options)
        for warning in read.warnings:
            warnings.warn(f"{path.name}: {warning}", stacklevel=2)
        return cls(path if path.suffix == ".npz" else read.target, label_source=path.name, reading=read.said)

    @classmethod
    def from_wishes(cls, wishes: Iterable[Wish | str | Mapping[str, Any]], n_atoms: int | None = None) -> DosTargetData:
        """Make a target of wishes, such as ``gap >= 1.5``, without a curve of its own.

        For wishes besides the curve of a stored target use the calcfunction
        :func:`~aiida_dosmatgen.calculations.functions.add_wishes`.

        :param wishes: texts, or their JSON values.
        :param n_atoms: atoms of a candidate; None leaves it open.
        :raises ValidationError: naming the wish that is wrong.
        """
        with as_validation_error():
            target = DosTarget.from_wishes(wishes_of(wishes), n_atoms)
            return cls(target, label_source="; ".join(map(str, target.wishes)))

    @classmethod
    def from_complete_dos(
        cls,
        dos: pymatgen.electronic_structure.dos.CompleteDos,
        sigma: float = DEFAULT_SIGMA,
        grid: EnergyGrid | None = None,
        n_electrons: float | None = None,
    ) -> DosTargetData:
        """Make per-site targets from pymatgen's projected DOS, spins and channels kept.

        Energies are aligned by the valence band maximum of a DOS with a gap and by its Fermi energy otherwise. The sites are
        scaled to the total, which comes from the eigenvalues: what the projectors saw is kept as ``projected``. The curves are
        broadened with a Gaussian like every other curve of this package: give a DOS of small smearing, or ``sigma=0`` for one
        that is broadened already. A mesh of energies that is too coarse for the zero of energy is warned of.

        :param sigma: standard deviation of the broadening in eV.
        :param grid: the energies of the target; by default those of models, or more where the DOS goes further or is sharper.
        :param n_electrons: valence electrons of the cell, if known.
        :raises ValidationError: if there are no projections on sites, the curves are no DOS, or hold too few electrons.
        """
        with as_validation_error():
            read = target_of_complete_dos(dos, sigma, grid, n_electrons)
        for warning in read.warnings:
            warnings.warn(warning, stacklevel=2)
        source = f"pymatgen CompleteDos of {dos.structure.composition.reduced_formula}"
        if read.target.dos.projected is not None:
            source += f", its sites scaled from {read.target.dos.projected:.1%} of the occupied states to all"
        return cls(read.target, label_source=source, reading=read.said)

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
            if "dos" not in crystals.atom_columns or not {"complete_below", "high"} & set(crystals.crystal_columns):
                raise ContentError("the crystals have no columns dos and complete_below; take a labelled set")
            grid = node.base.attributes.get("grid", None)
            crystal = with_energies(crystals[index], EnergyGrid(**grid) if grid else DEFAULT_GRID)
            target = DosTarget(curves_of(crystal))
            return cls(target, label_source=f"crystal {index} ({crystal.formulas[0]}) of the set {node.sha256[:8]}")
