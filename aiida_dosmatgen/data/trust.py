"""Which model files a job may load: loading one runs the code in it.

A file is trusted that ships with the package, that was trained here, or of which somebody said so in this profile.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiida.common.exceptions import ValidationError
from aiida.manage import get_manager
from aiida.orm import QueryBuilder

if TYPE_CHECKING:
    from .forcefield import ForceFieldData

_TRUSTED = "dosmatgen_trusted_in"  # extra: the profiles in which somebody said so; an archive brings those of others along


def trust(force_field: ForceFieldData, sha256: str) -> None:
    """Note on a node that its model file may be loaded in this profile.

    :param sha256: the hash of the file that is trusted.
    :raises ValidationError: if the node's file has another one.
    """
    if force_field.sha256 is None or sha256 != force_field.sha256:
        raise ValidationError(f"the file of the force field {force_field.name} hashes to {force_field.sha256}, not to {sha256}")
    said = force_field.base.extras.get(_TRUSTED, [])
    force_field.base.extras.set(_TRUSTED, sorted({*said, _profile()}))


def is_trusted(force_field: ForceFieldData) -> bool:
    """Whether the model file of a node ships with the package, or somebody trusts its hash in this profile."""
    if force_field.sha256 == shipped_sha256() or _profile() in force_field.base.extras.get(_TRUSTED, []):
        return True
    query = QueryBuilder().append(
        type(force_field),
        filters={"attributes.sha256": force_field.sha256, f"extras.{_TRUSTED}": {"contains": [_profile()]}},
    )
    return query.count() > 0


def validate_trust(force_field: ForceFieldData | None, _: Any) -> str | None:
    """Refuse a model file that is not trusted."""
    if force_field is None or force_field.is_trusted:
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


def shipped_sha256() -> str:
    """Return the hash of the force field that ships with the package."""
    card = files("aiida_dosmatgen") / "models" / "forcefield_card.json"
    return str(json.loads(card.read_text(encoding="utf-8"))["output_sha256"])


def _profile() -> str:
    profile = get_manager().get_profile()
    return "" if profile is None else profile.uuid
