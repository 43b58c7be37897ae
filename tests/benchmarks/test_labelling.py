"""The labelling benchmark: what it compares is what it says, and its command labels with both and leaves nothing behind."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.engine.labelling.pwscf import estimated_cost

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def labelling(monkeypatch):
    """Import the script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import labelling

    yield labelling
    sys.modules.pop("labelling", None)


@pytest.mark.slow
def test_the_chosen_are_cheap_of_many_kinds_and_the_same_again(labelling):
    crystals, settings = CrystalSet.load(labelling.DATASET)[:600], LabelSettings()
    chosen = labelling.choose(crystals, settings, 8, 5.0, seed=1)
    rows = chosen.crystal_columns["row"].tolist()
    assert len(set(rows)) == 8 and set(chosen.crystal_columns) == {"row"} and not chosen.atom_columns
    assert all(estimated_cost(crystal, settings) <= 5 for crystal in chosen)
    assert chosen.formulas == crystals[rows].formulas
    assert len(set(chosen.numbers.tolist())) >= 6 and len(set(chosen.n_atoms.tolist())) >= 2
    assert labelling.choose(crystals, settings, 8, 5.0, seed=1).crystal_columns["row"].tolist() == rows
    with pytest.raises(SystemExit, match="raise --max-cost"):
        labelling.choose(crystals, settings, 8, 1e-9, seed=1)


def test_differences_are_the_largest_ones_of_the_crystals_that_both_have(labelling, labelled):
    labelled = labelled.with_columns(crystal={"row": np.array([7, 3, 5])})
    same = labelling.differences(labelled, labelled[[2, 0]])
    assert same["compared"] == 2 and set(same["largest"].values()) == {0.0}
    crystal = {"energy": labelled.crystal_columns["energy"].copy()}
    atom = {name: labelled.atom_columns[name].copy() for name in ("forces", "dos")}
    crystal["energy"] += [0.002, 0.0, 0.0]  # of two atoms
    atom["forces"][5, 2] -= 0.25
    atom["dos"][1, 7] += 0.125
    found = labelling.differences(labelled.with_columns(crystal, atom)[[2, 0, 1]], labelled)
    assert found["compared"] == 3
    expected = {"energy_meV_per_atom": 1.0, "forces_eV_per_A": 0.25, "dos_states_per_eV_per_atom": 0.125}
    assert found["largest"] == pytest.approx(expected, rel=1e-3)


def test_the_overhead_is_what_the_programs_do_not_explain(labelling):
    jobs = {"program_seconds_per_structure": 3.0, "job_seconds_per_structure": 8.0}
    chain = {"structures": 4, "wall_seconds": 20.0, "workers": 2, "computed_in_this_run": jobs}
    assert labelling.overhead({"wall_seconds": 8.0}, chain) == {"wall": 3.0, "beyond_programs": 3.5, "jobs": 5.0}


@pytest.fixture
def short_folder():
    """A folder whose name is short enough for the sockets of the broker: Unix allows them about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="dosmatgen-") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_command_labels_with_both_and_leaves_nothing_behind(tmp_path, short_folder, crystals):
    crystals[0].save(tmp_path / "silicon.npz")
    arguments = [
        "--json",
        "--dataset",
        str(tmp_path / "silicon.npz"),
        "--count",
        "1",
        "--bands-distance",
        "0.8",
        "--cutoff",
        "18",
    ]
    arguments += ["--bands-distance", "0.8", "--cutoff", "18", "-o", str(tmp_path / "result.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(short_folder)}
    command = [sys.executable, str(BENCHMARKS / "labelling.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == result
    assert result["compared"] == 1 and result["work_chain"]["failed"] == {} and result["engine"]["statuses"] == {"ok": 1}
    largest = result["largest"]
    assert largest["energy_meV_per_atom"] < 0.1 and largest["forces_eV_per_A"] < 1e-3
    assert largest["dos_states_per_eV_per_atom"] < 0.005  # in half precision
    computed = result["work_chain"]["computed_in_this_run"]
    assert (computed["structures"], computed["jobs"], computed["jobs_from_cache"]) == (1, 3, 0)
    assert result["work_chain"]["wall_seconds"] > computed["wall_seconds"] > computed["program_seconds_per_structure"] > 0
    assert not list(short_folder.glob("labelling-*"))
    here = str(short_folder)
    assert not [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("AIIDA_PATH", "").startswith(here)]
