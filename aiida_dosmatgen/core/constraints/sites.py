"""What holds for some atoms of a candidate, as a job states it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ..elements import atomic_number
from ..errors import ContentError
from ..strict import Strict

Finite = Annotated[float, Field(allow_inf_nan=False)]
Vector = tuple[Finite, Finite, Finite]


def _symbol(text: str) -> str:
    atomic_number(text)
    return text


def _element(text: str) -> str:
    return text if text == "template" else _symbol(text)


Symbol = Annotated[str, AfterValidator(_symbol)]
Symbols = Annotated[list[Symbol], Field(min_length=1)]
Index = Annotated[int, Field(ge=0)]


class SiteConstraint(Strict):
    """What holds for some atoms of a candidate.

    :param sites: indices of the atoms, from 0.
    :param element: chemical symbol that each of them has, or ``template`` for those that they have there.
    :param allowed: symbols of which each has one.
    :param forbidden: symbols that none has.
    :param coordinates: fractional coordinates, one for each site, or ``template`` for those that they have there.
    """

    sites: Annotated[list[Index], Field(min_length=1)] | Literal["all"]
    element: Annotated[str, AfterValidator(_element)] | None = None
    allowed: Symbols | None = None
    forbidden: Symbols | None = None
    coordinates: list[Vector] | Literal["template"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SiteConstraint:
        if self.element is None and self.allowed is None and self.forbidden is None and self.coordinates is None:
            raise ContentError("nothing is constrained; give element, allowed, forbidden or coordinates")
        if self.sites == "all":
            return self
        twice = [i for n, i in enumerate(self.sites) if i in self.sites[:n]]
        if twice:
            raise ContentError(f"sites has atom {twice[0]} twice; name each atom once")
        if isinstance(self.coordinates, list) and len(self.coordinates) != len(self.sites):
            raise ContentError(f"sites has {len(self.sites)} atoms, but coordinates has {len(self.coordinates)} rows")
        return self
