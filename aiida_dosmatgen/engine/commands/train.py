"""``dosmatgen train``: a denoiser, a classifier, a predictor or a force field from labelled crystals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ... import __version__
from ...core.checkpoint_header import CheckpointHeader, TrainingHeader
from ...core.crystals import CrystalSet
from ...core.dos import DEFAULT_GRID, DEFAULT_SIGMA
from ...core.errors import ContentError
from ...core.job import Results, TrainJob, TrainParameters, sha256_of
from . import Clock, Progress, prepare, results

_ARCHITECTURE = {
    "denoiser": {"width", "layers", "frequencies"},
    "classifier": {"width", "layers", "frequencies"},
    "predictor": {"width", "layers", "members"},
}
"""The sizes that each kind of model has."""

_TIGHT_BINDING_STATE = "tight-binding-state.safetensors"


def kept(job: TrainJob) -> list[str]:
    """Name what the trainers keep after each epoch."""
    from ..training.forcefield import WORK_FOLDER
    from ..training.loop import STATE_FILE

    if job.parameters.model == "forcefield":
        return [WORK_FOLDER]
    return [STATE_FILE, _TIGHT_BINDING_STATE] if job.parameters.model == "predictor" else [STATE_FILE]


def run(job: TrainJob, folder: Path) -> Results:
    """Train a model; a job that was stopped is taken up where it stopped, if its folder still has its state.

    :raises ContentError: if data set, parent and parameters do not fit together.
    """
    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    if job.parameters.model == "forcefield":
        return _train_force_field(job, folder, clock, device)
    return _train_network(job, folder, clock, device)


def _train_network(job: TrainJob, folder: Path, clock: Clock, device: Any) -> Results:
    import torch
    from torch_geometric.loader import DataLoader

    from ..checkpoint import build_model, load_model, save_model
    from ..training.dataset import LabelledDataset, load_labelled, with_formation_energies
    from ..training.loop import Schedule, Trainer
    from ..training.splits import split_by_system, without_test

    parameters, dataset_sha256 = job.parameters, _hash(folder / job.dataset, "data set")
    if job.pseudolabelled is not None and parameters.model != "denoiser":
        raise ContentError(f"pseudolabelled: only a denoiser learns from predicted curves; a {parameters.model} does not")
    crystals, n_test = without_test(load_labelled(folder / job.dataset))
    crystals = with_formation_energies(crystals)
    training, held_out = split_by_system(crystals, parameters.validation_fraction, job.seed)
    parent_sha256 = None if job.parent is None else _hash(folder / job.parent, "parent")
    pseudolabelled_sha256 = None if job.pseudolabelled is None else _hash(folder / job.pseudolabelled, "pseudo-labelled set")
    header = _header(job, crystals, len(training), dataset_sha256, parent_sha256, pseudolabelled_sha256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        if job.parent is None:
            model = build_model(header)
        else:
            model, parent = load_model(folder / job.parent)
            header = _inherit(header, parent)
    passes = parameters.tight_binding_epochs if parameters.model == "predictor" and job.parent is None else 0
    fitted = 0
    if parameters.model == "predictor":
        predictor: Any = model
        if passes:
            fitted = _fit_tight_binding(predictor, crystals[training], crystals[held_out], job, header, folder, clock)
        crystals = crystals.with_columns(atom={"tight_binding": predictor.tight_binding.curves(crystals)})
    sets = [LabelledDataset(crystals[indices], header.elements) for indices in (training, held_out) if len(indices)]
    objective = _objective(parameters, model, sets[0], scale=job.parent is None)
    if job.pseudolabelled is not None:
        sets[0] = LabelledDataset(_with_pseudolabels(job, folder, crystals[training], crystals[held_out]), header.elements)
    schedule = Schedule(**{k: getattr(parameters, k) for k in Schedule.__dataclass_fields__})
    trainer = Trainer(
        model.train(),
        objective,
        sets[0],
        sets[1] if len(sets) > 1 else None,
        schedule,
        seed=job.seed,
        folder=folder,
        fingerprint=json.dumps([header.model_dump_json(), __version__, torch.__version__]),
        device=device,
    )
    progress = Progress("epochs", parameters.epochs)
    # without the whole fit there is nothing to train on yet; what is kept is the fit so far
    history = folder / job.history
    outcome = trainer.run(clock.allows, progress, history) if fitted == passes else trainer.untrained(history)
    if outcome.finished:
        (folder / _TIGHT_BINDING_STATE).unlink(missing_ok=True)
    metrics: dict[str, Any] = {k: v for k, v in outcome.metrics.items() if math.isfinite(v)}
    metrics |= {"n_held_out": len(held_out), "n_test": n_test}
    if parameters.model == "predictor":
        unseen = DataLoader(sets[1], batch_size=64) if len(sets) > 1 else []
        metrics |= objective.calibrate(outcome.model, (batch.to(device) for batch in unseen))
    header = header.model_copy(
        update={"metrics": metrics, "training": header.training.model_copy(update={"epochs": outcome.best_epoch})}
    )
    save_model(folder / job.output, outcome.model, header)
    details = {
        "model": parameters.model,
        "dataset_sha256": dataset_sha256,
        "seed": job.seed,
        "best_epoch": outcome.best_epoch,
        "metrics": metrics,
        "parent_sha256": parent_sha256,
        "pseudolabelled_sha256": pseudolabelled_sha256,
    }
    return results(
        job, folder, clock, output=job.output, done=fitted + outcome.epochs, of=passes + parameters.epochs,
        device=device, finished=outcome.finished, details=details,
    )  # fmt: skip


def _with_pseudolabels(job: TrainJob, folder: Path, labelled: CrystalSet, held_out: CrystalSet) -> CrystalSet:
    from ..training.dataset import load_labelled
    from ..training.pseudolabels import joined
    from ..training.splits import without_test

    assert job.pseudolabelled is not None
    return joined(labelled, without_test(load_labelled(folder / job.pseudolabelled))[0], held_out, job.seed)


def _fit_tight_binding(
    predictor: Any,
    training: CrystalSet,
    held_out: CrystalSet,
    job: TrainJob,
    header: CheckpointHeader,
    folder: Path,
    clock: Clock,
) -> int:
    """Fit the tight binding of a predictor, as the first part of its training, and return how many passes are done."""
    import torch

    from ..prediction.tightbinding import TightBindingObjective
    from ..training.dataset import LabelledDataset
    from ..training.loop import Schedule, Trainer

    epochs = job.parameters.tight_binding_epochs
    part = predictor.tight_binding
    trainer = Trainer(
        part.requires_grad_(True),
        TightBindingObjective(),
        LabelledDataset(training, header.elements),
        LabelledDataset(held_out, header.elements) if len(held_out) else None,
        Schedule(epochs, batch_size=16, learning_rate=0.01, ema=0.99),
        seed=job.seed,
        folder=folder,
        fingerprint=json.dumps(["tight binding", header.model_dump_json(), __version__, torch.__version__]),
        state_file=_TIGHT_BINDING_STATE,
        keep_state=True,
    )
    outcome = trainer.run(clock.allows, Progress("epochs of tight binding", epochs))
    part.load_state_dict(outcome.model.state_dict())
    part.requires_grad_(False)
    return outcome.epochs


def _header(
    job: TrainJob,
    crystals: CrystalSet,
    n_crystals: int,
    dataset_sha256: str,
    parent_sha256: str | None,
    pseudolabelled_sha256: str | None,
) -> CheckpointHeader:
    from ..training.dataset import vocabulary

    kind = job.parameters.model
    assert kind != "forcefield"
    architecture = job.parameters.architecture.model_dump(include=_ARCHITECTURE[kind])
    if kind == "denoiser":
        architecture |= {"max_atoms": int(crystals.n_atoms.max()), "n_curves": n_crystals}
    return CheckpointHeader(
        kind=kind,
        architecture=architecture,
        elements=vocabulary(crystals),
        grid=DEFAULT_GRID,
        sigma=DEFAULT_SIGMA,
        training=TrainingHeader(
            dataset_sha256=dataset_sha256,
            n_crystals=n_crystals,
            seed=job.seed,
            epochs=0,
            parameters=job.parameters.model_dump(mode="json"),
            parent_sha256=parent_sha256,
            pseudolabelled_sha256=pseudolabelled_sha256,
        ),
        engine_version=__version__,
    )


def _inherit(header: CheckpointHeader, parent: CheckpointHeader) -> CheckpointHeader:
    """Return the header of a model that starts from a parent: its sizes, its elements and its curves.

    :raises ContentError: if the parent is of another kind, lacks an element, or is for smaller crystals.
    """
    if parent.kind != header.kind:
        raise ContentError(f"parent: the checkpoint is a {parent.kind}, but a {header.kind} is to be trained")
    unknown = [symbol for symbol in header.elements if symbol not in parent.elements]
    if unknown:
        raise ContentError(
            f"parent: the checkpoint knows {' '.join(parent.elements)}, but the data set contains {' '.join(unknown)}; "
            "leave those crystals out, or train without a parent"
        )
    largest, known = header.architecture.get("max_atoms", 0), parent.architecture.get("max_atoms", math.inf)
    if largest > known:
        raise ContentError(
            f"parent: the checkpoint knows crystals of up to {known} atoms, but the data set has one of {largest}; "
            "leave such crystals out, or train without a parent"
        )
    return header.model_copy(
        update={"architecture": parent.architecture, "elements": parent.elements, "grid": parent.grid, "sigma": parent.sigma}
    )


def _objective(parameters: TrainParameters, model: Any, dataset: Any, scale: bool) -> Any:
    """Return what is minimised; a new model takes its scalers from the data set, one with a parent keeps the parent's."""
    from torch_geometric.loader import DataLoader

    from ..training.dataset import to_dense

    if parameters.model == "predictor":
        from ..prediction.predictors import PredictorObjective

        if scale:
            model.set_scalers(dataset, DEFAULT_GRID)
        return PredictorObjective(DEFAULT_GRID)
    if scale:
        model.fit_statistics(to_dense(batch) for batch in DataLoader(dataset, batch_size=256))
    if parameters.model == "classifier":
        from ..prediction.classifier import ClassifierObjective

        return ClassifierObjective()
    from ..diffusion.conditioning import Dropout
    from ..training.denoiser import DenoiserObjective

    return DenoiserObjective(Dropout(parameters.drop_crystal, parameters.drop_site, parameters.total_only))


