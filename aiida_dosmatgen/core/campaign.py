"""The numbers of a campaign, and of the labelling of crystals."""

from __future__ import annotations

from pydantic import Field

from .strict import Strict


class CampaignNumbers(Strict):
    """How many there are of what. Protocols set those that have no default here.

    :param seed: seed of all randomness; another one gives other results.
    :param n_candidates: how many candidates to sample.
    :param n_jobs: how many jobs of each kind share the candidates.
    :param top_k: how many candidates of each target DFT computes; 0 runs no DFT.
    :param max_concurrent: how many targets, and then how many validations, are worked on at a time; when one ends, the next
        begins.
    """

    seed: int = Field(1, ge=0)
    n_candidates: int = Field(ge=1)
    n_jobs: int = Field(1, ge=1)
    top_k: int = Field(ge=0)
    max_concurrent: int = Field(2, ge=1)


class LabelNumbers(Strict):
    """How many there are of what when crystals are labelled.

    :param max_concurrent: how many crystals are computed at a time.
    """

    max_concurrent: int = Field(2, ge=1)
