"""Retry reads of a database that another process writes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from aiida.manage import get_manager
from sqlalchemy.exc import OperationalError

_Result = TypeVar("_Result")


def patiently(look: Callable[[], _Result], attempts: int = 30, pause: float = 1.0) -> _Result:
    """Return what a look at the database gives; where that is locked (sqlite, while the daemon writes), look again.

    :param attempts: after which the error is raised.
    :param pause: seconds between two of them.
    """
    for _ in range(attempts - 1):
        try:
            return look()
        except OperationalError:
            storage: Any = get_manager().get_profile_storage()  # what raises this error has a session
            storage.get_session().rollback()  # or the session refuses everything from now on
            time.sleep(pause)
    return look()
