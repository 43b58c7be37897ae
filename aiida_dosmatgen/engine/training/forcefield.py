"""A small MACE force field from labelled crystals, by mace-torch's own trainer.

The trainer runs as a process of its own (:mod:`.mace`) in a folder below the job's.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.files.replacing import replacing
from ...core.job import TrainParameters
from ...core.labelled.splits import split_by_system
from ...core.thermo import elemental_references, formation_energy
from .mace import NAME, Clock, best_epoch, checkpoints, lacked_memory, last_line, nothing_left, read_history, trainer, watch

logger = logging.getLogger(__name__)

WORK_FOLDER = "mace"

_CUTOFF = 5.0  # Å

_SECOND_STAGE = 0.6  # share of the epochs after which energies weigh more

_HIGHEST_ENERGY = 10.0
"""eV/atom above the elements. Crystals beyond are squeezed to thousands of GPa; no relaxation comes near them, and a small
model that tries to fit them loses accuracy where it matters."""


@dataclasses.dataclass(frozen=True)
class ForceFieldOutcome:
    """What a training leaves, besides the model file.

    :param best_epoch: epoch whose weights the model has, counted from one; the last one if those are to be kept.
    :param epochs: epochs done.
    :param finished: False if time ran out.
    :param metrics: errors on the held-out crystals.
    :param history: one list for each recorded quantity; the loss weighs its parts anew from the second stage on.
    """

    best_epoch: int
    epochs: int
    finished: bool
    metrics: dict[str, float]
    history: dict[str, list]


def train_force_field(
    crystals: CrystalSet,
    parameters: TrainParameters,
    seed: int,
    folder: Path,
    output: Path,
    history_path: Path,
    *,
    device: str = "cpu",
    clock: Clock,
    progress: Callable[[int, str], None] = lambda done, note: None,
) -> ForceFieldOutcome:
    """Train a ScaleShiftMACE on energies, forces and stresses, with screened nuclear repulsion (ZBL) at short distances.

    ``architecture.width`` is the number of scalar channels, ``architecture.layers`` the number of interactions. Crystals that
    are far above their elements in energy are left out. Forces and stresses lead in the first stage; in the second, the last
    two fifths of the epochs, energies weigh more and the learning rate is constant and small. ``patience`` ends the first
    stage, then the training. The model is of the second stage, if the training has reached it.

    :param crystals: with the columns ``energy`` (eV), ``stress`` (eV/Å³) and ``forces`` (eV/Å).
    :param folder: where the trainer works, in :data:`WORK_FOLDER`; the folder of a stopped training is taken up, and removed
        at the end of a finished one.
    :param output: file for the model, as :class:`mace.calculators.MACECalculator` reads it.
    :raises ContentError: if labels are missing or the trainer fails.
    """
    crystals = _trainable(crystals)
    training, held_out = split_by_system(crystals, parameters.validation_fraction, seed)
    # the trainer leaves out a last batch that is not full
    parameters = parameters.model_copy(update={"batch_size": min(parameters.batch_size, len(training))})
    work = folder / WORK_FOLDER
    work.mkdir(exist_ok=True)
    _write_frames(crystals[training], work / "training.xyz")
    _write_frames(crystals[held_out] if len(held_out) else crystals[training], work / "validation.xyz")
    record = work / "results" / f"{NAME}_run-{seed}_train.txt"
    while True:
        arguments = _arguments(parameters, seed, torch.device(device).type)
        with trainer(arguments, work, torch.device(device).index) as process:
            stopped = watch(process, record, work, clock, progress)
        if stopped or process.returncode == 0 or parameters.batch_size == 1 or not lacked_memory(work / "trainer.log"):
            break
        half = (parameters.batch_size + 1) // 2
        logger.warning("out of memory with %d crystals at a time; continuing with %d", parameters.batch_size, half)
        parameters = parameters.model_copy(update={"batch_size": half})
    if stopped:  # the trainer writes the model when it has nothing left to do
        with trainer(nothing_left(arguments, work), work, torch.device(device).index) as process:
            process.wait()
    model = work / f"{NAME}{'_stagetwo' if checkpoints(work, second=True) else ''}.model"
    if process.returncode != 0 or not model.is_file():
        raise ContentError(f"mace failed: {last_line(work / 'trainer.log')}; see {work / 'trainer.log'}")
    with replacing(output) as partial:
        shutil.copyfile(model, partial)
    history = read_history(record)
    _write_json(history_path, history)
    best = history["epoch"].index(best_epoch(work))
    metrics = {key: history[f"validation_{key}"][best] for key in ("energy_mae", "force_mae", "stress_mae")}
    outcome = ForceFieldOutcome(
        best_epoch=history["epoch"][best],
        epochs=history["epoch"][-1],
        finished=not stopped,
        metrics={**metrics, "n_held_out": len(held_out), "n_crystals": len(training)},
        history=history,
    )
    if outcome.finished:
        shutil.rmtree(work, ignore_errors=True)
    return outcome


def _trainable(crystals: CrystalSet) -> CrystalSet:
    for name, columns in (
        ("energy", crystals.crystal_columns),
        ("stress", crystals.crystal_columns),
        ("forces", crystals.atom_columns),
    ):
        if name not in columns:
            raise ContentError(
                f"the crystals have no column {name!r}; a force field is trained on energies, forces and stresses"
            )
    energies, stress = crystals.crystal_columns["energy"], crystals.crystal_columns["stress"]
    height = formation_energy(energies, crystals, elemental_references(crystals))
    finite = np.isfinite(energies) & np.isfinite(stress).all((1, 2))
    np.logical_and.at(finite, crystals.crystal_of_atom, np.isfinite(crystals.atom_columns["forces"]).all(-1))
    chosen = np.flatnonzero(finite & ~(height > _HIGHEST_ENERGY))
    if len(chosen) < 2:
        raise ContentError(
            f"{len(chosen)} of {len(crystals)} crystals have finite energies, forces and stresses; at least 2 are needed"
        )
    return crystals[chosen]


def _write_frames(crystals: CrystalSet, path: Path) -> None:
    from ase.io import write

    frames = crystals.to_ase()
    for frame, crystal in zip(frames, crystals, strict=True):
        frame.info["REF_energy"] = float(crystal.crystal_columns["energy"][0])
        frame.info["REF_stress"] = crystal.crystal_columns["stress"][0].reshape(9)
        frame.arrays["REF_forces"] = crystal.atom_columns["forces"]
    write(path, frames, format="extxyz")


def _arguments(parameters: TrainParameters, seed: int, device: str) -> list[str]:
    """Return the trainer's arguments.

    Volumes of relaxed crystals come from forces and stresses: with energies that weigh much from the beginning they are lost,
    and with energies that weigh little throughout those stay underfitted even on the crystals trained on.
    """
    size = parameters.architecture
    options = {
        "name": NAME, "seed": seed, "device": device, "work_dir": ".", "default_dtype": "float32",
        "train_file": "training.xyz", "valid_file": "validation.xyz", "E0s": "average",
        "energy_key": "REF_energy", "forces_key": "REF_forces", "stress_key": "REF_stress",
        "model": "ScaleShiftMACE", "hidden_irreps": f"{size.width}x0e", "num_interactions": size.layers,
        "r_max": _CUTOFF, "max_ell": 2, "correlation": 2, "num_radial_basis": 8, "MLP_irreps": "16x0e",
        "loss": "universal", "energy_weight": 1, "forces_weight": 10, "stress_weight": 100, "compute_stress": True,
        "start_swa": max(1, int(_SECOND_STAGE * parameters.epochs)), "swa_lr": 0.1 * parameters.learning_rate,
        "swa_energy_weight": 30, "swa_forces_weight": 10, "swa_stress_weight": 100,
        "error_table": "PerAtomMAE", "ema_decay": parameters.ema, "lr": parameters.learning_rate,
        "weight_decay": parameters.weight_decay, "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": 0.02 ** (1 / max(2, parameters.epochs)),
        "batch_size": parameters.batch_size, "valid_batch_size": 4 * parameters.batch_size,
        "patience": parameters.patience or parameters.epochs + 1, "max_num_epochs": parameters.epochs,
        "plot": False, "pin_memory": False,
    }  # fmt: skip
    # without --keep_checkpoints it removes a checkpoint before it writes the next, and has none if it is stopped between
    flags = ["--swa", "--pair_repulsion", "--ema", "--amsgrad", "--save_cpu", "--restart_latest", "--keep_checkpoints"]
    if parameters.keep == "last":  # its model has the weights of its last checkpoint
        flags.append("--save_all_checkpoints")
    return [*flags, *(text for key, value in options.items() for text in (f"--{key}", str(value)))]


def _write_json(path: Path, content: dict) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")
