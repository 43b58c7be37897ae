"""An archive that version 0.1.0 wrote, before curves had a low end and forms were called geometries, and its checkpoints.

``campaign-0.1.0.aiida`` has a campaign of ``benchmarks/synthetic_campaigns.py``, a target from a CSV file, crystals with
predicted curves and three labelled crystals, all made and exported by the code of that version.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.tools.archive import import_archive

from aiida_dosmatgen import report
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.tools.exchange import write_extxyz, write_optimade

ARCHIVE = Path(__file__).with_name("campaign-0.1.0.aiida")
CHECKPOINT = Path(__file__).with_name("denoiser-0.1.0.safetensors")  # the one that this version shipped
DENOISER = "1d61e43b75389ba9"  # its sha256 begins so


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


def test_a_checkpoint_of_version_0_1_0(aiida_profile, tmp_path):
    """The denoiser that this version shipped is stored, and samples."""
    node = CheckpointData.from_file(CHECKPOINT)
    assert node.sha256.startswith(DENOISER) and node.base.attributes.get("kind") == "denoiser"
    assert len(node.base.attributes.get("elements")) == 12
    job = {"kind": "sample", "checkpoint": str(CHECKPOINT), "seed": 1, "stop": 2, "parameters": {"n_atoms": 2, "steps": 3}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert main(["sample", str(tmp_path / "job.json")]) == 0
    assert len(CrystalSet.load(tmp_path / "candidates.npz")) == 2
