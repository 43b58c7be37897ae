"""Finished campaigns for the tests of what is made from them, without a run: fixtures for ``conftest.py``."""

import importlib
from pathlib import Path

import pytest
from aiida import orm

from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.forcefield import ForceFieldData

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def synthetic(monkeypatch):
    """The module that makes synthetic campaigns."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("synthetic_campaigns")


@pytest.fixture
def shared_nodes(aiida_profile_clean, aiida_code_installed, checkpoint_file, model_file, tmp_path):
    """What campaigns have in common: models, codes, a pseudopotential."""
    from aiida_pseudo.data.pseudo.upf import UpfData

    upf = tmp_path / "Si.pbe.upf"
    upf.write_text('<UPF version="2.0.1">\n<PP_HEADER element="Si" z_valence="4.0"/>\n</UPF>\n')
    nodes = {
        "checkpoint": CheckpointData(checkpoint_file("denoiser", "denoiser.safetensors"), label="a denoiser"),
        "predictor": CheckpointData(checkpoint_file("predictor", "predictor.safetensors"), label="a predictor"),
        "force_field": ForceFieldData.from_file(model_file),
        "pseudo": UpfData(upf),
        **{
            name: aiida_code_installed(label=f"synthetic-{name}", filepath_executable=f"/opt/{name}")
            for name in ("dosmatgen", "pw", "projwfc")
        },
    }
    return {name: node.store() for name, node in nodes.items()}


@pytest.fixture
def make_campaign(synthetic, shared_nodes):
    """Return a function that stores a campaign, and returns its node; arguments as of ``synthetic_campaigns.campaign``."""

    def make(sites=None, label_source="synthetic.csv", seed=0, **options):
        graph = synthetic.Graph(shared_nodes, seed)
        target = synthetic.target(graph, label_source, sites)
        uuid = synthetic.campaign(graph, target, **options)
        graph.store()
        return orm.load_node(uuid)

    return make
