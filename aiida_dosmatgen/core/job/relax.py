"""Jobs that compute with a force field."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..constraints.sites import Symbols
from ..forcefields import problem_of_calculator
from ..strict import Strict
from .base import Job, Written


class ForceField(Strict):
    """A force field: a MACE file, a MACE foundation model by name, or an ASE calculator.

    :param file: path of a MACE model file.
    :param sha256: what the file must hash to; a file that does not, or one without a hash, is refused before it is loaded,
        because loading it runs the code in it.
    :param foundation: name of a MACE foundation model, e.g. ``medium-mpa-0``.
    :param calculator: what returns an ASE calculator when called with ``arguments``: one of
        :data:`~aiida_dosmatgen.core.forcefields.ASE_CALCULATORS`, or the name of an entry point in the group
        ``dosmatgen.calculators``.
    """

    file: str | None = None
    sha256: str | None = None
    foundation: str | None = None
    calculator: str | None = None
    arguments: dict = {}

    @model_validator(mode="after")
    def _one_source(self) -> ForceField:
        if sum(source is not None for source in (self.file, self.foundation, self.calculator)) != 1:
            raise ValueError("give exactly one of file, foundation, calculator")
        problem = None if self.calculator is None else problem_of_calculator(self.calculator)
        if problem:
            raise ValueError(f"calculator: {problem}")
        return self


class RelaxParameters(Strict):
    """What the relaxation computes.

    :param fmax: convergence threshold on forces in eV/Å; the stress must fall below ``smax``.
    :param smax: convergence threshold on stress components in GPa.
    :param max_steps: steps after which a crystal counts as not converged.
    :param max_seconds: seconds of computing, by its share of the atoms that are computed together, after which a crystal is
        given up in one run of the job.
    :param cell: whether the cell is relaxed too.
    :param precision: arithmetic of a MACE model; steps are always taken in float64.
    :param symmetry: tolerance in Å within which the space group of a crystal is found at its start; that is made exact and
        kept. None keeps no symmetry.
    :param symmetrize: largest tolerance in Å within which the space group of a converged crystal is found at its end and made
        exact, its axes laid along those that pw.x knows. If that raises its energy by 1 meV/atom, or its forces and stress
        above the thresholds, two thirds and one third of it are tried; then the crystal stays as it was.
    """

    fmax: float = Field(0.05, gt=0)
    smax: float = Field(0.5, gt=0)
    max_steps: int = Field(300, ge=0)
    max_seconds: float = Field(600, gt=0)
    cell: bool = True
    precision: Literal["float32", "float64"] = "float32"
    symmetry: float | None = Field(None, gt=0)
    symmetrize: float | None = Field(None, gt=0)


class RelaxJob(Job):
    """Relax crystals with a force field."""

    kind: Literal["relax"] = "relax"
    crystals: str
    force_field: ForceField
    parameters: RelaxParameters = RelaxParameters()
    output: Written = "relaxed.npz"

    def input_files(self) -> list[str]:
        """Return the crystals, and the force field if it is a file."""
        return [*super().input_files(), *([] if self.force_field.file is None else [self.force_field.file])]


class ReferencesJob(Job):
    """Relax the elements with a force field, each in several structures: what formation energies refer to.

    :param elements: chemical symbols; those that the force field does not know get no energy.
    """

    kind: Literal["references"] = "references"
    elements: Symbols
    force_field: ForceField
    parameters: RelaxParameters = RelaxParameters()
    output: Written = "references.npz"

    def input_files(self) -> list[str]:
        """Return the force field if it is a file."""
        return [] if self.force_field.file is None else [self.force_field.file]
