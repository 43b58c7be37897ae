"""``dosmatgen label`` with the real pw.x: the labelled set, its splits, its data card, and continuing where it stopped."""

import json
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import LabelJob, sha256_of
from aiida_dosmatgen.core.labelled.splits import system_of
from aiida_dosmatgen.engine.commands.label import run

pytestmark = pytest.mark.skipif(shutil.which("pw.x") is None, reason="Quantum ESPRESSO is not installed")

SPLIT = {"system_fraction": 0.5, "prototype_fraction": 0.5, "seed": 3}


def job(**changes) -> LabelJob:
    settings = {"kpoints_distance": 0.8, "max_seconds_per_crystal": 120}
    return LabelJob.model_validate(
        {"kind": "label", "crystals": "crystals.npz", "settings": settings, "workers": 2, "split": SPLIT, **changes}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Silicon, xenon (no pseudopotential), silicon squeezed too much, and compounds that the split puts on either side."""
    squeezed = bulk("Si")
    squeezed.set_cell(squeezed.cell * 0.65, scale_atoms=True)
    atoms: list[Atoms] = [bulk("Si"), bulk("Xe"), squeezed]
    atoms += [bulk(name, "zincblende", a=a) for name, a in (("BN", 3.62), ("SiC", 4.36), ("BAs", 4.78), ("GeC", 4.6))]
    names = ["elemental", "elemental", "elemental", *["zincblende"] * 4]
    path = tmp_path_factory.mktemp("label")
    CrystalSet.from_ase(atoms).with_columns(crystal={"prototype": np.array(names)}).save(path / "crystals.npz")
    return path


@pytest.fixture(scope="module")
def first(folder):
    """The results and the card of the first run."""
    results = run(job(), folder)
    return results, json.loads((folder / "data_card.json").read_text())


def test_the_card_says_what_is_in_the_set_and_what_is_not(folder, first):
    results, card = first
    labelled = CrystalSet.load(folder / "labelled.npz")
    assert len(labelled) == card["n_crystals"] == 5
    assert card["statuses"] == {"ok": 5, "no pseudopotential for Xe": 1, "outlier: a stress above 500 GPa": 1}
    assert card["sha256"] == sha256_of(folder / "labelled.npz")
    assert card["crystals_sha256"] == sha256_of(folder / "crystals.npz")
    assert results.finished
    assert card["computed_in_this_run"]["structures"] == 7
    assert card["computed_in_this_run"]["structures_per_hour"] > 0


def test_the_splits_are_in_the_set_and_in_the_card(folder, first):
    _, card = first
    labelled = CrystalSet.load(folder / "labelled.npz")
    splits = labelled.crystal_columns["split"]
    compounds = np.array(["-" in system_of(crystal.numbers) for crystal in labelled])
    assert set(splits[~compounds]) == {"train"}
    assert "test-system" in splits[compounds]
    counts = {name: row["n_crystals"] for name, row in card["splits"]["counts"].items()}
    assert sum(counts.values()) == 5
    assert counts["test-system"] == (splits == "test-system").sum()
    assert card["leak"]["test-system"]["system_in_training"] == 0


def test_finished_records_are_used_again(folder, first):
    run(job(settings={"kpoints_distance": 0.8, "pw_command": ["no-such-program"]}, output="again.npz"), folder)
    again = json.loads((folder / "data_card.json").read_text())
    assert again["computed_in_this_run"]["structures"] == 0
    assert "structures_per_hour" not in again["computed_in_this_run"]
    assert CrystalSet.load(folder / "again.npz") == CrystalSet.load(folder / "labelled.npz")


def test_a_run_out_of_time_keeps_what_it_has_and_continues(folder, first, tmp_path):
    shutil.copy(folder / "crystals.npz", tmp_path)
    stopped = run(job(workers=1, runtime={"max_seconds": 0.01}), tmp_path)
    assert not stopped.finished
    assert 1 <= stopped.done < 7
    shutil.copytree(folder / "labels" / "records", tmp_path / "labels" / "records", dirs_exist_ok=True)
    finished = run(job(), tmp_path)
    assert finished.finished
    np.testing.assert_allclose(
        CrystalSet.load(tmp_path / "labelled.npz").crystal_columns["energy"],
        CrystalSet.load(folder / "labelled.npz").crystal_columns["energy"],
        atol=1e-6,
    )
