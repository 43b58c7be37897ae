"""Train a denoiser, a classifier or a predictor: from the files of a job to a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch_geometric.loader import DataLoader

from ... import __version__
from ...core.crystals import CrystalSet
from ...core.dos import DEFAULT_GRID
from ...core.files.checkpoint_header import CheckpointHeader, open_checkpoint, read_training_crystals
from ...core.job import TrainJob, TrainParameters
from ...core.screening.training_crystals import TrainingCrystals
from ..batch import to_dense
from ..checkpoint import build_model, load_model, save_model
from ..diffusion.augmentation import Dropout
from ..effort import effort_of
from ..prediction.predictor import Predictor
from . import tightbinding
from .classifier import ClassifierObjective
from .comparison import comparison
from .data import TrainingData, read_data
from .dataset import LabelledDataset
from .denoiser import DenoiserObjective
from .growing import fit_new, grown, only_new
from .header import inherited, new_header
from .loop import Objective, Outcome, Schedule, Trainer
from .predictor import PredictorObjective, prepared

Progress = Callable[[int, str], None]
"""Called with the epochs done and a note."""


@dataclasses.dataclass(frozen=True)
class NetworkOutcome:
    """What the training of a network leaves, besides checkpoint and history.

    :param done: epochs done, those of the tight-binding fit included.
    :param of: epochs in all.
    :param finished: False if time ran out.
    :param details: what the results of a job hold.
    """

    done: int
    of: int
    finished: bool
    details: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network before its training.

    :param known: how many elements its parent knows, 0 without a parent.
    :param larger: names of the tensors that are larger than the parent's.
    """

    model: Any
    header: CheckpointHeader
    known: int
    larger: set[str]

    @property
    def fingerprint(self) -> list[str]:
        """What the state of a stopped training has to be of."""
        return [self.header.model_dump_json(), __version__, torch.__version__]


@dataclasses.dataclass(frozen=True)
class _TightBindingFit:
    """How far the tight binding of a predictor was fitted, which comes before the training of its network."""

    done: int = 0
    of: int = 0
    history: dict[str, list] = dataclasses.field(default_factory=dict)


def train_network(
    job: TrainJob,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    allows: Callable[[float], bool] = lambda seconds: True,
    progress: Callable[[str, int], Progress] = lambda what, of: lambda done, note: None,
) -> NetworkOutcome:
    """Train the network of a job; a training that was stopped is continued, if its folder still has its state.

    Checkpoint and history are written whenever this returns, to the names that the job gives them.

    :param folder: of the files of the job, and of the state of the training.
    :param allows: says whether something that takes so many seconds still fits into the time.
    :param progress: makes what is called after each epoch, from what is counted and how many there are.
    :raises ContentError: if data set, parent and parameters do not fit together.
    """
    parameters, data = job.parameters, read_data(job, folder)
    network = _begun(job, folder, data)
    fit = _TightBindingFit()
    if parameters.model == "predictor":
        fit = _fit_tight_binding(job, folder, data, network, allows, progress)
        data = dataclasses.replace(data, crystals=prepared(data.crystals, network.model))
    seen = data.seen(job.seed)
    objective, trainer = _trainer(job, folder, data, network, seen, device)
    # without the whole fit there is nothing to train on yet; what is kept is the fit so far
    history = folder / job.history
    whole = fit.done == fit.of
    outcome = trainer.run(allows, progress("epochs", parameters.epochs), history) if whole else trainer.untrained(history)
    if outcome.finished:
        (folder / tightbinding.STATE_FILE).unlink(missing_ok=True)
    metrics = _metrics(outcome, objective, data, network.header, device)
    training = network.header.training.model_copy(update={"epochs": outcome.best_epoch})
    header = network.header.model_copy(update={"metrics": metrics, "training": training})
    learnt_from = None
    if outcome.finished:
        learnt_from = _learnt_from(seen, None if job.parent is None else folder / job.parent)
    save_model(folder / job.output, outcome.model, header, learnt_from)
    details = {
        "model": parameters.model,
        "dataset_sha256": data.dataset_sha256,
        "seed": job.seed,
        "best_epoch": outcome.best_epoch,
        "metrics": metrics,
        "effort": effort_of(fit.history, outcome.history),
        "parent_sha256": data.parent_sha256,
        "pseudolabelled_sha256": data.pseudolabelled_sha256,
    }
    return NetworkOutcome(fit.done + outcome.epochs, fit.of + parameters.epochs, outcome.finished, details)


