"""The jobs of the public executable, each in a folder of its own: what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import Results
from aiida_dosmatgen.engine.cli import RESULTS, main


def run(kind: str, folder: Path, job: dict[str, Any], trust: str | None = None) -> Results:
    """Run ``dosmatgen KIND job.json`` in a folder, which has the files that the job names; an interrupted one is continued.

    :param job: without ``kind``.
    :param trust: hash of a model file that may be loaded.
    :raises ContentError: if it does not finish.
    """
    path = folder / "job.json"
    text = json.dumps({"kind": kind, **job}, indent=1)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    status = main([kind, str(path), *([] if trust is None else ["--trust", trust])])
    if status != 0:
        raise ContentError(f"dosmatgen {kind} {path} ended with status {status}")
    return Results.load((folder / RESULTS).read_text(encoding="utf-8"))


def made(folder: Path) -> Path:
    """Return a folder that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
