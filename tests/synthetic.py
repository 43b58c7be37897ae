"""Finished campaigns for the tests of what is made from them, without a run: fixtures for ``conftest.py``."""

import importlib
from pathlib import Path

import pytest
from aiida import orm

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def synthetic(monkeypatch):
    """The module that makes synthetic campaigns."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("synthetic_campaigns")


@pytest.fixture
def shared_nodes(aiida_profile_clean, synthetic, tmp_path):
    """What campaigns have in common: models, codes, a pseudopotential."""
    return synthetic.shared_nodes(tmp_path)


@pytest.fixture
def make_campaign(synthetic, shared_nodes):
    """Return a function that stores a campaign, and returns its node; arguments as of ``synthetic_campaigns.campaign``."""

    def make(sites=None, label_source="synthetic.csv", seed=0, **options):
        graph = synthetic.Graph(shared_nodes, seed)
        target = synthetic.target(graph, label_source, sites, options.get("wanted"))
        uuid = synthetic.campaign(graph, target, **options)
        graph.store()
        return orm.load_node(uuid)

    return make
