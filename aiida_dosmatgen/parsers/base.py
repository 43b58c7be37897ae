"""From a job's files to its outputs. A parser accepts an output only if the results file is complete and its hash agrees."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from aiida.common import ValidationError
from aiida.engine import CalcJob, ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from ..calculations.base import RESULTS_FILE, STDERR_FILE, DosmatgenCalculation
from ..core.errors import ContentError
from ..core.job import Results, sha256_of
from ..data.base import storable

_REFUSAL = re.compile(r"dosmatgen(?: \w+)?: error: (.*)")  # its own line, or argparse's; its other lines are notes
_CRASH, _NO_MEMORY = "dosmatgen: crashed: ", "dosmatgen: interrupted: out of memory"
_TRACEBACK, _EXCEPTION = "Traceback (most recent call last)", re.compile(r"[\w.]+(?:Error|Exception)\b")
_SIGNAL = re.compile(r"segmentation fault|illegal instruction|bus error|floating point exception|\baborted\b", re.IGNORECASE)
_LONGEST_LINE = 400

_ENDED_BY_SCHEDULER = {
    r"DUE TO TIME LIMIT": CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME,
    r"oom[-_ ]kill|out[ _]of[ _]memory": CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY,
    r"DUE TO NODE FAILURE": CalcJob.exit_codes.ERROR_SCHEDULER_NODE_FAILURE,
}
"""What Slurm writes to a job's standard error. Without accounting AiiDA looks at the first line only."""


class DosmatgenParser(Parser):
    """Parser of the jobs of ``dosmatgen``.

    Subclasses turn the output file into nodes in :meth:`parse_output`.
    """

    CACHE_VERSION = 1

    def parse(self, **_: Any) -> ExitCode | None:
        """Attach the outputs, or say why there are none."""
        names = self.retrieved.base.repository.list_object_names()
        if RESULTS_FILE not in names:
            return self._exit_without_results()
        try:
            results = Results.load(self.retrieved.base.repository.get_object_content(RESULTS_FILE, "r"))
        except (ContentError, UnicodeDecodeError) as exception:
            return self.exit_codes.ERROR_NO_RESULTS.format(message=str(exception))
        kind = cast(type[DosmatgenCalculation], self.node.process_class).KIND
        if results.kind != kind:
            return self.exit_codes.ERROR_UNREADABLE_OUTPUT.format(
                message=f"results.json is of a job of kind {results.kind!r}, expected {kind!r}"
            )
        self.out("results", Dict(storable(results.model_dump())))
        if results.output not in names:
            return self.exit_codes.ERROR_HASH_MISMATCH.format(message=f"{results.output} is missing")
        with self.file(results.output) as path:
            if sha256_of(path) != results.output_sha256:
                return self.exit_codes.ERROR_HASH_MISMATCH.format(
                    message=f"{results.output} has not the sha256 that results.json states"
                )
            try:
                self.parse_output(path, results)
            except (ContentError, ValidationError) as exception:
                return self.exit_codes.ERROR_UNREADABLE_OUTPUT.format(message=str(exception))
        if not results.finished:
            return self.exit_codes.ERROR_STOPPED_EARLY.format(done=results.done, of=results.of)
        return None

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the nodes that the output file makes.

        :raises ContentError: if it does not belong to the job.
        """
        raise NotImplementedError

    def check_given(self, results: Results, *names: str) -> None:
        """Check that files which the job used are those of its inputs, by their hashes.

        :param names: of inputs; those that were not given are not checked.
        :raises ContentError: naming the first that is another.
        """
        for name in names:
            if name not in self.node.inputs:
                continue
            used, given = results.details.get(f"{name}_sha256"), self.node.inputs[name].sha256
            if used != given:
                raise ContentError(f"{name}: the job used a file with sha256 {used}, given was {given}")

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a retrieved file as a path."""
        with self.retrieved.base.repository.as_path(name) as path:
            yield path

    def _exit_without_results(self) -> ExitCode:
        """Say why there is no ``results.json``: what the scheduler saw, a refusal, or the last line of stderr."""
        if self.node.exit_status:
            return ExitCode(self.node.exit_status, self.node.exit_message, invalidates_cache=True)
        said = self._text(self.node.get_option("scheduler_stderr"))
        for pattern, code in _ENDED_BY_SCHEDULER.items():
            if re.search(pattern, said, re.IGNORECASE):
                return ExitCode(code.status, code.message, invalidates_cache=True)
        line = self._last_line()
        crashed = line.startswith(_CRASH) or (_TRACEBACK in self._text(STDERR_FILE) and _EXCEPTION.match(line))
        if line.startswith((_NO_MEMORY, "MemoryError")):
            code = CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY
            return ExitCode(code.status, code.message, invalidates_cache=True)
        if crashed or _SIGNAL.search(said):
            return self.exit_codes.ERROR_CRASHED.format(message=line.removeprefix(_CRASH) or said.strip()[:_LONGEST_LINE])
        if refusal := _REFUSAL.fullmatch(line):
            return self.exit_codes.ERROR_BAD_INPUT.format(message=refusal[1])
        return self.exit_codes.ERROR_NO_RESULTS.format(
            message=f"The last line of its standard error: {line}" if line else "Its standard error is empty."
        )

    def _text(self, name: str | None) -> str:
        """Return the content of a retrieved file, empty if there is none."""
        if name is None or name not in self.retrieved.base.repository.list_object_names():
            return ""
        return self.retrieved.base.repository.get_object_content(name, mode="rb").decode(errors="replace")

    def _last_line(self) -> str:
        for name in (STDERR_FILE, self.node.get_option("scheduler_stderr")):
            lines = [line.strip() for line in self._text(name).replace("\r", "\n").splitlines() if line.strip()]
            if lines:
                return lines[-1][:_LONGEST_LINE]
        return ""
