"""A campaign elsewhere: in another profile, and without AiiDA."""

import json
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from aiida import orm
from aiida.manage import get_manager
from aiida.tools.archive import import_archive
from optimade.models import StructureResource
from pymatgen.core import Structure
from pymatgen.io.optimade import OptimadeStructureAdapter

from aiida_dosmatgen import report
from aiida_dosmatgen.tools.campaign import compared, results_of
from aiida_dosmatgen.tools.exchange import export_archive, write_extxyz, write_optimade

PAGE = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.fixture
def campaign(make_campaign):
    """A campaign of 12 ranked crystals, of which 3 are validated and 1 failed."""
    return make_campaign(sites=2, n_candidates=20, n_ranked=12, n_validated=3, n_failed=1, label="the campaign")


def test_an_archive_repeats_lineage_ranking_and_page(campaign, tmp_path, aiida_config, aiida_profile_factory):
    uuid, lineage, frame = campaign.uuid, campaign.tools.lineage(), campaign.tools.to_dataframe()
    page = report.write(campaign, tmp_path / "here.html").read_bytes()
    archive = export_archive(campaign, tmp_path / "campaign.aiida")
    assert [one.name for one in tmp_path.glob("*campaign.aiida*")] == ["campaign.aiida"]
    with aiida_profile_factory(aiida_config, name="empty") as profile:
        assert get_manager().get_profile().name == profile.name
        assert orm.QueryBuilder().append(orm.Node).count() == 0
        orm.Int(1).store()  # so that nodes have other keys than there
        import_archive(archive)
        imported = orm.load_node(uuid)
        assert imported.tools.lineage() == lineage
        assert imported.tools.to_dataframe().equals(frame)
        assert report.write(imported, tmp_path / "there.html").read_bytes() == page
        assert imported.inputs.candidates.checkpoint.header.kind == "denoiser"


def test_optimade_entries_are_valid_and_hold_the_results(campaign, tmp_path):
    content = json.loads(write_optimade(campaign, tmp_path / "results.json").read_text())
    results = results_of(campaign)
    assert content["meta"]["data_returned"] == len(content["data"]) == len(results.crystals) == 12
    described = content["meta"]["_dosmatgen_properties"]
    target = results.targets["target"]
    for entry, crystal in zip(content["data"], results.crystals, strict=True):
        StructureResource(**entry)  # refuses what the standard does
        attributes = entry["attributes"]
        structure = OptimadeStructureAdapter.get_structure(entry)
        assert np.allclose(structure.cart_coords, crystal.crystal.positions)
        assert structure.composition.formula == Structure.from_sites(crystal.crystal.to_pymatgen()[0]).composition.formula
        own = {name for name in attributes if name.startswith("_")}
        assert own == set(described)
        assert attributes["_dosmatgen_dft_gap"] == (crystal.row.get("dft") or {}).get("gap")
        assert attributes["_dosmatgen_dft_mae"] == (crystal.row.get("dft") or {}).get("mae")
        if crystal.validated:
            dft = compared(target, crystal, crystal.dft)
            assert np.allclose(attributes["_dosmatgen_dft_dos"], dft, atol=1e-5)
            assert attributes["_dosmatgen_dft_complete_below"] == crystal.complete_below
        else:
            assert attributes["_dosmatgen_dft_dos"] is None
    there = content["meta"]["_dosmatgen_targets"]["target"]
    assert np.allclose(there["target_dos"], target.curves, atol=1e-5)
    assert there["dos_energies"] == {"emin": -10.0, "emax": 10.0, "n": 400, "unit": "eV"}
    ids = [entry["id"] for entry in content["data"]]
    assert len(set(ids)) == len(ids) and all(campaign.uuid in one for one in ids)


def test_what_the_documentation_reads_can_be_read(campaign, tmp_path, monkeypatch):
    write_optimade(campaign, tmp_path / "results.json")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1], names)
    assert len(names["structures"]) == 3
    best = min(names["best"], key=lambda entry: entry["attributes"]["_dosmatgen_dft_mae"])
    assert best["attributes"]["_dosmatgen_candidate"] == campaign.tools.best()["candidate"]


def test_extxyz_is_read_back(campaign, tmp_path):
    frames = ase.io.read(write_extxyz(campaign, tmp_path / "results.extxyz"), index=":")
    crystals = results_of(campaign).crystals
    assert len(frames) == len(crystals)
    for frame, crystal in zip(frames, crystals, strict=True):
        expected = crystal.crystal.to_ase()[0]
        assert frame.pbc.all() and (frame.numbers == expected.numbers).all()
        assert np.allclose(frame.cell, expected.cell, atol=1e-6)
        assert np.allclose(frame.positions, expected.positions, atol=1e-6)
        assert (frame.info["target"], frame.info["candidate"], frame.info["status"]) == (
            "target",
            crystal.row["candidate"],
            crystal.row["status"],
        )
        assert ("dft_mae" in frame.info) is crystal.validated
        if crystal.validated:
            assert np.isclose(frame.info["dft_mae"], crystal.row["dft"]["mae"])
        assert ("reason" in frame.info) is (crystal.row["status"] == "failed")


@pytest.mark.parametrize("write", [export_archive, write_optimade, write_extxyz])
def test_what_is_no_campaign_is_refused_and_nothing_is_written(aiida_profile, tmp_path, write):
    with pytest.raises(ValueError, match="is no campaign; give a CampaignWorkChain"):
        write(orm.Int(1).store(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