def _begun(job: TrainJob, folder: Path, data: TrainingData) -> _Network:
    """Return a new network with random weights, or that of the parent, larger where the data ask for it."""
    header = new_header(job, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        if job.parent is None:
            return _Network(build_model(header), header, 0, set())
        model, parent = load_model(folder / job.parent)
        header, names = inherited(header, parent), set[str]()
        if (header.elements, header.architecture) != (parent.elements, parent.architecture):
            model, names = grown(model, header)
        return _Network(model, header, len(parent.elements), names)


def _fit_tight_binding(
    job: TrainJob,
    folder: Path,
    data: TrainingData,
    network: _Network,
    allows: Callable[[float], bool],
    progress: Callable[[str, int], Progress],
) -> _TightBindingFit:
    """Fit the tight binding of a predictor in place, as far as time allows: all of it, or what is new to a parent."""
    epochs = job.parameters.tight_binding_epochs
    if not epochs or not network.header.elements[network.known :]:
        return _TightBindingFit()
    model = network.model.tight_binding
    if network.known:
        only_new(model, network.known)
    validation = data.validation if job.parameters.keep == "best" else data.validation[:0]
    fit = tightbinding.fit(
        model, data.crystals[data.training], data.crystals[validation], epochs,
        seed=job.seed, folder=folder, fingerprint=json.dumps(["tight binding", *network.fingerprint]),
        allows=allows, progress=progress("epochs of tight binding", epochs),
    )  # fmt: skip
    return _TightBindingFit(fit.epochs, epochs, fit.history)


def _trainer(
    job: TrainJob, folder: Path, data: TrainingData, network: _Network, seen: CrystalSet, device: torch.device | str
) -> tuple[Any, Trainer]:
    """Return what is minimised, and what does it.

    :param seen: all crystals that are trained on; statistics are those of the labelled ones.
    """
    header, parameters = network.header, job.parameters
    labelled = LabelledDataset(data.crystals[data.training], header.elements, header.grid)
    validation = data.crystals[data.validation]
    objective = _objective(parameters, network, labelled)
    trainer = Trainer(
        network.model.train(),
        objective,
        labelled if data.predicted is None else LabelledDataset(seen, header.elements, header.grid),
        LabelledDataset(validation, header.elements, header.grid) if len(validation) else None,
        Schedule(**{k: getattr(parameters, k) for k in Schedule.__dataclass_fields__}),
        seed=job.seed,
        folder=folder,
        fingerprint=json.dumps(network.fingerprint),
        device=device,
    )
    return objective, trainer


def _metrics(
    outcome: Outcome, objective: Any, data: TrainingData, header: CheckpointHeader, device: torch.device | str
) -> dict[str, Any]:
    """Return what is known of the network after its training; the uncertainty of a predictor is calibrated in place."""
    metrics: dict[str, Any] = {k: v for k, v in outcome.metrics.items() if math.isfinite(v)}
    metrics |= {"n_held_out": len(data.held_out), "n_test": data.n_test}
    if not isinstance(outcome.model, Predictor):
        return metrics
    unseen, count = data.crystals[data.calibration], len(data.calibration)
    batches = DataLoader(LabelledDataset(unseen, header.elements), batch_size=64) if count else []
    metrics |= {"n_calibrated_by": count}
    metrics |= objective.calibrate(outcome.model, (batch.to(device) for batch in batches))
    if outcome.finished and count:
        metrics |= {"comparison": comparison(outcome.model.eval(), header, unseen).figures()}
    return metrics


def _learnt_from(seen: CrystalSet, parent: Path | None) -> TrainingCrystals:
    """Return the crystals that a model has seen, and those that its parent has seen."""
    found = TrainingCrystals.of(seen)
    if parent is not None:
        with open_checkpoint(parent) as stream:
            before = read_training_crystals(stream)
        found |= TrainingCrystals.from_bytes(before or b"")
    return found


def _objective(parameters: TrainParameters, network: _Network, dataset: LabelledDataset) -> Objective:
    """Return what is minimised; statistics are taken from the data set, but those of the known elements from a parent."""

    def fit(one: Any) -> None:
        if parameters.model == "predictor":
            one.set_scalers(dataset, DEFAULT_GRID)
        else:
            one.fit_statistics(to_dense(batch) for batch in DataLoader(dataset, batch_size=256))

    if not network.known:
        fit(network.model)
    elif network.known < len(network.model.elements):
        fit_new(network.model, network.larger, network.known, fit)
    if parameters.model == "predictor":
        return PredictorObjective(DEFAULT_GRID)
    if parameters.model == "classifier":
        return ClassifierObjective()
    dropped = parameters.drop_crystal, parameters.drop_site, parameters.total_only, parameters.drop_channels
    return DenoiserObjective(Dropout(*dropped))
