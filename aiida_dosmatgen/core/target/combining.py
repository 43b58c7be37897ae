"""One target of several, each for sites of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ContentError
from .target import DosTarget


def combined(
    parts: Iterable[tuple[DosTarget, Sequence[int] | None]], n_atoms: int | None, names: Sequence[str] | None
) -> DosTarget:
    """Join targets into one; see :meth:`.DosTarget.combine`."""
    placed: list[DosTarget] = []
    owner: dict[int, str] = {}
    for i, (target, sites) in enumerate(parts):
        name = str(i) if names is None else names[i]
        if sites is None and target.sites is None:
            raise ContentError(f"target {name} of those to combine does not say for which sites it is; give them")
        try:
            placed.append(target.at(target.atoms if sites is None else sites, n_atoms))
        except ContentError as exception:
            raise ContentError(f"target {name} of those to combine: {exception}") from None
        for site in placed[-1].atoms:
            if site in owner:
                raise ContentError(f"targets {owner[site]} and {name} of those to combine are both for site {site}")
            owner[site] = name
    if not placed:
        raise ContentError("there are no targets to combine; give at least one, with its sites")
    sigma = max((target.sigma for target in placed if target.sigma is not None), default=None)
    several = [target.dos.summed() if sigma is None else target.dos.summed().broadened(sigma) for target in placed]
    several = [dos.on(several[0].energies) for dos in several]
    joined = dataclasses.replace(
        several[0],
        values=np.concatenate([dos.values for dos in several]),
        low=max(dos.low for dos in several),
        high=min(dos.high for dos in several),
        gap=None,
        n_electrons=None,
        projected=None,
        meaning="partition" if all(dos.meaning == "partition" for dos in several) else "projections",
    )
    wishes = dict.fromkeys(one for target in placed for one in target.wishes)
    return DosTarget(joined, "sites", n_atoms, sites=tuple(owner), wishes=wishes)
