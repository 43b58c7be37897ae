"""Calcfunctions refuse bad content with an exit code and one line."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pydantic
from aiida.common import ValidationError
from aiida.engine import ExitCode, Process, calcfunction
from aiida.orm import CalcFunctionNode, Dict

from ...core.errors import ContentError
from ...core.strict import explain

BAD_CONTENT = 310


class ContentFunction(Protocol):
    """A calcfunction: called like the function itself, or through :meth:`run_get_node`."""

    process_class: type[Process]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and return what the function returns."""

    def run_get_node(self, *args: Any, **kwargs: Any) -> tuple[Any, CalcFunctionNode]:
        """Run, and return what the function returns, and the node of the process."""


def content_function(function: Callable[..., Any]) -> ContentFunction:
    """Make a calcfunction whose ``ContentError`` or ``ValidationError`` is an exit code with the same line."""
    errors, refusal = (ContentError, ValidationError), functools.partial(ExitCode, BAD_CONTENT)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except errors as exception:
            return refusal(str(exception))

    # AiiDA stores the module and the source file of what it wraps: they must be those of the function, not of this guard
    code = guarded.__code__.replace(co_filename=function.__code__.co_filename)
    there = types.FunctionType(code, function.__globals__, function.__name__, None, guarded.__closure__)
    return calcfunction(functools.wraps(function)(there))


def checked(model: type[pydantic.BaseModel], node: Dict, name: str) -> Any:
    """Return the content of a node as a pydantic model.

    :raises ContentError: naming the key that is wrong.
    """
    try:
        return model.model_validate(node.get_dict())
    except pydantic.ValidationError as exception:
        raise ContentError(f"{name}: {explain(exception)}") from None


def reasons_of(nodes: Mapping[str, Any]) -> dict[str, str]:
    """Return the reasons of failures that are given as ``failure_<name>``, by their names; others are left out."""
    prefix = "failure_"
    return {key.removeprefix(prefix): node.get_dict()["reason"] for key, node in nodes.items() if key.startswith(prefix)}
