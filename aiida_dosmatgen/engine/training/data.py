"""The data of a training job: what is learnt from, and what is held out for validation and for calibration."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.curve_columns import meaning_of
from ...core.curves import Meaning
from ...core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from ...core.errors import ContentError
from ...core.files.checkpoint_header import CheckpointHeader, read_header
from ...core.job import TrainJob, TrainParameters
from ...core.labelled.splits import split_by_system, systems_of, without_test
from .dataset import hash_of, load_labelled, with_channels, with_formation_energies
from .pseudolabels import joined


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The crystals of a training job. Each kind of index is one into ``crystals``, shape (n,).

    :param grid: energies of the curves of a model without a parent.
    :param crystals: labelled, without those that are kept for tests.
    :param training: indices of those that are learnt from.
    :param held_out: indices of the others.
    :param validation: indices of the held-out ones that choose the epoch.
    :param calibration: indices of the held-out ones that calibrate the uncertainty of a predictor.
    :param predicted: crystals with predicted curves, if a denoiser sees some besides.
    :param n_test: how many labelled crystals are kept for tests.
    """

    grid: EnergyGrid
    crystals: CrystalSet
    training: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    predicted: CrystalSet | None
    n_test: int
    dataset_sha256: str
    parent_sha256: str | None
    pseudolabelled_sha256: str | None

    def seen(self, seed: int) -> CrystalSet:
        """Return all crystals that are trained on: labelled ones, and those with predicted curves."""
        training = self.crystals[self.training]
        return training if self.predicted is None else joined(training, self.predicted, self.crystals[self.held_out], seed)


def read_data(job: TrainJob, folder: Path) -> TrainingData:
    """Read the data of a job, on the energies of its parent if it has one.

    :param folder: of the files of the job.
    :raises ContentError: if a file is missing, or what is in it does not suit the model.
    """
    parameters, dataset_sha256 = job.parameters, hash_of(folder / job.dataset, "data set")
    if job.pseudolabelled is not None and parameters.model != "denoiser":
        raise ContentError(f"pseudolabelled: only a denoiser learns from predicted curves; a {parameters.model} does not")
    parent_sha256 = None if job.parent is None else hash_of(folder / job.parent, "parent")
    parent = None if job.parent is None else read_header(folder / job.parent)
    given = DEFAULT_GRID if parameters.energies is None else EnergyGrid(*parameters.energies)
    about: tuple[EnergyGrid, float, Meaning | None] = (given, DEFAULT_SIGMA, None)
    if parent is not None:
        about = (parent.grid, parent.sigma, parent.meaning)
    stride = _stride(parameters, parent)
    labelled = load_labelled(folder / job.dataset, *about, resolved=parameters.model == "predictor" or stride > 0)
    crystals, n_test = without_test(labelled)
    crystals = with_formation_energies(crystals)
    if parameters.model != "predictor":
        crystals = with_channels(crystals, stride)
    training, held_out = split_by_system(crystals, parameters.validation_fraction, job.seed)
    validation, calibration = _divided(crystals, held_out, parameters, job.seed)
    pseudolabelled_sha256, predicted = None, None
    if job.pseudolabelled is not None:
        pseudolabelled_sha256 = hash_of(folder / job.pseudolabelled, "pseudo-labelled set")
        predicted = without_test(load_labelled(folder / job.pseudolabelled, *about[:2], resolved=stride > 0))[0]
        predicted = with_channels(predicted, stride)
        if meaning_of(predicted) != meaning_of(crystals):
            raise ContentError(
                f"pseudolabelled: its curves are {meaning_of(predicted)}, those of the data set {meaning_of(crystals)}; "
                "predict them by a model that learnt the same"
            )
    return TrainingData(
        grid=given,
        crystals=crystals,
        training=training,
        held_out=held_out,
        validation=validation,
        calibration=calibration,
        predicted=predicted,
        n_test=n_test,
        dataset_sha256=dataset_sha256,
        parent_sha256=parent_sha256,
        pseudolabelled_sha256=pseudolabelled_sha256,
    )


def _stride(parameters: TrainParameters, parent: CheckpointHeader | None) -> int:
    """Return the stride of the curves by channel that the network takes, 0 if it takes none."""
    if parameters.model != "denoiser":
        return 0
    return parameters.architecture.stride if parent is None else int(parent.architecture.get("stride", 0))


def _divided(
    crystals: CrystalSet, held_out: np.ndarray, parameters: TrainParameters, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide what is held out into the validation set, which chooses the epoch, and the calibration set of a predictor.

    Where the last epoch is kept, nothing is chosen, and all held-out crystals do both: watch the training, and calibrate. Else
    they are divided by chemical systems; if there is one system only, it does both.
    """
    if parameters.model != "predictor" or parameters.keep == "last" or not len(held_out):
        return held_out, held_out
    systems = np.array(systems_of(crystals[held_out]))
    # the word is part of the hash: another one would divide the same data set otherwise
    order = sorted(set(systems.tolist()), key=lambda system: hashlib.sha256(f"{seed} judges {system}".encode()).digest())
    calibrates = np.isin(systems, order[::2])
    return (held_out, held_out) if calibrates.all() else (held_out[~calibrates], held_out[calibrates])
