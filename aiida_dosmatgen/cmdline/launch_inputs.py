"""The inputs that the commands of ``launch`` make of what was given."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from ..core.errors import ContentError
from .launching import Where


def reserved_input(systems: list[str] | None) -> dict[str, Any]:
    """Return the input of reserved systems, as far as there are any."""
    from aiida.orm import List

    return {} if systems is None else {"reserved": List(systems)}


def named_targets(targets: tuple[Any, ...]) -> dict[str, Any]:
    """Return targets by names that a link can have: their labels, or their numbers.

    :raises ContentError: if two have one name.
    """
    named: dict[str, Any] = {}
    for node in targets:
        label = node.label or Path(node.base.attributes.get("label_source", None) or "").stem
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
        name = re.sub(r"_+", "_", re.sub(r"\W", "_", plain)).strip("_") or f"target_{node.pk}"
        name = f"target_{name}" if name[0].isdigit() else name
        if name in named:
            raise ContentError(
                f"two targets are called {name}; give one another label: aiida-dosmatgen target import … --label"
            )
        named[name] = node
    return named


def job_builder(work_chain: Any, kind: str, inputs: dict[str, Any], where: Where) -> Any:
    """Return the builder of one job that is submitted again until it is complete."""
    from ..workflows.protocols.utils import job_metadata

    code = where.code("dosmatgen")
    builder = work_chain.get_builder()
    builder[kind] = {**inputs, "code": code, "metadata": job_metadata({}, where.options, code)}
    return builder


def as_crystals(node: Any) -> Any:
    """Return a structure as a set of one crystal, by a calcfunction; a set of crystals as it is."""
    from ..calculations.functions import crystals_from_structure
    from ..data.crystals import CrystalSetData

    return node if isinstance(node, CrystalSetData) else crystals_from_structure(node)


def one_structure(node: Any, candidate: int | None) -> Any:
    """Return one crystal of a set as a structure, by a calcfunction; a structure as it is.

    :raises ContentError: if it is not said which one.
    """
    from aiida.orm import Int

    from ..calculations.functions import extract_candidate
    from ..data.crystals import CrystalSetData

    if not isinstance(node, CrystalSetData):
        if candidate is not None:
            raise ContentError("--candidate chooses from a set of crystals, but this is one structure; leave it out")
        return node
    count = node.base.attributes.get("n_crystals")
    if candidate is None and count != 1:
        raise ContentError(f"there are {count} crystals in {node.label or node.pk}; choose one: --candidate NUMBER")
    if candidate is None:
        crystals = node.crystals
        candidate = int(crystals.crystal_columns["candidate"][0]) if "candidate" in crystals.crystal_columns else 0
    structure, process = extract_candidate.run_get_node(crystals=node, candidate=Int(candidate))
    if not process.is_finished_ok:
        raise ContentError(process.exit_message)
    return structure
