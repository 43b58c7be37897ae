"""Jobs that predict densities of states and formation energies."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ..screening.criteria import ScreenCriteria
from .base import Job, Written


class PredictJob(Job):
    """Predict the per-atom DOS and the formation energy of crystals.

    With ``criteria`` and ``references`` sets of more candidates than ``criteria.max_ranked`` are thinned
    (:func:`aiida_dosmatgen.core.screening.thin`): the output then has the best ones only, and ``left_out`` the others.

    :param criteria: what a candidate has to fulfil, as in :class:`~aiida_dosmatgen.core.screening.ScreenCriteria`.
    :param references: energies of the elements in eV/atom, with the force field of the crystals' energies.
    :param target: what candidates are ranked by; None ranks by formation energy.
    :param phases: known phases relaxed with the same force field, for the hull.
    :param known: crystals that are known already.
    """

    kind: Literal["predict"] = "predict"
    checkpoint: str
    crystals: str
    criteria: ScreenCriteria | None = None
    references: dict[str, float] | None = None
    target: str | None = None
    phases: str | None = None
    known: str | None = None
    output: Written = "predicted.npz"
    left_out: Written = "left_out.npz"

    @model_validator(mode="after")
    def _both(self) -> PredictJob:
        if (self.criteria is None) != (self.references is None):
            raise ValueError("criteria and references belong together; give both or neither")
        return self
