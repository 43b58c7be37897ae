"""What a data card says of the precision of curves, and of what is in a set."""

import numpy as np
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.labelled.card import data_card, rounding
from aiida_dosmatgen.core.labelled.shards import add_shard, load_shards, read_manifest


def shards(folder, curves):
    """Four crystals in one shard, with curves by spin and channel."""
    atoms = [bulk("SiC", "zincblende", a=4.36), bulk("GaAs", "zincblende", a=5.65), bulk("Si"), bulk("NaCl", "rocksalt", a=5.6)]
    made = CrystalSet.from_ase(atoms)
    columns = {
        "source": np.array(["mp", "oqmd", "elements", "mp"]),
        "id": np.array(["1", "2", "Si", "4"]),
        "kind": np.array(["real", "real", "element", "scaled"]),
        "gap": np.array([1.5, 0.0, 0.6, 5.0]),
        "magnetization": np.array([[0, 0], [1, 1.2], [0, 0.1], [0, 0]]),
        "fallback": np.array([0, 1, 0, 0]),
        "projected": np.array([0.99, 0.98, 0.97, 0.96]),
        "high": np.full(4, 10.0),
        "seconds": np.full(4, 30.0),
    }
    made = made.with_columns(crystal=columns, atom={"dos": curves(len(made.numbers)).astype(np.float16)})
    recipe = {"low": -20.0, "high": 10.0, "sigma": 0.3, "cutoff": 72.0}
    add_shard(folder, made, {"recipe": recipe}, failures={"did not converge": 2})
    return made


def smooth(n):
    rng, energies = np.random.default_rng(0), np.linspace(-20, 10, 201)
    centres = rng.uniform(-10, 5, (n, 2, 4, 1))
    return rng.uniform(0.1, 8, centres.shape) * np.exp(-0.5 * ((energies - centres) / 0.4) ** 2)


def test_the_bound_of_rounding_holds_and_is_not_loose(tmp_path):
    shards(tmp_path, smooth)
    found, exact = load_shards(tmp_path), smooth(8)
    said = rounding(found)
    lost = np.abs((found.atom_columns["dos"].astype(float) - exact).sum((1, 2)))
    assert lost.max() <= said["largest_bound"] < 20 * lost.max()
    assert lost.mean() <= said["mean_bound"] < 20 * lost.mean()
    electrons = np.abs(np.add.reduceat(lost.sum(1), found.offsets[:-1])) * 0.15
    assert electrons.max() <= said["largest_bound_of_electrons"]
    assert said["precision"] == "float16" and abs(said["largest_value"] - exact.max()) < 0.01


def test_the_card_counts_what_is_there(tmp_path):
    shards(tmp_path, smooth)
    manifest = read_manifest(tmp_path)
    crystals = load_shards(tmp_path).with_columns(crystal={"split": np.array(["train", "test-final", "train", "test-system"])})
    card = data_card(crystals, manifest, tmp_path)
    assert (card["n_crystals"], card["n_atoms"], card["systems"]) == (4, 8, 4)
    assert card["elements"] == {"C": 1, "Na": 1, "Si": 2, "Cl": 1, "Ga": 1, "As": 1}
    assert {name: row["crystals"] for name, row in card["sources"].items()} == {"mp": 2, "oqmd": 1, "elements": 1}
    assert card["kinds"] == {"real": 2, "element": 1, "scaled": 1}
    assert card["failures"] == {"did not converge": 2} and card["fallbacks"] == {"0": 3, "1": 1}
    assert (card["gap"]["metals"], card["gap"]["with_a_gap"], card["moment"]["magnetic"]) == (1, 3, 1)
    table = card["splits"]["table"]
    assert [table[name]["crystals"] for name in table] == [2, 1, 0, 1]
    assert table["test-final"]["real"] == 1 and table["test-system"]["real"] == 0
    assert card["leak"]["test-final"]["prototype_in_training"] == 1  # zincblende, as SiC
    assert card["leak"]["test-system"]["prototype_in_training"] == 0
    assert card["bytes"] == (tmp_path / "shard-0001.npz").stat().st_size
