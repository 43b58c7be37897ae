"""Train a denoiser, a classifier or a predictor: from the files of a job to a checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.loader import DataLoader

from ... import __version__
from ...core.crystals import CrystalSet
from ...core.curve_columns import meaning_of
from ...core.curves import Meaning
from ...core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from ...core.errors import ContentError
from ...core.files.checkpoint_header import (
    CheckpointHeader,
    TrainingHeader,
    open_checkpoint,
    read_header,
    read_training_crystals,
)
from ...core.job import TrainJob, TrainParameters
from ...core.labelled.splits import split_by_system, systems_of, without_test
from ...core.screening.training_crystals import TrainingCrystals
from ..batch import to_dense
from ..checkpoint import build_model, load_model, save_model
from ..diffusion.conditioning import Dropout
from ..effort import effort_of
from ..prediction.predictor import Predictor
from . import tightbinding
from .classifier import ClassifierObjective
from .comparison import comparison
from .dataset import LabelledDataset, hash_of, load_labelled, vocabulary, with_channels, with_formation_energies
from .denoiser import DenoiserObjective
from .growing import fit_new, grown, larger, only_new
from .loop import Objective, Schedule, Trainer
from .predictor import PredictorObjective, prepared
from .pseudolabels import joined

_ARCHITECTURE = {
    "denoiser": {"width", "layers", "frequencies", "stride", "composition"},
    "classifier": {"width", "layers", "frequencies"},
    "predictor": {"width", "layers", "members"},
}
"""The sizes that each kind of model has."""

_STRIDE = 3
"""Of the energies of the default grid, those that are the networks' own where the labels have channels: half of σ apart."""

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
    parameters, dataset_sha256 = job.parameters, hash_of(folder / job.dataset, "data set")
    if job.pseudolabelled is not None and parameters.model != "denoiser":
        raise ContentError(f"pseudolabelled: only a denoiser learns from predicted curves; a {parameters.model} does not")
    start = None if job.parent is None else _header_of_parent(folder / job.parent)
    given = DEFAULT_GRID if parameters.energies is None else EnergyGrid(*parameters.energies)
    about: tuple[EnergyGrid, float, Meaning | None] = (given, DEFAULT_SIGMA, None)
    if start is not None:
        about = (start.grid, start.sigma, start.meaning)
    stride = _stride(parameters, start)
    labelled = load_labelled(folder / job.dataset, *about, resolved=parameters.model == "predictor" or stride > 0)
    crystals, n_test = without_test(labelled)
    crystals = with_formation_energies(crystals)
    if parameters.model != "predictor":
        crystals = with_channels(crystals, stride)
    training, held_out = split_by_system(crystals, parameters.validation_fraction, job.seed)
    choosing, judging = _roles(crystals, held_out, parameters, job.seed)
    parent_sha256 = None if job.parent is None else hash_of(folder / job.parent, "parent")
    pseudolabelled_sha256 = None if job.pseudolabelled is None else hash_of(folder / job.pseudolabelled, "pseudo-labelled set")
    predicted = None
    if job.pseudolabelled is not None:
        predicted = without_test(load_labelled(folder / job.pseudolabelled, *about[:2], resolved=stride > 0))[0]
        predicted = with_channels(predicted, stride)
    header = _header(job, given, crystals, predicted, len(training), dataset_sha256, parent_sha256, pseudolabelled_sha256)
    model: Any
    known, names = 0, set[str]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        if job.parent is None:
            model = build_model(header)
        else:
            model, parent = load_model(folder / job.parent)
            header, known = _inherit(header, parent), len(parent.elements)
            if (header.elements, header.architecture) != (parent.elements, parent.architecture):
                model, names = grown(model, header)
    new = header.elements[known:]
    fingerprint = [header.model_dump_json(), __version__, torch.__version__]
    passes = parameters.tight_binding_epochs if parameters.model == "predictor" and new else 0
    fitted, fit_history = 0, {}
    if parameters.model == "predictor":
        if passes:
            if known:
                only_new(model.tight_binding, known)
            chosen_by = choosing if parameters.keep == "best" else choosing[:0]
            fit = tightbinding.fit(
                model.tight_binding, crystals[training], crystals[chosen_by], passes,
                seed=job.seed, folder=folder, fingerprint=json.dumps(["tight binding", *fingerprint]),
                allows=allows, progress=progress("epochs of tight binding", passes),
            )  # fmt: skip
            fitted, fit_history = fit.epochs, fit.history
        crystals = prepared(crystals, model)
    sets = [
        LabelledDataset(crystals[indices], header.elements, header.grid) for indices in (training, choosing) if len(indices)
    ]
    seen = crystals[training]
    objective: Any = _objective(parameters, model, sets[0], known, names)
    if predicted is not None:
        if meaning_of(predicted) != header.meaning:
            raise ContentError(
                f"pseudolabelled: its curves are {meaning_of(predicted)}, those of the data set {header.meaning}; "
                "predict them by a model that learnt the same"
            )
        seen = joined(crystals[training], predicted, crystals[held_out], job.seed)
        sets[0] = LabelledDataset(seen, header.elements, header.grid)
    trainer = Trainer(
        model.train(),
        objective,
        sets[0],
        sets[1] if len(sets) > 1 else None,
        Schedule(**{k: getattr(parameters, k) for k in Schedule.__dataclass_fields__}),
        seed=job.seed,
        folder=folder,
        fingerprint=json.dumps(fingerprint),
        device=device,
    )
    history = folder / job.history
    # without the whole fit there is nothing to train on yet; what is kept is the fit so far
    outcome = (
        trainer.run(allows, progress("epochs", parameters.epochs), history) if fitted == passes else trainer.untrained(history)
    )
    if outcome.finished:
        (folder / tightbinding.STATE_FILE).unlink(missing_ok=True)
    metrics: dict[str, Any] = {k: v for k, v in outcome.metrics.items() if math.isfinite(v)}
    metrics |= {"n_held_out": len(held_out), "n_test": n_test}
    if isinstance(outcome.model, Predictor):
        unseen = DataLoader(LabelledDataset(crystals[judging], header.elements), batch_size=64) if len(judging) else []
        metrics |= {"n_calibrated_by": len(judging)}
        metrics |= objective.calibrate(outcome.model, (batch.to(device) for batch in unseen))
        if outcome.finished and len(judging):
            metrics |= {"comparison": comparison(outcome.model.eval(), header, crystals[judging]).figures()}
    header = header.model_copy(
        update={"metrics": metrics, "training": header.training.model_copy(update={"epochs": outcome.best_epoch})}
    )
    learnt_from = None
    if outcome.finished:
        learnt_from = _learnt_from(seen, None if job.parent is None else folder / job.parent)
    save_model(folder / job.output, outcome.model, header, learnt_from)
    details = {
        "model": parameters.model,
        "dataset_sha256": dataset_sha256,
        "seed": job.seed,
        "best_epoch": outcome.best_epoch,
        "metrics": metrics,
        "effort": effort_of(fit_history, outcome.history),
        "parent_sha256": parent_sha256,
        "pseudolabelled_sha256": pseudolabelled_sha256,
    }
    return NetworkOutcome(fitted + outcome.epochs, passes + parameters.epochs, outcome.finished, details)


