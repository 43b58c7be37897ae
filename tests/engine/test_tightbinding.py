"""Tight binding: checked against bands that can be written down, and against symmetry."""

import ase.build
import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.engine.dataset import niggli
from aiida_dosmatgen.engine.tightbinding import TERM_VALUES, tight_binding_dos

from .labelled import labelled


def test_free_atoms_have_their_term_values():
    box = CrystalSet.from_ase(ase.build.bulk("Si", "sc", a=12.0))
    dos = tight_binding_dos(box)[0]
    _, s, p = TERM_VALUES["Si"]
    points = DEFAULT_GRID.points
    width = np.abs(points - (s - p)) < 1.5  # p is half filled, so it is the zero
    assert dos[width].sum() * DEFAULT_GRID.spacing == pytest.approx(2, abs=0.01)
    assert dos.sum() * DEFAULT_GRID.spacing == pytest.approx(8, abs=0.01)
    assert points[dos.argmax()] == pytest.approx(0, abs=DEFAULT_GRID.spacing)


def test_a_dimer_splits_as_it_must():
    """Two s levels and the ppσ and ppπ levels of a homonuclear pair, by hand."""
    distance = 2.35
    cell = CrystalSet([2], [14, 14], [[0, 0, 0], [distance / 20, 0, 0]], np.eye(3)[None] * 20)
    dos = tight_binding_dos(cell).sum(0)
    v = 7.62 / distance**2
    _, s, p = TERM_VALUES["Si"]
    sigma = np.array([[s, 0, -1.32 * v, 1.42 * v], [0, p, -1.42 * v, 2.22 * v]])
    full = np.block([[np.diag([s, p]), sigma[:, 2:]], [sigma[:, 2:].T, np.diag([s, p])]])
    pi = [p - 0.63 * v, p + 0.63 * v]
    levels = np.sort([*np.linalg.eigvalsh(full), *pi, *pi])
    zero = levels[3]  # four filled levels hold the eight electrons
    energies = DEFAULT_GRID.points
    expected = sum(2 * np.exp(-((energies - e + zero) ** 2) / 0.18) / (0.3 * np.sqrt(2 * np.pi)) for e in levels)
    np.testing.assert_allclose(dos, expected, atol=1e-3)


def test_diamond_has_a_gap_and_its_electrons():
    dos = tight_binding_dos(CrystalSet.from_ase(ase.build.bulk("C")))
    points = DEFAULT_GRID.points
    assert dos[0][(points > 1.2) & (points < 3)].max() < 0.02
    np.testing.assert_allclose(dos[0], dos[1], atol=1e-5)


def test_the_cell_and_its_orientation_do_not_matter():
    crystals = labelled(45)[30:45]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = crystals.replace(lattices=crystals.lattices @ turn)
    np.testing.assert_allclose(tight_binding_dos(turned), tight_binding_dos(crystals), atol=1e-4)


def test_crystals_it_does_not_know_get_zeros():
    good = niggli(labelled(12)[8:10])
    iron = CrystalSet.from_ase(ase.build.bulk("Fe"))
    nan = good[0].replace(lattices=np.full((1, 3, 3), np.nan))
    mixed = CrystalSet.concatenate([iron, good, nan])
    dos = tight_binding_dos(mixed)
    assert not dos[0].any()
    assert not dos[1 + good.n_atoms.sum() :].any()
    np.testing.assert_array_equal(dos[1 : 1 + good.n_atoms.sum()], tight_binding_dos(good))


def test_a_clash_stays_finite():
    clash = CrystalSet([2], [6, 6], [[0, 0, 0], [0.001, 0, 0]], np.eye(3)[None] * 3)
    assert np.isfinite(tight_binding_dos(clash)).all()