def _train_force_field(job: TrainJob, folder: Path, clock: Clock, device: Any) -> Results:
    from ..training.dataset import load_labelled
    from ..training.forcefield import train_force_field
    from ..training.splits import without_test

    if job.pseudolabelled is not None:
        raise ContentError("pseudolabelled: only a denoiser learns from predicted curves; a force field does not")
    if job.parent is not None:
        raise ContentError("parent: a force field is trained from scratch; leave the parent out")
    if Path(job.output).suffix == ".safetensors":
        raise ContentError(f"output: a force field is a MACE file, not {job.output}; give e.g. 'forcefield.model'")
    dataset_sha256 = _hash(folder / job.dataset, "data set")
    crystals, n_test = without_test(load_labelled(folder / job.dataset))
    outcome = train_force_field(
        crystals, job.parameters, job.seed, folder, folder / job.output, folder / job.history,
        device=str(device), clock=clock, progress=Progress("epochs", job.parameters.epochs),
    )  # fmt: skip
    details = {
        "model": "forcefield",
        "dataset_sha256": dataset_sha256,
        "seed": job.seed,
        "best_epoch": outcome.best_epoch,
        "metrics": outcome.metrics | {"n_test": n_test},
        "parent_sha256": None,
    }
    return results(
        job, folder, clock, output=job.output, done=outcome.epochs, of=job.parameters.epochs,
        device=device, finished=outcome.finished, details=details,
    )  # fmt: skip


def _hash(path: Path, what: str) -> str:
    try:
        return sha256_of(path)
    except OSError:
        raise ContentError(f"the {what} {path} does not exist or cannot be read") from None
