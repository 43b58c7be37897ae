"""The header of a checkpoint that is trained: of a new model, and of one that continues a parent."""

from __future__ import annotations

from ... import __version__
from ...core.curve_columns import meaning_of
from ...core.dos import DEFAULT_SIGMA
from ...core.errors import ContentError
from ...core.files.checkpoint_header import CheckpointHeader, TrainingHeader
from ...core.job import TrainJob
from .data import TrainingData
from .dataset import vocabulary
from .growing import larger

_ARCHITECTURE = {
    "denoiser": {"width", "layers", "frequencies", "stride", "composition"},
    "classifier": {"width", "layers", "frequencies"},
    "predictor": {"width", "layers", "members"},
}
"""The sizes that each kind of model has."""

_STRIDE = 3
"""Of the energies of the default grid, those that are the networks' own where the labels have channels: half of σ apart."""


def new_header(job: TrainJob, data: TrainingData) -> CheckpointHeader:
    """Return the header of a model without a parent, before its training."""
    kind, crystals = job.parameters.model, data.crystals
    assert kind != "forcefield"
    architecture = job.parameters.architecture.model_dump(include=_ARCHITECTURE[kind])
    if kind == "predictor" and "resolved" in crystals.atom_columns:
        architecture["stride"] = _STRIDE
    every = [crystals] if data.predicted is None else [crystals, data.predicted]
    if kind == "denoiser":
        architecture = {name: value for name, value in architecture.items() if value}
        architecture |= {"max_atoms": max(int(some.n_atoms.max()) for some in every), "n_curves": len(data.training)}
    return CheckpointHeader(
        kind=kind,
        architecture=architecture,
        elements=vocabulary(*every),
        grid=data.grid,
        sigma=DEFAULT_SIGMA,
        meaning=meaning_of(crystals),
        training=TrainingHeader(
            dataset_sha256=data.dataset_sha256,
            n_crystals=len(data.training),
            seed=job.seed,
            epochs=0,
            parameters=job.parameters.model_dump(mode="json"),
            largest=int(crystals.n_atoms.max()),
            parent_sha256=data.parent_sha256,
            pseudolabelled_sha256=data.pseudolabelled_sha256,
        ),
        engine_version=__version__,
    )


def inherited(header: CheckpointHeader, parent: CheckpointHeader) -> CheckpointHeader:
    """Return the header of a model that starts from a parent: its sizes and curves, and the elements and sizes of both.

    :raises ContentError: if the parent is of another kind, or its curves mean something else.
    """
    if parent.kind != header.kind:
        raise ContentError(f"parent: the checkpoint is a {parent.kind}, but a {header.kind} is to be trained")
    if header.meaning != parent.meaning:
        raise ContentError(
            f"parent: the checkpoint learnt {parent.meaning} of the sites, but the data set holds a {header.meaning}; "
            "give labels with the column projections, or train without a parent"
            if parent.meaning == "projections"
            else f"parent: the checkpoint learnt a {parent.meaning}, but the data set holds {header.meaning}; label it again"
        )
    both = larger(parent, header.elements, header.training.largest)
    sizes = [
        n for n in (header.training.largest, parent.training.largest, parent.architecture.get("max_atoms")) if n is not None
    ]
    return header.model_copy(
        update={
            **{name: getattr(both, name) for name in ("architecture", "elements", "grid", "sigma")},
            "training": header.training.model_copy(update={"largest": max(sizes)}),
        }
    )
