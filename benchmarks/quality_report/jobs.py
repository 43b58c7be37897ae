"""The jobs of the public executable, each in a folder of its own: what is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterable
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


class References:
    """The energies of the elements by a force field, each computed when it is first asked for.

    :param job: of ``dosmatgen references``, without the elements.
    :param trust: hash of a model file that may be loaded.
    """

    def __init__(self, folder: Path, job: dict[str, Any], trust: str | None) -> None:
        self.folder, self.job, self.trust = folder, job, trust
        self.energies: dict[str, float] = {}

    def of(self, symbols: Iterable[str]) -> dict[str, float]:
        """Return the energies of elements in eV/atom; those that no structure has are left out."""
        for symbol in sorted(set(symbols) - set(self.energies)):
            job = {"elements": [symbol], **self.job}
            self.energies |= run("references", made(self.folder / symbol), job, self.trust).details["energies"]
        return {symbol: self.energies[symbol] for symbol in symbols if symbol in self.energies}


def made(folder: Path) -> Path:
    """Return a folder that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
