"""Distorted crystals: a subgroup of the symmetry is kept, the rest is broken, and vacancies are vacancies."""

import numpy as np
import pytest
import spglib
from ase import Atoms

from aiida_dosmatgen.engine.labelling.distortions import displace, distort_within_subgroup, random_subgroup, remove_atom, strain
from aiida_dosmatgen.engine.labelling.prototypes import PROTOTYPES, build

ROCKSALT = next(p for p in PROTOTYPES if p.name == "rocksalt")
QUARTZ = next(p for p in PROTOTYPES if p.name == "quartz")
FILLING = {"rocksalt": ["Ga", "As"], "quartz": ["Si", "O"]}


def operations(atoms: Atoms) -> int:
    return len(spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4)["rotations"])


@pytest.mark.parametrize("prototype", [ROCKSALT, QUARTZ], ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(6))
def test_a_subgroup_is_a_group_of_symmetries(prototype, seed):
    atoms = build(prototype, FILLING[prototype.name])
    rotations, translations = random_subgroup(atoms, np.random.default_rng(seed))
    assert operations(atoms) % len(rotations) == 0  # Lagrange
    keys = {r.tobytes() for r in rotations}
    assert np.eye(3, dtype=rotations.dtype).tobytes() in keys
    assert all((a @ b).tobytes() in keys for a in rotations for b in rotations)
    scaled = atoms.get_scaled_positions()
    for rotation, translation in zip(rotations, translations, strict=True):
        offsets = (scaled @ rotation.T + translation)[:, None] - scaled
        distances = np.linalg.norm((offsets - np.round(offsets)) @ atoms.cell.array, axis=-1)
        assert distances.min(1).max() < 1e-3
        np.testing.assert_array_equal(atoms.numbers[distances.argmin(1)], atoms.numbers)


@pytest.mark.parametrize("prototype", [ROCKSALT, QUARTZ], ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(6))
def test_a_distortion_keeps_its_subgroup_and_no_more(prototype, seed):
    atoms = build(prototype, FILLING[prototype.name])
    before = atoms.copy()
    size = len(random_subgroup(atoms, np.random.default_rng(seed))[0])
    distort_within_subgroup(atoms, 0.1, 0.05, np.random.default_rng(seed))
    assert operations(atoms) % size == 0
    assert not np.allclose(atoms.cell.array, before.cell.array)
    if size == 1:
        assert operations(atoms) == 1


def test_over_many_draws_symmetry_is_kept_in_part():
    counts = []
    for seed in range(40):
        atoms = build(QUARTZ, FILLING["quartz"])
        full = operations(atoms)
        distort_within_subgroup(atoms, 0.1, 0.05, np.random.default_rng(seed))
        counts.append(operations(atoms))
    assert {1, full} & set(counts) and any(1 < count < full for count in counts)


def test_random_displacement_and_strain_have_their_amplitude():
    many = Atoms("Si2000", positions=np.zeros((2000, 3)), cell=np.eye(3) * 10, pbc=True)
    rng = np.random.default_rng(1)
    displace(many, 0.1, rng)
    assert many.positions.std() == pytest.approx(0.1, rel=0.05)
    cells = []
    for _ in range(2000):
        atoms = Atoms("Si", cell=np.eye(3) * 10, pbc=True)
        strain(atoms, 0.04, rng)
        cells.append(atoms.cell.array / 10 - np.eye(3))
    epsilon = np.array(cells)
    np.testing.assert_allclose(epsilon, epsilon.swapaxes(1, 2), atol=1e-12)
    assert np.diagonal(epsilon, axis1=1, axis2=2).std() == pytest.approx(0.04, rel=0.05)


def test_a_vacancy_is_one_atom_less():
    atoms = build(QUARTZ, FILLING["quartz"])
    remove_atom(atoms, np.random.default_rng(0))
    assert len(atoms) == 8
