"""Pydantic models that refuse unknown keys, and their errors in one line."""

from __future__ import annotations

import difflib
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """Base of the models of this package's files: unknown keys are errors, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(exception: ValidationError) -> str:
    """Return a pydantic error as one line: each key, what is wrong with it, and for one that does not exist which do."""
    parts = []
    for error in exception.errors():
        where = ".".join(str(key) for key in error["loc"])
        what = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            *path, key = error["loc"]
            what = "unknown key" + _hint(str(key), _keys(_model(exception.title), path))
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)


def _hint(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f", did you mean {near[0]!r}?"
    return f", known here: {', '.join(known)}" if known else ""


def _keys(model: type[BaseModel] | None, path: list) -> list[str]:
    """Return the keys of the model that lies at a path in a model; none if that is no single model."""
    for key in path:
        field = model.model_fields.get(key) if model is not None else None
        annotation = field.annotation if field is not None else None
        inside = (
            part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, BaseModel)
        )
        model = next(inside, None)
    return list(model.model_fields) if model is not None else []


def _model(name: str, base: type[BaseModel] = Strict) -> type[BaseModel] | None:
    """Return the model of a name; an error does not carry the model itself."""
    if base.__name__ == name:
        return base
    return next((found for kind in base.__subclasses__() if (found := _model(name, kind)) is not None), None)
