"""One field of a model on its own: what it means, and what it refuses. Ports and options of commands are made from it."""

from __future__ import annotations

import functools
import inspect
import re
import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError


def described(model: type[BaseModel], name: str) -> str:
    """Return what the docstring of a model says of a field (``:param name: …``), as one sentence.

    :raises KeyError: if it says nothing.
    """
    for cls in model.__mro__:
        found = re.search(rf":param {name}: (.*?)(?=\n\s*:|\n\n|\Z)", inspect.cleandoc(cls.__doc__ or ""), re.DOTALL)
        if found:
            text = " ".join(found[1].split()).rstrip(".")
            return f"{text[0].upper()}{text[1:]}."
    raise KeyError(f"the docstring of {model.__name__} does not say what {name} is")


def plain_type(model: type[BaseModel], name: str) -> Any:
    """Return the annotation of a field without ``None``."""
    annotation = model.model_fields[name].annotation
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    return annotation


def problem_of(model: type[BaseModel], name: str, value: Any) -> str | None:
    """Say in one line why a field does not take a value, or None."""
    try:
        _adapter(model, name).validate_python(value)
    except ValidationError as exception:
        said = "; ".join(error["msg"].removeprefix("Value error, ") for error in exception.errors())
        return f"{name} is {value!r}: {said}"
    return None


@functools.cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated)
