"""docs/tutorials: what a new user types, in order, with real pw.x through a real daemon of its own.

The blocks of first-campaign.md, then those of training.md and the Python of results.md, in one profile.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.dos import DEFAULT_GRID

pytestmark = pytest.mark.tutorial

ROOT = Path(__file__).parents[2]
FIRST, TRAINING, RESULTS = (
    (ROOT / "docs" / page).read_text() for page in ("tutorials/first-campaign.md", "tutorials/training.md", "how-to/results.md")
)


def blocks(text: str, kind: str) -> list[str]:
    """Return the blocks of a kind of a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Return a function that runs commands in a folder with the examples, as a new user without any profile has it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIIDA")},
        "AIIDA_PATH": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
    }

    def run(commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run.folder = folder
    try:
        yield run
    finally:
        subprocess.run(["verdi", "daemon", "stop"], env=environment, cwd=folder, capture_output=True, check=False)


@pytest.fixture(scope="module")
def first(shell):
    """What the blocks of the first tutorial printed, up to the page."""
    return [shell(block) for block in blocks(FIRST, "bash")]


def test_from_a_csv_to_a_ranking_and_a_lineage(first):
    setup, doctor, target, launch, status, lineage = first
    assert "daemon             running" in setup
    assert doctor.endswith("Everything is there.\n")
    assert "my_dos" in target and "energy (eV)" in target
    assert re.match(r"Submitted CampaignWorkChain<\d+>; watch it: aiida-dosmatgen status \d+\n", launch)
    assert "validated" in status and re.search(r"^ +1 +\d+ +(PbTe|TePb)", status, re.MULTILINE), status
    assert re.search(r"candidate +\d+ of seed 1", lineage) and "pseudopotential  Pb" in lineage


def test_the_page(first, shell):
    (block,) = blocks(FIRST, "bash report")
    shell(block)
    page = (shell.folder / "campaign.html").read_text()
    assert page.lower().startswith("<!doctype html>") and "my_dos" in page and "Te" in page


def test_the_campaign_for_others(first, shell):
    shell("aiida-dosmatgen export -o campaign.aiida && verdi archive info campaign.aiida")
    shell("aiida-dosmatgen export -o campaign.extxyz && aiida-dosmatgen export --format optimade -o campaign.json")
    assert "Lattice=" in (shell.folder / "campaign.extxyz").read_text()
    json.loads((shell.folder / "campaign.json").read_text())
    refused = shell("aiida-dosmatgen export -o campaign.xls 2>&1 || echo status $?")
    assert re.fullmatch(r"export: campaign.xls: no format is known by its name; say --format .*\nstatus 2\n", refused)


def test_the_python_of_the_results(first, shell):
    (block,) = blocks(RESULTS, "python aiida")
    (shell.folder / "results.py").write_text(f"{block}\nprint(best['formula'], lineage.candidate)\n")
    assert re.search(r"^\S*Te\S* \d+$", shell("verdi run results.py"), re.MULTILINE)


def test_a_target_from_a_calculation_of_the_campaign(first, shell):
    filters = {"process_type": {"like": "%dosmatgen.dos"}}
    query = f"orm.QueryBuilder().append(orm.WorkChainNode, filters={filters}, project='id').first(flat=True)"
    code = f"from aiida import orm; print({query})"
    (shell.folder / "pdos.py").write_text(code)
    output = shell("aiida-dosmatgen target import $(verdi run pdos.py) --label from-dft && aiida-dosmatgen target list")
    assert re.search(r"from-dft +curves for \d sites", output)


def test_training_on_ones_own_data_and_on_mp_dos(first, shell):
    (python,) = blocks(TRAINING, "python")
    (shell.folder / "mine.py").write_text(python)
    shell("python mine.py")
    (example,) = blocks(TRAINING, "json mp-dos")
    records = json.loads(example)
    for record in records:  # the page does not show 400 numbers
        record["y"] = [np.exp(-((DEFAULT_GRID.points + 2) ** 2)).tolist() for _ in record["atomic_numbers"]]
    (shell.folder / "mp-dos.json").write_text(json.dumps(records))
    own, mp_dos, training, use = (shell(block) for block in blocks(TRAINING, "bash"))
    assert "n_crystals: 40" in own
    assert "mp-dos" in mp_dos
    assert training.count("checkpoint: CheckpointData<") == 2, training
    assert "label: my-predictor" in use and "kind: predictor" in use
    assert re.search(r"predictor: CheckpointData<\d+> my-predictor", use)
