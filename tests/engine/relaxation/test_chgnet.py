"""CHGNet on many crystals at once gives what its own package gives for one after another."""

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, RelaxParameters
from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.relaxation import relax
from aiida_dosmatgen.engine.relaxation.forcefields import CalculatorEvaluator, ChgnetEvaluator, load, universal

pytest.importorskip("chgnet", reason="chgnet is not installed")


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    """Prototypes out of equilibrium, a gas without angles, a lone atom, and an atom with bonds to its own images."""
    rng = np.random.default_rng(1)
    prototypes = generate(["Ti", "S", "Na", "Bi", "O"], 40, 3)[::4]
    moved = prototypes.replace(fractional=prototypes.fractional + rng.normal(0, 0.02, prototypes.fractional.shape))
    gas = CrystalSet([2, 1], [8, 8, 18], [[0, 0, 0], [0, 0, 0.35], [0, 0, 0]], [12 * np.eye(3), 15 * np.eye(3)])
    return CrystalSet.concatenate(
        [moved.replace(crystal_columns={}, atom_columns={}), gas, CrystalSet([1], [29], [[0.2, 0.1, 0]], [1.9 * np.eye(3)])]
    )


@pytest.mark.parametrize("weights", ["0.3.0", "r2scan"])
def test_as_its_own_package(crystals, weights, tmp_path):
    evaluator = load(ForceField(calculator="chgnet", arguments={"weights": weights}), tmp_path, dtype=torch.float32)
    assert isinstance(evaluator, ChgnetEvaluator)
    found, wanted = evaluator.evaluate(crystals), CalculatorEvaluator(universal.chgnet(weights), "chgnet").evaluate(crystals)
    per_atom = crystals.n_atoms
    np.testing.assert_allclose(found.energies / per_atom, wanted.energies / per_atom, atol=2e-5)
    scale = 1 + np.abs(wanted.forces).max()
    np.testing.assert_allclose(found.forces, wanted.forces, atol=3e-4 * scale)
    np.testing.assert_allclose(found.stresses, wanted.stresses, atol=3e-4 * (1 + np.abs(wanted.stresses).max()))


def test_a_crystal_alone_and_among_others(crystals, tmp_path):
    evaluator = load(ForceField(calculator="chgnet"), tmp_path)
    together = evaluator.evaluate(crystals)
    evaluator._rows = 500
    for found in (evaluator.evaluate(crystals), evaluator.evaluate(crystals[:5])):
        for part, whole in zip(found, together, strict=True):
            np.testing.assert_allclose(part, whole[: len(part)], atol=1e-9)


def test_forces_and_stresses_are_the_slopes_of_the_energy(crystals, tmp_path):
    evaluator, step = load(ForceField(calculator="chgnet"), tmp_path), 1e-5
    some = crystals[:4]
    found = evaluator.evaluate(some)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=some.fractional.shape)
    strain = rng.normal(size=(len(some), 3, 3))
    strain = (strain + strain.transpose(0, 2, 1)) / 2

    def energies(sign: int, move: float, deform: float) -> np.ndarray:
        lattices = some.lattices @ (np.eye(3) + sign * step * deform * strain)
        inverse = np.linalg.inv(lattices)[some.crystal_of_atom]
        shift = np.einsum("ni,nij->nj", sign * step * move * direction, inverse)
        return evaluator.evaluate(some.replace(fractional=some.fractional + shift, lattices=lattices)).energies

    slopes = (energies(1, 1, 0) - energies(-1, 1, 0)) / (2 * step)
    work = np.bincount(some.crystal_of_atom, weights=-(found.forces * direction).sum(1))
    np.testing.assert_allclose(slopes, work, rtol=1e-5, atol=1e-5)
    slopes = (energies(1, 0, 1) - energies(-1, 0, 1)) / (2 * step)
    np.testing.assert_allclose(slopes, some.volumes * (found.stresses * strain).sum((1, 2)), rtol=1e-5, atol=1e-5)


def test_threads_of_torch_are_as_before(crystals, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        load(ForceField(calculator="chgnet"), tmp_path, dtype=torch.float32).evaluate(crystals[:2])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_elements(tmp_path):
    evaluator = load(ForceField(calculator="chgnet"), tmp_path)
    assert np.flatnonzero(~evaluator.knows(np.arange(1, 119))).tolist() == [83, 84, 85, 86, 87, *range(94, 118)]


def test_old_weights_go_one_by_one(tmp_path):
    assert isinstance(load(ForceField(calculator="chgnet", arguments={"weights": "0.2.0"}), tmp_path), CalculatorEvaluator)


def test_it_relaxes_in_batches(tmp_path):
    """Rock salt, squeezed, goes back to where it is at rest."""
    rocksalt = CrystalSet([2], [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], 4.0 / 2 * np.array([[[0, 1, 1], [1, 0, 1], [1, 1, 0]]]))
    evaluator = load(ForceField(calculator="chgnet"), tmp_path, dtype=torch.float32)
    (relaxed,) = relax(rocksalt, evaluator, RelaxParameters(fmax=0.02, smax=0.1))
    assert relaxed.status == "converged"
    assert (4 * relaxed.crystal.volumes[0]) ** (1 / 3) == pytest.approx(4.25, abs=0.05)  # PBE: 4.25 Å
