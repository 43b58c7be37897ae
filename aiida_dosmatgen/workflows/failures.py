"""Why a process did not end well, in one line."""

from __future__ import annotations

import abc
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, WorkChain

from .error_handlers import error_message
from .functions import note_failure

CALLED_OFF = "called off: its parent was interrupted as it submitted this process, and has submitted another"
"""The status of a process in whose place another one was submitted: it says nothing of its parent."""


def failure(node: orm.ProcessNode) -> str:
    """Return the deepest known reason why a process failed: that of the last failed process it called, or its own."""
    own = _own_failure(node)
    for child in reversed(node.called if isinstance(node, orm.WorkChainNode) else []):
        if child.process_status == CALLED_OFF:
            continue
        if child.is_terminated and not child.is_finished_ok:
            return f"{own} [{failure(child)}]" if isinstance(child, orm.CalcJobNode) else failure(child)
    return own


def _own_failure(node: orm.ProcessNode) -> str:
    name = node.process_label or "process"
    if node.is_finished:
        printed = error_message(node) if isinstance(node, orm.CalcJobNode) else None
        message = _line(node.exit_message) + (f" ({printed})" if printed else "")
        return f"{name} exit status {node.exit_status}: {message}"
    if node.is_excepted:
        return f"{name} excepted: {_line(node.exception)}"
    if node.is_killed:
        return f"{name} was killed"
    return f"{name} has not ended" if node.checkpoint else f"{name} was lost with a worker of the daemon"


def _line(text: str | None) -> str:
    return " ".join((text or "no message").split())


class FailureMixin(WorkChain):
    """The reason of a failure is an output, so that later steps can take it as data."""

    @classmethod
    def define_failure(cls, spec: Any) -> None:
        """Define the output."""
        spec.output("failure", valid_type=orm.Dict, required=False, help="The `reason`, where the work chain failed.")

    @property
    @abc.abstractmethod
    def subject(self) -> orm.Node:
        """The stored node that the work chain is about."""

    def fail_with(self, exit_code: ExitCode) -> ExitCode:
        """Return an exit code, with its message as the output ``failure``."""
        self.out("failure", noted(self.subject, exit_code.message))
        return exit_code


def failure_of(node: orm.ProcessNode, subject: orm.Node) -> orm.Dict:
    """Return the output ``failure`` of a process, or make it of one that could not: it excepted or was killed."""
    if "failure" in node.outputs:
        return node.outputs.failure
    return noted(subject, (node.exit_message if node.is_finished else None) or failure(node))


def noted(subject: orm.Node, reason: str | None) -> orm.Dict:
    """Return the reason of a failure as a node that :func:`.note_failure` made of what failed."""
    return note_failure(subject=subject, reason=orm.Str(_line(reason)), metadata={"call_link_label": "note_failure"})