def _learnt_from(seen: CrystalSet, parent: Path | None) -> TrainingCrystals:
    """Return the crystals that a model has seen, and those that its parent has seen."""
    found = TrainingCrystals.of(seen)
    if parent is not None:
        with open_checkpoint(parent) as stream:
            before = read_training_crystals(stream)
        found |= TrainingCrystals.from_bytes(before or b"")
    return found


def _roles(crystals: CrystalSet, held_out: np.ndarray, parameters: TrainParameters, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide what is held out into the crystals that choose the epoch, and those that calibrate a predictor's uncertainty.

    Where the last epoch is kept, nothing is chosen, and all held-out crystals do both: watch the training, and calibrate. Else
    they are divided by chemical systems; if there is one system only, it does both.
    """
    if parameters.model != "predictor" or parameters.keep == "last" or not len(held_out):
        return held_out, held_out
    systems = np.array(systems_of(crystals[held_out]))
    order = sorted(set(systems.tolist()), key=lambda system: hashlib.sha256(f"{seed} judges {system}".encode()).digest())
    judges = np.isin(systems, order[::2])
    return (held_out, held_out) if judges.all() else (held_out[~judges], held_out[judges])


def _objective(parameters: TrainParameters, model: Any, dataset: LabelledDataset, known: int, names: set[str]) -> Objective:
    """Return what is minimised; statistics are taken from the data set, but those of the ``known`` elements from a parent.

    :param names: of the tensors that are larger than the parent's.
    """

    def fit(one: Any) -> None:
        if parameters.model == "predictor":
            one.set_scalers(dataset, DEFAULT_GRID)
        else:
            one.fit_statistics(to_dense(batch) for batch in DataLoader(dataset, batch_size=256))

    if not known:
        fit(model)
    elif known < len(model.elements):
        fit_new(model, names, known, fit)
    if parameters.model == "predictor":
        return PredictorObjective(DEFAULT_GRID)
    if parameters.model == "classifier":
        return ClassifierObjective()
    dropped = parameters.drop_crystal, parameters.drop_site, parameters.total_only, parameters.drop_channels
    return DenoiserObjective(Dropout(*dropped))


def _stride(parameters: TrainParameters, parent: CheckpointHeader | None) -> int:
    """Return the stride of the curves by channel that the network takes, 0 if it takes none."""
    if parameters.model != "denoiser":
        return 0
    return parameters.architecture.stride if parent is None else int(parent.architecture.get("stride", 0))


def _header(
    job: TrainJob,
    grid: EnergyGrid,
    crystals: CrystalSet,
    predicted: CrystalSet | None,
    n_crystals: int,
    dataset_sha256: str,
    parent_sha256: str | None,
    pseudolabelled_sha256: str | None,
) -> CheckpointHeader:
    kind = job.parameters.model
    assert kind != "forcefield"
    architecture = job.parameters.architecture.model_dump(include=_ARCHITECTURE[kind])
    if kind == "predictor" and "resolved" in crystals.atom_columns:
        architecture["stride"] = _STRIDE
    every = [crystals] if predicted is None else [crystals, predicted]
    if kind == "denoiser":
        architecture = {name: value for name, value in architecture.items() if value}
        architecture |= {"max_atoms": max(int(some.n_atoms.max()) for some in every), "n_curves": n_crystals}
    return CheckpointHeader(
        kind=kind,
        architecture=architecture,
        elements=vocabulary(*every),
        grid=grid,
        sigma=DEFAULT_SIGMA,
        meaning=meaning_of(crystals),
        training=TrainingHeader(
            dataset_sha256=dataset_sha256,
            n_crystals=n_crystals,
            seed=job.seed,
            epochs=0,
            parameters=job.parameters.model_dump(mode="json"),
            largest=int(crystals.n_atoms.max()),
            parent_sha256=parent_sha256,
            pseudolabelled_sha256=pseudolabelled_sha256,
        ),
        engine_version=__version__,
    )


def _header_of_parent(path: Path) -> CheckpointHeader:
    hash_of(path, "parent")  # says it where there is none
    return read_header(path)


def _inherit(header: CheckpointHeader, parent: CheckpointHeader) -> CheckpointHeader:
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
