"""Names that files and nodes of earlier versions hold: read as the names of today, never written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_GEOMETRIES = {"sampled": "unrelaxed", "as sampled": "unrelaxed"}
_COLUMNS = {"form": "geometry", "remedy": "fallback"}


def current_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return crystal columns with ``form`` as ``geometry`` and ``remedy`` as ``fallback``.

    Unrelaxed crystals are named so in ``geometry`` and ``status``.
    """
    renamed = {_COLUMNS.get(name, name): column for name, column in columns.items()}
    for name in ("geometry", "status"):
        if name in renamed and np.isin(renamed[name], list(_GEOMETRIES)).any():
            renamed[name] = np.array([_GEOMETRIES.get(text, text) for text in renamed[name].tolist()])
    return renamed


def current_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a ranking with ``form`` as ``geometry``."""
    renamed = {_COLUMNS.get(name, name): value for name, value in row.items()}
    if "geometry" in renamed:
        renamed["geometry"] = _GEOMETRIES.get(renamed["geometry"], renamed["geometry"])
    return renamed


def current_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data card with ``remedies`` as ``fallbacks``."""
    return {"fallbacks" if key == "remedies" else key: value for key, value in card.items()}


def current_criteria(criteria: Mapping[str, Any]) -> dict[str, Any]:
    """Return screening criteria with ``forms`` as ``geometries``; ``forms`` takes precedence over ``geometries``."""
    renamed = dict(criteria)
    forms = renamed.pop("forms", None)
    if isinstance(forms, list | tuple):
        forms = [_GEOMETRIES.get(form, form) if isinstance(form, str) else form for form in forms]
    return renamed if "forms" not in criteria else {**renamed, "geometries": forms}
