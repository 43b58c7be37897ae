"""The work chain of docs/how-to/generation.md can be built, and its inputs are valid."""

import re
from pathlib import Path

import pytest
from aiida import orm

from aiida_dosmatgen.data.checkpoint import CheckpointData

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "generation.md").read_text()


@pytest.mark.usefixtures("codes")
def test_the_work_chain_takes_its_inputs(models, checkpoint_file, target_node, process):
    elements = ["Ga", "As"]
    names = {"dosmatgen-denoiser": "denoiser", "dosmatgen-predictor": "predictor", "dosmatgen-classifier": "classifier"}
    nodes = {
        label: CheckpointData(checkpoint_file(kind, f"{kind}.safetensors", elements=elements)) for label, kind in names.items()
    }
    labelled = {**nodes, "dosmatgen-forcefield": models["force_field"], "target": target_node}
    for node in orm.QueryBuilder().append(orm.Node, filters={"label": {"in": list(labelled)}}).all(flat=True):
        node.label = ""  # of another test
    for label, node in labelled.items():
        node.store().label = label
    (block,) = re.findall(r"```python aiida\n(.*?)```", TEXT, re.DOTALL)
    namespace = {}
    exec(compile(block, "docs/how-to/generation.md", "exec"), namespace)
    chain = process(namespace["builder"])
    assert chain.inputs.sample.classifier.uuid == nodes["dosmatgen-classifier"].uuid
    assert chain.inputs.sample.parameters.get_dict()["constraints"] == {"formula": "GaAs"}
