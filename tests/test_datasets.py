"""The shards of labelled crystals in the repository are what their manifest says, and their curves are whole."""

from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.dft.pseudodojo import table
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.labelled.reserved import RESERVED, reserved_in
from aiida_dosmatgen.core.labelled.shards import load_shards, names_of, read_manifest

FOLDER = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the shards are in the repository, not in the package")


@pytest.fixture(scope="module")
def crystals():
    return load_shards(FOLDER)


def test_each_crystal_is_there_once_and_has_a_source(crystals):
    names = names_of(crystals)
    assert len(set(names)) == len(names) == len(crystals)
    real = {"mp", "oqmd", "alexandria", "jarvis", "mp-phonons"}
    assert {name.split(":")[0] for name in names} <= real | {"elements", "aflow"}
    crystals.check()


def test_no_crystal_is_of_a_reserved_system(crystals):
    assert len((FOLDER / RESERVED).read_text().split()) == 604
    assert reserved_in(crystals, FOLDER) == []


def test_the_settings_are_those_of_the_recipe_and_the_pseudopotentials_are_known():
    settings = read_manifest(FOLDER)["settings"]
    assert Recipe.model_validate(settings["recipe"]).cutoff == 72
    known = {f"{symbol}.upf": entry["sha256"] for symbol, entry in table().items()}
    assert settings["pseudopotentials"] == known


def test_the_states_below_zero_are_those_of_the_electrons(crystals):
    """Semicore states lie below the first energy of the curves, so a crystal may hold fewer electrons there, and never more."""
    recipe = Recipe.model_validate(read_manifest(FOLDER)["settings"]["recipe"])
    dos = crystals.atom_columns["dos"]
    assert dos.shape[1:] == (2, 4, len(recipe.energies))
    assert np.isfinite(dos).all()
    below = dos[..., recipe.energies <= 0].astype(float).sum((1, 2, 3)) * recipe.spacing
    held = np.add.reduceat(below, crystals.offsets[:-1])
    columns = crystals.crystal_columns
    assert (held < columns["n_electrons"] * 1.02 + 0.3).all()
    assert (held > 0.5).all()
    assert (columns["high"] >= recipe.least_high).mean() > 0.99
    assert (columns["projected"] > 0.85).all()
