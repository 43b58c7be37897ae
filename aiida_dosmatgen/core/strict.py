"""Pydantic models that refuse what they do not know, and their errors as one line."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """Base of the models of this package's files: unknown keys are errors, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(exception: ValidationError) -> str:
    """Return a pydantic error as one line: each key and what is wrong with it."""
    parts = []
    for error in exception.errors():
        where = ".".join(str(key) for key in error["loc"])
        what = "unknown key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)
