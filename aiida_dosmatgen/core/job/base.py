"""The base of all job files."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..strict import Strict


def _within_its_folder(path: str) -> str:
    parts = PurePath(path).parts
    if not parts or ".." in parts or PurePath(path).is_absolute():
        raise ValueError(f"{path!r} leads out of the folder of the job file; a job writes there only")
    return path


Written = Annotated[str, AfterValidator(_within_its_folder)]
"""A path that a job writes to."""


class Runtime(Strict):
    """How a job runs; nothing here changes what it computes.

    :param batch_size: crystals at a time; by default the engine chooses by size.
    :param device: ``cpu``, ``cuda``, … or ``auto``, which takes a GPU where there is one.
    :param threads: threads of torch; by default as many as torch takes.
    :param max_seconds: the job's own time budget; it stops in time, and finished parts are saved.
    :param continue_from: folder of an interrupted run of the same job; it continues from the restart files there.
    """

    batch_size: int | None = Field(None, ge=1)
    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    max_seconds: float | None = Field(None, gt=0)
    continue_from: str | None = None


class Job(Strict):
    """Base of the job files. Paths are relative to the folder of the job file; what is written stays inside of it."""

    version: Literal[1] = 1
    runtime: Runtime = Runtime()

    def input_files(self) -> list[str]:
        """Return the paths of all files that the job reads."""
        names = (
            "checkpoint", "classifier", "target", "template", "crystals", "dataset", "parent", "predictor", "pseudolabelled",
            "phases", "known",
        )  # fmt: skip
        return [path for name in names if (path := getattr(self, name, None)) is not None]
