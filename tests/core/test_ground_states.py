import numpy as np
import pytest
import spglib
from ase.data import covalent_radii

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.ground_states import ground_state

ELEMENTS = (
    "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd "
    "In Sn Sb Te I Cs Ba La Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi"
).split()


@pytest.mark.parametrize("symbol", ELEMENTS)
def test_neighbours_touch(symbol):
    """Bonds are about as long as two covalent radii, and the cell holds few atoms."""
    atoms = ground_state(symbol)
    assert 1 <= len(atoms) <= 29 and set(atoms.symbols) == {symbol}
    nearest = min(np.linalg.norm(d, axis=-1)[np.linalg.norm(d, axis=-1) > 0.1].min() for d in _neighbours(atoms))
    assert 0.75 < nearest / (2 * covalent_radii[atoms.numbers[0]]) < 1.3


def _neighbours(atoms):
    shifts = np.array(np.meshgrid(*[range(-2, 3)] * 3)).reshape(3, -1).T @ atoms.cell.array
    for position in atoms.positions:
        yield (atoms.positions[None] + shifts[:, None] - position).reshape(-1, 3)


@pytest.mark.parametrize(
    ("symbol", "spacegroup", "n_atoms"),
    [
        ("Se", 152, 3),
        ("O", 12, 2),
        ("B", 166, 12),
        ("Mn", 217, 29),
        ("Cl", 64, 4),
        ("La", 194, 4),
        ("Fe", 229, 1),
        ("S", 148, 6),
    ],
)
def test_space_groups(symbol, spacegroup, n_atoms):
    atoms = ground_state(symbol)
    found = spglib.get_spacegroup((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    assert found.endswith(f"({spacegroup})") and len(atoms) == n_atoms


def test_what_is_not_known_is_said():
    with pytest.raises(ContentError, match="no crystal structure of Og"):
        ground_state("Og")
