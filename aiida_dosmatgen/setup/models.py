"""The models that ship with the package, as nodes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aiida.orm import QueryBuilder
from aiida.plugins import DataFactory

from ..core.errors import ContentError
from ..core.job import sha256_of

if TYPE_CHECKING:
    from aiida.orm import Data

MODELS = {
    "dosmatgen-dataset": ("datasets/debian-pbe/labelled.npz", "dosmatgen.labelled"),
    "dosmatgen-denoiser": ("models/denoiser.safetensors", "dosmatgen.checkpoint"),
    "dosmatgen-classifier": ("models/classifier.safetensors", "dosmatgen.checkpoint"),
    "dosmatgen-predictor": ("models/predictor.safetensors", "dosmatgen.checkpoint"),
    "dosmatgen-forcefield": ("models/forcefield.model", "dosmatgen.forcefield"),
}
"""Label of each shipped model, and of the data set behind them: its file in the package and the entry point of its node."""


def ensure_models() -> dict[str, Data]:
    """Return the nodes of the shipped models. One label means one content: a node of other content is relabelled."""
    nodes = {}
    for label, (file_name, entry_point) in MODELS.items():
        path = Path(str(files("aiida_dosmatgen") / file_name))
        if not path.is_file():
            raise ContentError(f"the installation lacks {path}; install aiida-dosmatgen again")
        sha256, node_class = sha256_of(path), cast(Any, DataFactory(entry_point))  # one of those with from_file
        for node in QueryBuilder().append(node_class, filters={"label": label}).all(flat=True):
            if node.base.attributes.get("sha256") == sha256:
                nodes[label] = node
            else:
                node.label = f"{label}-{node.base.attributes.get('sha256')[:8]}"
        if label not in nodes:
            node = node_class.from_file(path)
            node.label = label
            nodes[label] = node.store()
    return nodes
