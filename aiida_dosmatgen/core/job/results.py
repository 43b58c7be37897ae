"""The results file that a job writes at its end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ContentError
from ..files.replacing import replacing
from ..strict import explain


class Results(BaseModel):
    """``results.json``: the end marker of a job. It is written last; without it the job did not finish.

    :param finished: False if the job stopped early (time budget) and kept what it had.
    :param output_sha256: hash of the output file, against truncated copies.
    :param job_sha256: hash of all that the results depend on, by which a second run of the same job knows them for its own.
    :param done: crystals (or epochs) finished, ``of`` those asked for.
    :param command: what was typed; None if no command line was.
    :param seconds: of this run, by the clock.
    :param cpu_seconds: of this run, on all cores together.
    :param details: what the kind of job adds, JSON values only.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    kind: str
    finished: bool
    done: int
    of: int
    output: str
    output_sha256: str
    job_sha256: str | None = None
    command: str | None = None
    seconds: float
    cpu_seconds: float | None = None
    engine_version: str
    torch_version: str
    device: str
    details: dict = {}

    def save(self, path: Path) -> None:
        """Write atomically."""
        with replacing(path) as partial:
            partial.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, text: str) -> Results:
        """Read from the text of a ``results.json``.

        :raises ContentError: if it is truncated or of another kind.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as exception:
            raise ContentError(f"results.json: {explain(exception)}") from None


def card_of(output: str) -> str:
    """Return the name of a model's card, the results of its training, which stay beside it: ``predictor_card.json``."""
    return f"{Path(output).with_suffix('')}_card.json"


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
