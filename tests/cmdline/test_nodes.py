"""``aiida-dosmatgen checkpoint``, ``forcefield`` and ``dataset``."""

import json

import numpy as np
import pytest
import yaml
from aiida import orm

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.job import Splits
from aiida_dosmatgen.core.labelled.shards import add_shard
from aiida_dosmatgen.data.forcefield import ForceFieldData


def test_a_checkpoint(aiida_profile_clean, run, checkpoint_file):
    assert "setup localhost" in run("checkpoint", "list")
    path = checkpoint_file("predictor", "p.safetensors")
    first = run("checkpoint", "import", path, "--label", "mine")
    assert run("checkpoint", "import", path) == first  # stored once, and keeps its label
    second = run("checkpoint", "import", path, "--label", "yours")  # the first keeps its label, too
    assert second != first and run("checkpoint", "import", path, "--label", "yours") == second
    assert (
        yaml.safe_load(run("checkpoint", "show", "yours"))["sha256"]
        == yaml.safe_load(run("checkpoint", "show", "mine"))["sha256"]
    )
    assert "mine" in run("checkpoint", "list") and "predictor" in run("checkpoint", "list")
    card = yaml.safe_load(run("checkpoint", "show", "mine"))
    assert card["kind"] == "predictor" and card["training"]["n_crystals"] == 3 and card["elements"] == ["B", "C", "N", "Si"]
    assert "is not a safetensors file" in run("checkpoint", "import", __file__, status=2)
    assert "a checkpoint" in run("checkpoint", "show", "nobody", status=2)


def test_a_force_field(aiida_profile_clean, run, model_file):
    assert "setup localhost" in run("forcefield", "list")
    assert run("forcefield", "import", model_file).split()[1] == "mace"
    assert run("forcefield", "import", "mace:medium-mpa-0").split()[1] == "medium-mpa-0"
    assert run("forcefield", "import", "ase.calculators.emt:EMT", "--label", "emt").split()[1] == "emt"
    listed = run("forcefield", "list")
    field = ForceFieldData.from_file(model_file)
    assert "not to " + "0" * 64 in run("forcefield", "trust", "mace", "0" * 64, status=2)
    assert not orm.load_node(label="mace").is_trusted
    assert "trusted" in run("forcefield", "trust", "mace", field.sha256)
    assert orm.load_node(label="mace").is_trusted
    assert all(kind in listed for kind in ("mace-file", "foundation", "calculator"))
    assert yaml.safe_load(run("forcefield", "show", "emt"))["name"] == "ase.calculators.emt:EMT"
    assert "'nothing' is no file; give" in run("forcefield", "import", "nothing", status=2)


@pytest.fixture
def record(crystals):
    """An MP-DOS record."""
    crystal = crystals[1]
    return {
        "structure_id": "mp-1",
        "positions": (crystal.fractional @ crystal.lattices[0]).tolist(),
        "cell": crystal.lattices[0].tolist(),
        "atomic_numbers": crystal.numbers.tolist(),
        "y": np.exp(-(DEFAULT_GRID.points**2) * np.ones((2, 1))).tolist(),
    }


def test_a_data_set(aiida_profile_clean, run, labelled, record, tmp_path):
    assert "setup localhost" in run("dataset", "list")
    labelled.save(tmp_path / "labelled.npz")
    assert run("dataset", "import", tmp_path / "labelled.npz").split()[1] == "labelled"
    card = yaml.safe_load(run("dataset", "show", "labelled"))
    assert card["n_crystals"] == 3 and card["has_energies"] is True
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    run("dataset", "import", tmp_path / "a.json", tmp_path / "b.json", "--label", "mp-dos")
    card = yaml.safe_load(run("dataset", "show", "mp-dos"))
    assert card["n_crystals"] == 2 and card["card"]["sources"] == {"MP-DOS": 2} and card["card"]["dropped"] == 0
    assert "yes" in run("dataset", "list") and "no" in run("dataset", "list")
    line = run("dataset", "import", tmp_path / "a.json", tmp_path / "labelled.npz", status=2)
    assert "an npz file and a folder of shards are a set each" in line
    whole = dict(record)
    del record["y"]
    (tmp_path / "bad.json").write_text(json.dumps(record))
    reason = "bad.json, record 0: it is not an MP-DOS record: it lacks y"
    assert reason in run("dataset", "import", tmp_path / "bad.json", status=2)
    (tmp_path / "half.json").write_text(json.dumps([record, whole]))
    run("dataset", "import", tmp_path / "half.json")
    dropped = yaml.safe_load(run("dataset", "show", "half"))["card"]["dropped_records"]
    assert dropped == {"half.json, record 0": "it is not an MP-DOS record: it lacks y"}
    named = labelled.with_columns(crystal={"source": np.full(3, "own"), "id": np.array(["1", "2", "3"])})
    add_shard(tmp_path / "shards", named, {"cutoff": 70}, splits=Splits(final_fraction=0.5))
    run("dataset", "import", tmp_path / "shards" / "manifest.json", "--label", "grown")
    card = yaml.safe_load(run("dataset", "show", "grown"))
    assert card["n_crystals"] == 3 and list(card["card"]["shards"]) == ["shard-0001.npz"]
    assert {"prototype", "split", "source", "id"} <= set(card["columns"]["crystal"])
    assert run("dataset", "import", tmp_path / "shards").split()[1] == "grown"  # stored once
    run("dataset", "split", "grown", "--final", "0.99", "--label", "kept")
    counts = yaml.safe_load(run("dataset", "show", "kept"))["card"]["splits"]["counts"]
    assert counts["test-final"]["n_crystals"] == 2 and counts["train"]["n_crystals"] == 1  # elements are never held out
