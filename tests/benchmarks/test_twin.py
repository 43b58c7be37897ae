"""Which crystals of the shards are computed again, and how two labels of one crystal are compared."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def twin(monkeypatch):
    """Import the script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import twin

    yield twin
    sys.modules.pop("twin", None)
    sys.modules.pop("labelling", None)


def labelled(shift=0.0, dtype=np.float16):
    energies = np.linspace(-20, 10, 201)
    curve = 3 * np.exp(-0.5 * ((energies + 2 - shift) / 0.4) ** 2) * np.ones((2, 2, 4, 1))
    numbers = {"energy": -10 + shift, "zero": 5 + shift, "gap": 1.0, "seconds": 4.0}
    columns = {name: np.array([value]) for name, value in numbers.items()}
    atoms = {"forces": np.full((2, 3), shift), "dos": curve.astype(dtype)}
    return CrystalSet.from_ase(bulk("SiC", "zincblende", a=4.36)).with_columns(crystal=columns, atom=atoms)


def test_crystals_are_drawn_at_random_among_the_cheap_ones(twin):
    seconds = np.arange(40.0)
    crystals = CrystalSet.concatenate([labelled()] * 40).with_columns(crystal={"seconds": seconds})
    rows = twin.draw(crystals, 5, 20, seed=1)
    assert len(set(rows.tolist())) == 5 and seconds[rows].max() <= 20
    assert rows.tolist() == twin.draw(crystals, 5, 20, seed=1).tolist() != twin.draw(crystals, 5, 20, seed=2).tolist()
    with pytest.raises(SystemExit, match="only 21 crystals"):
        twin.draw(crystals, 30, 20, seed=1)


def test_labels_that_differ_are_told(twin):
    same = twin.differences(labelled(), labelled(dtype=np.float32))
    assert same["formula"] == "SiC" and same["rounded_largest"] == 0 < same["dos_largest"] < 0.02
    other = twin.differences(labelled(), labelled(0.02, np.float32))
    assert other["energy_meV_per_atom"] == pytest.approx(10) and other["forces_eV_per_A"] == pytest.approx(0.02)
    assert other["zero_eV"] == pytest.approx(0.02) and other["gap_eV"] == 0
    assert other["dos_largest"] > 10 * same["dos_largest"]
