"""Which force fields a job may load: loading a model file runs the code in it.

A file is trusted that ships with the package, that was trained here, or of which the user of this profile said so. That is kept
beside the nodes of the profile, in its global variables, which no archive brings along.
"""

from __future__ import annotations

from typing import Any, Protocol

from aiida.common import ValidationError
from aiida.manage import get_manager

from ..core.forcefields import problem_of_calculator, shipped_sha256

_KEY = "dosmatgen|trusted|{sha256}"


class ForceField(Protocol):
    """What is asked of a :class:`.ForceFieldData`, which is made with this module."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str | None: ...
    @property
    def pk(self) -> int | None: ...
    @property
    def is_stored(self) -> bool: ...


def trust(force_field: ForceField, sha256: str) -> None:
    """Note that a model file may be loaded in this profile, whichever node holds it.

    :param sha256: the hash of the file that is trusted.
    :raises ValidationError: if the node's file has another one.
    """
    if force_field.sha256 is None or sha256 != force_field.sha256:
        raise ValidationError(f"the file of the force field {force_field.name} hashes to {force_field.sha256}, not to {sha256}")
    storage = get_manager().get_profile_storage()
    storage.set_global_variable(_KEY.format(sha256=sha256), "1", description="a model file that jobs may load")


def problem_of(force_field: ForceField) -> str | None:
    """Say in one line why no job may use a force field, or None."""
    if force_field.kind == "calculator":
        return problem_of_calculator(force_field.name)
    if force_field.kind == "foundation" or _is_trusted(str(force_field.sha256)):
        return None
    how = (
        f"forcefield trust {force_field.pk}"
        if force_field.is_stored
        else f"forcefield import {force_field.name} --trusted-sha256"
    )
    return (
        f"the force field {force_field.name} is a pickle: loading it runs the code in it. If you trust the file, say so once: "
        f"aiida-dosmatgen {how} {force_field.sha256}"
    )


def validate_trust(force_field: ForceField | None, _: Any) -> str | None:
    """Refuse a force field that runs code which nobody trusts."""
    return None if force_field is None else problem_of(force_field)


def _is_trusted(sha256: str) -> bool:
    if sha256 == shipped_sha256():
        return True
    try:
        get_manager().get_profile_storage().get_global_variable(_KEY.format(sha256=sha256))
    except KeyError:
        return False
    return True
