"""Why a process did not end well, in one line."""

from __future__ import annotations

from aiida import orm

from .error_handlers import error_message


def failure(node: orm.ProcessNode) -> str:
    """Return the deepest known reason why a process failed: that of the last failed process it called, or its own."""
    own = _own_failure(node)
    for child in reversed(node.called if isinstance(node, orm.WorkChainNode) else []):
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
    return f"{name} has not ended"


def _line(text: str | None) -> str:
    return " ".join((text or "no message").split())
