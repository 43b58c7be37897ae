"""The criteria of the screening, and the weights of the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..contacts import MIN_CONTACT
from ..former_names import current_criteria
from ..strict import Strict
from .geometries import RELAXED, UNRELAXED
from .matching import reduced_composition


class RankWeights(Strict):
    """What a candidate's score is made of; the lowest score is the best.

    score = distance · d + formation_energy · max(0, E_f) + relaxation · (0 if converged, else 1), with d the mean absolute
    error of the predicted per-site curves in states/eV/atom, or with wishes what ``core/target/distances.py`` makes of both,
    and E_f the formation energy in eV/atom. Without a target,
    score = E_f + relaxation · (0 if converged, else 1), in eV/atom; a candidate of unknown E_f comes last.

    :param distance: weight of the predicted distance to the target.
    :param formation_energy: per eV/atom above the elements; being more stable than them is no merit for the score.
    :param relaxation: added for a candidate whose relaxation did not converge (only where such candidates are let through).
    """

    distance: float = Field(1.0, ge=0)
    formation_energy: float = Field(0.1, ge=0)
    relaxation: float = Field(0.1, ge=0)


class ScreenCriteria(Strict):
    """What a candidate has to fulfil. The criteria are applied in this order, each to those that are left.

    :param min_contact: smallest accepted distance of two atoms over the sum of their covalent radii.
    :param min_volume_per_atom: in Å³.
    :param max_volume_per_atom: in Å³.
    :param require_converged: whether the relaxation must have converged. If not, candidates that ran out of steps or time
        pass too.
    :param max_formation_energy: largest accepted formation energy in eV/atom with respect to the elements, by the force field;
        None accepts any, also unknown ones.
    :param min_formation_energy: smallest accepted one. No compound is bound as strongly as the default, so a lower energy is
        an error of the force field.
    :param max_hull_distance: largest accepted energy above the hull of the known phases and the elements in eV/atom; None
        accepts any.
    :param geometries: which geometries of a candidate are compared with the target: ``relaxed``, ``unrelaxed``, or both, and
        then the one that is closer to the target counts. Both is what stored criteria without this key mean; the protocols
        give ``relaxed``.
    :param max_relaxation_energy: largest accepted energy of an unrelaxed candidate above its relaxed geometry, in eV/atom by
        the force field; above it only the relaxed geometry counts. None accepts any.
    :param max_predicted_distance: largest accepted distance of the predicted DOS from the target in states/eV/atom; of a target
        with wishes the number by which it is ranked, d above.
    :param max_uncertainty: largest accepted expected error of the predicted DOS in states/eV/atom.
    :param unique: whether of several equal crystals (``matching.py`` says which those are) only the best one is kept.
    :param novel: whether crystals that equal a known one (volumes scaled) are left out.
    :param allowed_elements: chemical symbols that may occur; None allows all.
    :param allowed_formulas: formulas that may occur, e.g. ``GaAs``; multiples of them count as well. None allows all.
    :param rank_by: the weights of the score.
    :param max_ranked: how many candidates are ranked at most. The others are counted, and their curves are not kept.
    """

    min_contact: float = Field(MIN_CONTACT, ge=0)
    min_volume_per_atom: float = Field(2.0, ge=0)
    max_volume_per_atom: float = Field(100.0, gt=0)
    require_converged: bool = True
    max_formation_energy: float | None = 1.0
    min_formation_energy: float = -6.0
    max_hull_distance: float | None = None
    geometries: list[Literal["relaxed", "unrelaxed"]] = Field([RELAXED, UNRELAXED], min_length=1)
    max_relaxation_energy: float | None = Field(None, ge=0)
    max_predicted_distance: float | None = Field(None, gt=0)
    max_uncertainty: float | None = Field(None, gt=0)
    unique: bool = True
    novel: bool = False
    allowed_elements: list[str] | None = None
    allowed_formulas: list[str] | None = None
    rank_by: RankWeights = RankWeights()
    max_ranked: int = Field(500, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _current(cls, criteria: Any) -> Any:
        return current_criteria(criteria) if isinstance(criteria, Mapping) else criteria

    @field_validator("allowed_formulas")
    @classmethod
    def _readable(cls, formulas: list[str] | None) -> list[str] | None:
        for formula in formulas or ():
            reduced_composition(formula)
        return formulas
