import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.engine.labelling.order import balanced, relative_cost


def of(*numbers):
    n = len(numbers)
    return CrystalSet([n], numbers, np.linspace(0, 1, n, endpoint=False)[:, None].repeat(3, 1), 4.0 * np.eye(3)[None])


def test_rare_elements_come_early_and_cheap_crystals_first():
    crystals = CrystalSet.concatenate([of(14), of(14, 14), of(14, 6), of(72), of(14)])
    order = balanced(crystals, np.array([1.0, 2.0, 3.0, 9.0, 1.5]))
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[0] == 0
    assert set(order[1:3]) == {2, 3}  # carbon and hafnium, which nothing before has
    assert order[-2:].tolist() == [4, 1]


def test_what_is_wanted_first_comes_first():
    crystals = CrystalSet.concatenate([of(14), of(14, 14), of(14, 6), of(72), of(6)])
    first = np.array([False, True, False, True, False])
    order = balanced(crystals, np.array([1.0, 9.0, 3.0, 5.0, 1.5]), first)
    assert order[:2].tolist() == [3, 1] and order[2] == 4  # carbon, which neither of them has


def test_kinds_that_are_wanted_have_their_share_of_each_beginning():
    crystals = CrystalSet.concatenate([of(14)] * 30 + [of(14, 14)] * 10)
    large = crystals.n_atoms == 2
    costs = np.where(large, 100.0, 1.0) + np.arange(40)
    order = balanced(crystals, costs, shares=[(large, 0.2)])
    assert sorted(order) == list(range(40))
    for n in (5, 10, 20, 40):
        assert n * 0.2 <= large[order[:n]].sum() <= max(n * 0.2 + 1, n - 30)


def test_an_element_that_only_dear_crystals_hold_does_not_come_last():
    crystals = CrystalSet.concatenate([of(14)] * 300 + [of(72, 72, 72)] * 5)
    order = balanced(crystals, crystals.n_atoms * 1.0)
    assert (crystals.n_atoms[order[:20]] == 3).sum() == 5


def test_low_symmetry_spin_and_size_cost():
    cube, triclinic = of(14), of(14).replace(lattices=np.array([[[4, 0, 0], [0.5, 4.1, 0], [0.3, 0.7, 3.9]]]))
    cost = relative_cost(cube, 4, (6, 6, 6), spin=False)
    assert relative_cost(triclinic, 4, (6, 6, 6), spin=False) > 5 * cost
    assert relative_cost(cube, 4, (6, 6, 6), spin=True) == 2 * cost
    assert relative_cost(cube, 40, (6, 6, 6), spin=False) > 2 * cost
