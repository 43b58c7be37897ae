"""Of work chains: to wait for any child instead of for all."""

from __future__ import annotations

import functools
from typing import Any

from aiida.engine import ProcessState, WorkChain


class AnyChildWorkChain(WorkChain):
    """A work chain whose outline continues when any of the children that it waits for has ended.

    A plain work chain waits for all children of a step. How it listens to them is extended here: each is listened to once,
    however many steps wait for it, and the end of one resumes the outline. The next step that waits has to wait for the others
    again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Listen to no child yet."""
        self._listening: set[int] = set()
        super().__init__(*args, **kwargs)

    def load_instance_state(self, saved_state: Any, load_context: Any) -> None:
        """Listen again to the children of a checkpoint: this process does not listen to them yet."""
        self._listening = set()
        super().load_instance_state(saved_state, load_context)

    def _action_awaitables(self) -> None:
        """Listen to each child once, however often it is waited for."""
        for awaitable in self._awaitables:
            if awaitable.pk not in self._listening:
                self._listening.add(awaitable.pk)
                callback = functools.partial(self.call_soon, self._on_child_ended, awaitable.pk)
                self.runner.call_on_process_finish(awaitable.pk, callback)

    def _on_child_ended(self, pk: int) -> None:
        """Continue, unless a step is running: at its end the step waits for the child again, and is told at once."""
        self._listening.discard(pk)
        if self.state != ProcessState.WAITING:
            return
        for awaitable in [awaitable for awaitable in self._awaitables if awaitable.pk == pk]:
            self._on_awaitable_finished(awaitable)
        self.resume()
