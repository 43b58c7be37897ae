"""The loop of outlines, with the type that aiida-core's own lacks: it takes methods of any subclass of ``WorkChain``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiida.engine

while_: Callable[[Callable[[Any], bool]], Callable[..., Any]] = aiida.engine.while_
