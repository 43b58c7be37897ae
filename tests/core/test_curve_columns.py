import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.errors import ContentError

ENERGIES = np.linspace(-12, 6, 181)
SILICON = CrystalSet.from_ase(bulk("Si"))


def curves(n_spins=1, channels=("all",), **changes):
    values = np.random.default_rng(0).uniform(size=(2, n_spins, len(channels), ENERGIES.size))
    return Curves(
        values, ENERGIES, 0.3, -11.0, 5.0, **{"zero": "vbm", "gap": 0.6, "n_electrons": 8.0, **changes}, channels=channels
    )


@pytest.mark.parametrize("channels", [{}, {"n_spins": 2, "channels": ("s", "p", "d", "f")}])
def test_curves_come_back_from_a_file(tmp_path, channels):
    given = curves(**channels, projected=0.98)
    with_curves(SILICON, given).save(tmp_path / "one.npz")
    got = curves_of(CrystalSet.load(tmp_path / "one.npz"))
    np.testing.assert_allclose(got.values, given.values, rtol=1e-6)
    for name in ("sigma", "low", "high", "zero", "gap", "n_electrons", "channels", "projected", "meaning"):
        assert getattr(got, name) == getattr(given, name), name
    np.testing.assert_allclose(got.energies, ENERGIES)


def test_what_is_not_known_stays_unknown():
    got = curves_of(with_curves(SILICON, curves(zero=None, gap=None, n_electrons=None)))
    assert got.zero is None and got.gap is None and got.n_electrons is None and got.projected is None


def test_sets_of_before_hold_projections_on_their_grid():
    old = SILICON.with_columns(crystal={"complete_below": np.array([4.0])}, atom={"dos": np.ones((2, 400))})
    got = curves_of(old)
    assert (got.meaning, got.sigma, got.low, got.high, got.gap) == ("projections", 0.3, -10.0, 4.0, None)


def test_curves_of_other_sites_are_refused():
    with pytest.raises(ContentError, match="2 curves do not belong to 1 crystals with 1 atoms"):
        with_curves(CrystalSet.from_ase(bulk("Cu")), curves())
    with pytest.raises(ContentError, match="no column 'dos'"):
        curves_of(SILICON)
