"""An archive that version 0.1.0 wrote, before curves had a low end and forms were called geometries, and its checkpoints.

``campaign-0.1.0.aiida`` has a campaign of ``benchmarks/synthetic_campaigns.py``, a target from a CSV file, crystals with
predicted curves and three labelled crystals, all made and exported by the code of that version.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.tools.archive import import_archive

from aiida_dosmatgen import report
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.setup import ensure_models
from aiida_dosmatgen.tools.exchange import write_extxyz, write_optimade

ARCHIVE = Path(__file__).with_name("campaign-0.1.0.aiida")
DENOISER = "1d61e43b75389ba9"  # the sha256 of the one that version 0.1.0 shipped begins so


@pytest.fixture
def labelled_nodes(aiida_profile_clean):
    """What has a label in the archive, by it."""
    import_archive(ARCHIVE)
    query = orm.QueryBuilder().append(orm.Node, filters={"label": {"like": "%-0.1.0"}}, project=["label", "*"])
    return {label.removesuffix("-0.1.0"): node for label, node in query.all()}


def test_an_archive_of_version_0_1_0(labelled_nodes, tmp_path):
    campaign = labelled_nodes["campaign"]
    rows = campaign.tools.ranking()["target"]
    assert [(row["candidate"], row["geometry"], row["status"]) for row in rows] == [
        (0, "relaxed", "validated"),
        (1, "unrelaxed", "validated"),
        (3, "unrelaxed", "not validated"),
        (2, "relaxed", "failed"),
    ]
    assert [row["dft"]["mae"] for row in rows[:2]] == pytest.approx([0.06653176810140271, 0.08560775542373908])
    assert "exit status 410" in rows[3]["reason"]
    assert campaign.tools.best()["candidate"] == 0 and "unrelaxed" in campaign.tools.table()
    assert campaign.tools.to_dataframe()["dft_mae"].notna().sum() == 2
    assert campaign.tools.lineage() is not None
    report.write(campaign, tmp_path / "campaign.html")
    for write, name in ((write_optimade, "campaign.json"), (write_extxyz, "campaign.extxyz")):
        assert write(campaign, tmp_path / name).stat().st_size > 1000


def test_data_of_version_0_1_0(labelled_nodes):
    target, crystals, labelled = (labelled_nodes[name] for name in ("target", "crystals", "labelled"))
    assert isinstance(target, DosTargetData) and target.target.curves.shape == (2, target.target.grid.n)
    assert isinstance(crystals, CrystalSetData) and len(crystals.crystals) == 3
    assert crystals.crystals.atom_columns["predicted_dos"].shape == (len(crystals.crystals.numbers), 400)
    assert isinstance(labelled, LabelledCrystalSetData) and len(labelled.crystals) == 3
    assert np.isfinite(labelled.crystals.atom_columns["dos"]).all()
    (sites,) = orm.QueryBuilder().append(DosTargetData, filters={"label": {"!==": "target-0.1.0"}}).all(flat=True)
    assert sites.target.kind == "sites" and len(sites.target.curves) == 2
    found = orm.QueryBuilder().append(CheckpointData, project="attributes.kind").all(flat=True)
    assert sorted(found) == ["denoiser", "predictor"]


def test_the_checkpoints_of_version_0_1_0_are_those_that_are_shipped(aiida_profile_clean):
    """All tests that sample, predict or guide with the shipped models therefore load checkpoints of that version."""
    model = ensure_models()["dosmatgen-denoiser"]
    assert model.sha256.startswith(DENOISER)
    content = model.base.repository.get_object_content(model.base.repository.list_object_names()[0], mode="rb")
    assert hashlib.sha256(content).hexdigest() == model.sha256
