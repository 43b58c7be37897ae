"""A whole campaign for wishes: the shipped models and the real pw.x, from samples to a ranking that says what is met."""

import sys
from pathlib import Path

import pytest
from aiida.engine import run_get_node

from aiida_dosmatgen import report
from aiida_dosmatgen.core.target.distances import ONE_MISS
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.setup import ensure_debian_family, ensure_models
from aiida_dosmatgen.tools.ranking import best_of, format_ranking
from aiida_dosmatgen.workflows.campaign import CampaignWorkChain

from ..campaigns import ports, what_failed
from .conftest import QUICK, SERIAL

WISHES = ("states from -4 to 0: >= 2", "peak at -3 +- 0.5", "p states from -4 to 0: 2.5 +- 1 (weight 2)", "gap <= 0.3")


@pytest.fixture
def codes(real_codes, aiida_code_installed):
    """The executables as they are installed here."""
    executable = str(Path(sys.executable).with_name("dosmatgen"))
    dosmatgen = aiida_code_installed(
        label="real-dosmatgen", default_calc_job_plugin="dosmatgen.sample", filepath_executable=executable
    )
    return {**real_codes, "dosmatgen": dosmatgen}


@pytest.mark.slow
def test_a_campaign_for_wishes(codes, tmp_path):
    target = DosTargetData.from_wishes(WISHES, n_atoms=2)
    builder = CampaignWorkChain.get_builder_from_protocol(
        codes,
        {"wishes": target},
        **ports(ensure_models()),
        protocol="fast",
        overrides={
            "candidates": {
                "sample": {"parameters": {"steps": 15, "constraints": {"sites": [{"sites": "all", "element": "Si"}]}}},
                "relax": {"parameters": {"max_steps": 10}},
                "criteria": {"max_formation_energy": None, "require_converged": False, "unique": False},
            },
            "validate": {"pseudo_family": ensure_debian_family().label, "recipe": QUICK},
        },
        options={"max_wallclock_seconds": 1200},
        dft_options=SERIAL,
        seed=1,
        n_candidates=6,
        top_k=2,
    )
    campaign = run_get_node(builder)[1]
    assert campaign.is_finished_ok, what_failed(campaign)
    rows = campaign.outputs.ranking.get_dict()["targets"]["wishes"]
    validated = [row for row in rows if row["status"] == "validated"]
    assert validated
    for row in rows:
        predicted = {one["wish"]: one for one in row["wishes"]}
        assert list(predicted) == [str(one) for one in target.target.wishes]
        channel = predicted["p states from -4 to 0 eV: 2.5 +- 1 per atom (weight 2)"]
        assert channel["met"] in (True, False) and channel["value"] > 0  # the predictor tells p states from others
        assert row["predicted_distance"] is None and row["distance"] == pytest.approx(ONE_MISS * row["missed"])
    for row in validated:
        by_dft = row["dft"]["wishes"]
        assert all(one["value"] is not None for one in by_dft)
        assert by_dft[3]["value"] == row["dft"]["gap"] and "note" not in by_dft[3]
        assert row["dft"]["mae"] is None and row["dft"]["distance"] == pytest.approx(ONE_MISS * row["dft"]["missed"])
    assert [row["dft"]["distance"] for row in validated] == sorted(row["dft"]["distance"] for row in validated)
    predicted = [row["score"] for row in campaign.outputs.reports["wishes"].get_dict()["ranking"]]
    assert predicted == sorted(predicted)
    assert best_of(campaign)["candidate"] == validated[0]["candidate"]
    printed = format_ranking(campaign)
    assert "of 4 wishes" in printed and "p states from -4 to 0 eV" in printed
    page = tmp_path / "page.html"
    report.write(campaign, page)
    assert "Wish: p states from −4 to 0 eV" in page.read_text()
