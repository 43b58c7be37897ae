"""Ports made from pydantic models, so that a parameter is declared once: its meaning, its default and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiida.orm import Data, Dict, List, to_aiida_type
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from ..core.fields import described, plain_type, problem_of
from ..core.strict import explain

Validator = Callable[[Any, Any], str | None]


def port_from_field(model: type[BaseModel], name: str, node: type[Data] | None = None) -> dict[str, Any]:
    """Return the arguments of ``spec.input`` for one field of a model.

    :param node: the class of the node that holds the value. None is for values that are no nodes: they have the field's
        default, and need not be given if there is one, None too.
    """

    def validator(value: Any, _: Any) -> str | None:
        if value is None:
            return None
        plain = value.get_list() if isinstance(value, List) else value.value if isinstance(value, Data) else value
        return problem_of(model, name, plain)

    port: dict[str, Any] = {"validator": validator, "help": described(model, name)}
    if node is not None:
        return {**port, "valid_type": node, "serializer": to_aiida_type}
    port["valid_type"], default = plain_type(model, name), model.model_fields[name].default
    if default is None:
        return {**port, "required": False}
    return port if default is PydanticUndefined else {**port, "default": default}


def port_from_model(model: type[BaseModel], name: str = "", required: bool = False) -> dict[str, Any]:
    """Return the arguments of ``spec.input`` for a ``Dict`` with the fields of a model.

    :param name: stands before the key that is wrong.
    :param required: whether it has to be given; otherwise it is empty by default.
    """
    port: dict[str, Any] = {
        "valid_type": Dict,
        "serializer": to_aiida_type,
        "validator": validate_with(model, name),
        "help": f"Keys: {', '.join(f'`{key}`' for key in model.model_fields)}; see `{model.__module__}.{model.__qualname__}`.",
    }
    return port if required else {**port, "default": lambda: Dict({})}


def validate_with(model: type[BaseModel], name: str = "") -> Validator:
    """Return the validator of a ``Dict`` port whose content is a pydantic model; it names the wrong key."""

    def validator(value: Dict | None, _: Any) -> str | None:
        if value is None:
            return None
        try:
            model.model_validate(value.get_dict())
        except ValidationError as exception:
            return f"{name}: {explain(exception)}" if name else explain(exception)
        return None

    return validator
