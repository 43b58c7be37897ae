"""Work chains that keep a bounded number of children at a time."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict

from ..aiida_internals.waiting import AnyChildWorkChain
from .resuming import ResumingMixin
from .retries import RetryMixin, is_abandoned


class SlidingWindowWorkChain(RetryMixin, ResumingMixin, AnyChildWorkChain):
    """A work chain with at most ``max_concurrent`` children at a time, whose outline continues when any of them has ended.

    An outline adds children one by one, and asks :meth:`.ResumingMixin.submitted` for each before it submits it, so that a
    daemon that dies in between submits none of them again::

        cls.open_window,
        while_(cls.something_left)(          # running children count as something left
            while_(cls.may_start)(cls.start_next),      # calls submitted, submit and add_child
            cls.wait_for_one,
            cls.inspect,                                # calls collect
        ),

    Everything that has to survive the daemon is in the context, as in any work chain.
    """

    # --- steps and what they call -----------------------------------------------------------------------------------

    def open_window(self) -> None:
        """Begin with no child."""
        self.ctx.running = AttributeDict()

    def has_capacity(self) -> bool:
        """Say whether another child may be started."""
        return len(self.ctx.running) < self.inputs.max_concurrent

    def add_child(self, key: str, node: orm.ProcessNode) -> None:
        """Add a submitted child.

        :param key: its name in the window; without dots.
        """
        self.ctx.running[key] = node

    def wait_for_one(self) -> None:
        """Wait until at least one of the children has ended."""
        self.to_context(**{f"running.{key}": child for key, child in self.ctx.running.items()})

    def collect(self) -> dict[str, Any]:
        """Return the children that have ended since, by their names, and forget them.

        One whose end was announced while it goes on stays: two workers ran it, and one of them failed with it.
        """
        children = {key: child for key, child in self.ctx.running.items() if isinstance(child, orm.ProcessNode)}
        ended = {key: child for key, child in children.items() if child.is_terminated or is_abandoned(child)}
        for key in ended:
            del self.ctx.running[key]
        return ended
