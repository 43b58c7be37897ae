"""Job files: what the plugin writes and the executable ``dosmatgen`` reads. One schema, versioned, unknown keys refused.

Begin with :mod:`.base`, which all jobs have in common, and with :mod:`.sample`, a job with its parameters. :func:`load_job`
reads a job of any kind; :mod:`.results` is what it writes at its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import ContentError
from ..strict import explain
from .base import Job, Runtime, Written
from .crystals import CrystalsJob, CrystalsParameters
from .evaluate import EvaluateJob
from .frames import FrameShares, FramesJob, FramesParameters
from .label import LabelJob, LabelSettings, Splits
from .predict import PredictJob
from .pseudolabel import PseudolabelJob, PseudolabelParameters
from .relax import ForceField, ReferencesJob, RelaxJob, RelaxParameters
from .results import Results, card_of, sha256_of
from .sample import SampleJob, SampleParameters, SizeRange
from .train import Architecture, BatchedTraining, TrainJob, TrainParameters

__all__ = [
    "AnyJob",
    "Architecture",
    "BatchedTraining",
    "CrystalsJob",
    "CrystalsParameters",
    "EvaluateJob",
    "ForceField",
    "FrameShares",
    "FramesJob",
    "FramesParameters",
    "Job",
    "LabelJob",
    "LabelSettings",
    "PredictJob",
    "PseudolabelJob",
    "PseudolabelParameters",
    "ReferencesJob",
    "RelaxJob",
    "RelaxParameters",
    "Results",
    "Runtime",
    "SampleJob",
    "SampleParameters",
    "SizeRange",
    "Splits",
    "TrainJob",
    "TrainParameters",
    "Written",
    "card_of",
    "load_job",
    "sha256_of",
]

AnyJob = Annotated[
    SampleJob
    | RelaxJob
    | ReferencesJob
    | PredictJob
    | TrainJob
    | CrystalsJob
    | LabelJob
    | PseudolabelJob
    | EvaluateJob
    | FramesJob,
    Field(discriminator="kind"),
]


def load_job(path: str | Path) -> AnyJob:
    """Read a job file.

    :raises ContentError: naming the file, the key and what is wrong with it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return TypeAdapter(AnyJob).validate_json(text)
    except FileNotFoundError:
        raise ContentError(f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise ContentError(f"{path} is not a text file; a job file is JSON") from None
    except ValidationError as exception:
        raise ContentError(f"{path}: {explain(exception)}") from None
