"""Options made from pydantic models, so that a parameter is declared once: its meaning, its default and its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ..core.fields import described, plain_type

_RANGES = {int: click.IntRange, float: click.FloatRange}


def option_from_field(
    model: type[BaseModel], name: str, *flags: str, default: Any = PydanticUndefined, note: str = ""
) -> Callable[[Callable], Callable]:
    """Return the option of a command for one field of a model: a number, a text, a yes or no, or one of several words.

    :param flags: what is typed; by default the name, with dashes.
    :param default: instead of that of the field; None leaves the choice to what the command does.
    :param note: added to the description of the field in the model.
    """
    field, kind = model.model_fields[name], plain_type(model, name)
    default = field.default if default is PydanticUndefined else default
    given: dict[str, Any] = {"help": f"{described(model, name)} {note}".rstrip()}
    if default not in (None, PydanticUndefined):
        given |= {"default": default, "show_default": True}
    if kind is bool:
        given["is_flag"] = True
    else:
        given["type"] = click.Choice(get_args(kind)) if get_origin(kind) is Literal else _range_of(kind, field.metadata)
    return click.option(*flags or (f"--{name.replace('_', '-')}",), name, **given)


def _range_of(kind: type, limits: list[Any]) -> click.ParamType | type:
    """Return numbers within limits; of other things the type itself."""
    given: dict[str, Any] = {}
    for limit in limits:
        for name, end, is_open in (("ge", "min", False), ("gt", "min", True), ("le", "max", False), ("lt", "max", True)):
            if hasattr(limit, name):
                given |= {end: getattr(limit, name), f"{end}_open": is_open}
    return _RANGES[kind](**given) if given and kind in _RANGES else kind
