"""The models that ship with the package, as nodes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiida.orm import QueryBuilder
from aiida.plugins import DataFactory

from ..core.errors import ContentError
from ..core.job import sha256_of

if TYPE_CHECKING:
    from aiida.orm import Data


class Model(NamedTuple):
    """What a label stands for.

    :param entry_point: of its node.
    :param file: in the package; None for a force field that is a calculator.
    :param calculator: its name.
    """

    entry_point: str
    file: str | None = None
    calculator: str | None = None


MODELS = {
    "dosmatgen-dataset": Model("dosmatgen.labelled", "datasets/debian-pbe/labelled.npz"),
    "dosmatgen-denoiser": Model("dosmatgen.checkpoint", "models/denoiser.safetensors"),
    "dosmatgen-classifier": Model("dosmatgen.checkpoint", "models/classifier.safetensors"),
    "dosmatgen-predictor": Model("dosmatgen.checkpoint", "models/predictor.safetensors"),
    "dosmatgen-forcefield": Model("dosmatgen.forcefield", calculator="chgnet"),
    "dosmatgen-mace": Model("dosmatgen.forcefield", "models/forcefield.model"),
}
"""Label of each shipped model, and of a data set to try things with."""


def ensure_models() -> dict[str, Data]:
    """Return the nodes of the shipped models. One label means one content: a node of other content is relabelled."""
    nodes = {}
    for label, model in MODELS.items():
        make, content = _maker(model)
        for node in QueryBuilder().append(DataFactory(model.entry_point), filters={"label": label}).all(flat=True):
            if content_of(node) == content:
                nodes[label] = node
            else:
                node.label = f"{label}-{content_of(node)[:8]}"
        if label not in nodes:
            node = make()
            node.label = label
            nodes[label] = node.store()
    return nodes


def content_of(node: Data) -> str:
    """Return the hash of a model's file, or the name of a calculator."""
    return cast(str, node.base.attributes.get("sha256", None) or node.base.attributes.get("name"))


def _maker(model: Model) -> tuple[Any, str]:
    """Return what makes the node of a model, and what it will hold.

    :raises ContentError: if its file is missing.
    """
    node_class = cast(Any, DataFactory(model.entry_point))
    if model.file is None:
        return lambda: node_class.from_calculator(model.calculator), cast(str, model.calculator)
    path = Path(str(files("aiida_dosmatgen") / model.file))
    if not path.is_file():
        raise ContentError(f"the installation lacks {path}; install aiida-dosmatgen again")
    return lambda: node_class.from_file(path), sha256_of(path)
