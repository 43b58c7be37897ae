"""Continue after a daemon was killed, without doing again what was done in the step that it was killed in.

AiiDA runs the step again from its beginning. What it has called by then is in the graph, under the label that each call has.
"""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import LinkType
from aiida.engine import ProcessState, WorkChain

from ..calculations.functions.content import ContentFunction
from ..data.base import pk_of
from .failures import CALLED_OFF
from .retries import ended_from_outside

_NOT_BEGUN = (None, ProcessState.CREATED)


class ResumingMixin(WorkChain):
    """Finds what a step has called already; each call of a work chain has a label of its own."""

    def submitted(self, label: str) -> orm.ProcessNode | None:
        """Return a child that was submitted already: the daemon was killed before it could note so.

        One that has not begun is called off, and counts as not submitted: whether its task has reached the broker cannot be
        known. Without a task it would never begin; with one it would run beside the one that is submitted in its place.
        """
        called = self._what_was_called(label, LinkType.CALL_WORK, LinkType.CALL_CALC)
        if not called or ended_from_outside(called[-1]):
            return None
        if called[-1].process_state in _NOT_BEGUN:
            _call_off(called[-1])
            self.report(f"{called[-1].process_label}<{called[-1].pk}> ({label}) had not begun; it is called off and repeated")
            return None
        return called[-1]

    def once(self, label: str, function: ContentFunction, **inputs: Any) -> orm.CalcFunctionNode:
        """Run a calcfunction, unless this process has run it before the daemon was stopped, and return its node."""
        done = [node for node in self._what_was_called(label, LinkType.CALL_CALC) if node.is_finished_ok]
        if done:
            return done[-1]
        return function.run_get_node(**inputs, metadata={"call_link_label": label})[1]

    def _what_was_called(self, label: str, *kinds: LinkType) -> list[Any]:
        """Return what was called by a label, the oldest first."""
        links = self.node.base.links.get_outgoing(link_type=kinds, link_label_filter=label).all()
        # the filter is one of SQL's "like": an underscore is any letter, and databases may not tell capitals from small letters
        return sorted((entry.node for entry in links if entry.link_label == label), key=pk_of)


def _call_off(node: orm.ProcessNode) -> None:
    """Mark a process that has not begun as killed: workers of the daemon drop the task of a process that has ended."""
    node.set_process_status(CALLED_OFF)
    node.set_process_state(ProcessState.KILLED)
    node.delete_checkpoint()
    node.seal()
