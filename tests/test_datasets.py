"""The shards of labelled crystals in the repository are what their manifest says, and their curves are whole."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.dft.pseudodojo import table
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.labelled.prototypes import UNKNOWN
from aiida_dosmatgen.core.labelled.reserved import RESERVED, reserved_in
from aiida_dosmatgen.core.labelled.shards import load_shards, names_of, read_manifest, splits_of
from aiida_dosmatgen.core.labelled.splits import SPLIT_NAMES, assign, chosen, systems_of, without_test
from aiida_dosmatgen.engine.training.dataset import load_labelled

from .shards import SHARDS, needs_shards

ROOT = Path(__file__).parents[1]

pytestmark = needs_shards


@pytest.fixture(scope="module")
def crystals():
    return load_shards(SHARDS)


def test_each_crystal_is_there_once_and_has_a_source(crystals):
    names = names_of(crystals)
    assert len(set(names)) == len(names) == len(crystals)
    real = {"mp", "oqmd", "alexandria", "jarvis", "mp-phonons"}
    assert {name.split(":")[0] for name in names} <= real | {"elements", "aflow"}
    crystals.check()


def test_no_crystal_is_of_a_reserved_system(crystals):
    assert len((SHARDS / RESERVED).read_text().split()) == 604
    assert reserved_in(crystals, SHARDS) == []


def test_the_settings_are_those_of_the_recipe_and_the_pseudopotentials_are_known():
    settings = read_manifest(SHARDS)["settings"]
    assert Recipe.model_validate(settings["recipe"]).cutoff == 72
    known = {f"{symbol}.upf": entry["sha256"] for symbol, entry in table().items()}
    assert settings["pseudopotentials"] == known


def test_the_states_below_zero_are_those_of_the_electrons(crystals):
    """Semicore states lie below the first energy of the curves, so a crystal may hold fewer electrons there, and never more."""
    recipe = Recipe.model_validate(read_manifest(SHARDS)["settings"]["recipe"])
    dos = crystals.atom_columns["dos"]
    assert dos.shape[1:] == (2, 4, len(recipe.energies))
    assert np.isfinite(dos).all()
    below = dos[..., recipe.energies <= 0].astype(float).sum((1, 2, 3)) * recipe.spacing
    held = np.add.reduceat(below, crystals.offsets[:-1])
    columns = crystals.crystal_columns
    assert (held < columns["n_electrons"] * 1.02 + 0.3).all()
    assert (held > 0.5).all()
    assert (columns["high"] >= recipe.least_high).mean() > 0.99
    assert (columns["projected"] > 0.8).all()  # 0.81 in beryllium, whose pseudopotential has no 2p orbital to project on


def test_card_and_page_are_those_of_the_shards(crystals):
    spec = importlib.util.spec_from_file_location("make_labels_page", ROOT / "docs" / "make_labels_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    card, manifest = json.loads((SHARDS / "data_card.json").read_text()), read_manifest(SHARDS)
    again = "a shard was added; run: python docs/make_labels_page.py"
    assert {name: row["sha256"] for name, row in card["shards"].items()} == {
        shard["file"]: shard["sha256"] for shard in manifest["shards"]
    }, again
    assert card["n_crystals"] == len(crystals) and sum(card["kinds"].values()) == len(crystals), again
    assert card["elements"] == {
        symbol: sum(symbol in system.split("-") for system in systems_of(crystals)) for symbol in card["elements"]
    }
    assert module.PAGE.read_text() == module.page(card), again


def test_every_crystal_has_a_prototype_and_a_split_by_the_rule_of_the_manifest(crystals):
    columns, manifest = crystals.crystal_columns, read_manifest(SHARDS)
    assert UNKNOWN not in columns["prototype"].tolist(), "run: python docs/make_labels_page.py --crystals ALL-CRYSTALS.npz"
    assert set(columns["split"]) == set(SPLIT_NAMES)
    np.testing.assert_array_equal(columns["split"], assign(crystals, **splits_of(manifest).model_dump()))
    systems = np.array(systems_of(crystals))
    for name in ("test-system", "test-final"):
        assert not set(systems[columns["split"] == name]) & set(systems[columns["split"] != name])
    learnt = columns["split"] == "train"
    compounds = np.char.find(systems, "-") > 0
    held_out = set(columns["prototype"][columns["split"] == "test-prototype"])
    assert not held_out & set(columns["prototype"][learnt & compounds])
    assert all("-" in system for system in systems[~learnt])


def test_models_are_never_trained_on_what_is_kept_for_tests():
    learnt, kept = without_test(load_labelled(SHARDS))
    assert kept > 0 and set(learnt.crystal_columns["split"]) == {"train"}
    real = chosen(load_shards(SHARDS), ["test-final"], ["real"])
    assert not set(systems_of(real)) & set(systems_of(learnt))
