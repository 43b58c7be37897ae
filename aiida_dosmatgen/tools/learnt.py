"""Whether crystals of a campaign are among those that its models learnt from, by what the checkpoints themselves keep.

It needs no data set in the profile (:mod:`..core.screening.training_crystals`).
"""

from __future__ import annotations

from collections.abc import Collection

from aiida import orm
from aiida.common import LinkType

from ..core.crystals import CrystalSet
from ..core.screening.training_crystals import TrainingCrystals
from ..data.checkpoint import CheckpointData

KINDS = ("denoiser", "classifier", "predictor")
"""In the order in which they are named: a crystal that the denoiser has seen may be remembered rather than found."""


def learnt_by(campaign: orm.WorkChainNode, compared: Collection[str] = ()) -> dict[str, TrainingCrystals]:
    """Return by their kinds what the models of a campaign learnt from, as far as their checkpoints say it.

    :param compared: sha256 of data sets to which crystals are compared already; models that learnt from these alone are left
        out, for the data sets know better.
    """
    nodes = {}
    for entry in campaign.base.links.get_incoming(node_class=CheckpointData, link_type=LinkType.INPUT_WORK):
        attributes = entry.node.base.attributes
        training = attributes.get("training", None) or {}
        sources = [training.get(key) for key in ("dataset_sha256", "pseudolabelled_sha256", "parent_sha256")]
        if not all(source in compared for source in sources if source is not None):
            nodes[attributes.get("kind", None)] = entry.node
    found = {kind: nodes[kind].training_crystals for kind in KINDS if kind in nodes}
    return {kind: crystals for kind, crystals in found.items() if crystals is not None}


def learnt(crystal: CrystalSet, models: dict[str, TrainingCrystals]) -> str | None:
    """Return the kind of the first model that learnt from a crystal, or None.

    :param models: of :func:`learnt_by`.
    """
    return next((kind for kind, crystals in models.items() if crystals.has(crystal)[0]), None)
