import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.thermo import elemental_references, formation_energy


def crystals(*cells: list[int], energy=None) -> CrystalSet:
    numbers = np.concatenate(cells)
    rng = np.random.default_rng(0)
    made = CrystalSet(
        [len(c) for c in cells], numbers, rng.random((len(numbers), 3)), np.eye(3)[None] * np.full((len(cells), 1, 1), 5.0)
    )
    return made if energy is None else made.with_columns(crystal={"energy": np.asarray(energy, float)})


def test_formation_energy_by_hand():
    # SiC2: (-20 - (-5) - 2(-9)) / 3 = 1 eV/atom; Si2 is its own reference
    found = formation_energy([-20.0, -10.0], crystals([14, 6, 6], [14, 14]), {"Si": -5.0, "C": -9.0})
    assert found == pytest.approx([1.0, 0.0])


def test_missing_references_and_energies_are_nan_and_touch_nothing_else():
    found = formation_energy([-20.0, np.nan, -4.0, -4.0], crystals([14], [14], [79], [14]), {"Si": -5.0, "C": np.nan})
    assert np.isnan(found).tolist() == [False, True, True, False]
    assert found[3] == 1.0


def test_atomic_number_zero_has_no_reference():
    assert np.isnan(formation_energy([1.0], crystals([0]), {"Si": -5.0}))[0]


@pytest.mark.parametrize(
    ("energies", "references", "message"), [([1.0, 2.0], {}, "shape"), ([1.0], {"Xx": 1.0}, "not a chemical element")]
)
def test_bad_input(energies, references, message):
    with pytest.raises(ContentError, match=message):
        formation_energy(energies, crystals([14]), references)


def test_elemental_references_are_the_lowest_per_atom():
    made = crystals([14, 14], [14], [6], [6, 14], [79], energy=[-10.0, -5.5, -9.0, -99.0, np.nan])
    assert elemental_references(made) == {"C": -9.0, "Si": -5.5}
    assert list(elemental_references(made)) == ["C", "Si"]


def test_elemental_references_need_energies():
    with pytest.raises(ContentError, match="no column 'energy'"):
        elemental_references(crystals([14]))
