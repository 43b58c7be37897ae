"""What a job may run besides this package: the user of the executable says so, not the job file, which others may have made."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Any

from ..core.errors import ContentError
from ..core.forcefields import shipped_sha256
from ..core.job import ForceField, LabelSettings, TrainJob

_COMMANDS = ("pw_command", "projwfc_command")


def check(job: Any, trusted: Collection[str]) -> None:
    """Refuse a job that would run code which nobody trusts.

    :param trusted: hashes of model files, and commands as one would type them.
    :raises ContentError: naming it, and what to type.
    """
    field = getattr(job, "force_field", None)
    if isinstance(field, ForceField) and field.sha256 is not None and field.sha256.lower() not in {shipped_sha256(), *trusted}:
        raise ContentError(
            f"the force field {field.file} is a pickle: loading it runs the code in it. If you trust the file: "
            f"--trust {field.sha256}"
        )
    if isinstance(job, TrainJob) and job.parameters.batched is not None:
        sha256 = job.parameters.batched.parent_sha256
        if sha256 is not None and sha256.lower() not in {shipped_sha256(), *trusted}:
            raise ContentError(
                f"the parent {job.parent} is a pickle: loading it runs the code in it. If you trust the file: --trust {sha256}"
            )
    settings = getattr(job, "settings", None)
    if isinstance(settings, LabelSettings):
        for name in _COMMANDS:
            command = shlex.join(getattr(settings, name))
            if command not in {shlex.join(getattr(LabelSettings(), name)), *trusted}:
                raise ContentError(f"settings.{name}: the job would run {command}. If you trust that: --trust '{command}'")
