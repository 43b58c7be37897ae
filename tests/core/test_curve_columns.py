import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, meaning_of, on_energies, with_curves, with_energies
from aiida_dosmatgen.core.curves import Curves, compare
from aiida_dosmatgen.core.dos import DEFAULT_GRID, EnergyGrid
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


def test_predictions_and_projections_are_told_from_the_labels_beside_them():
    both = with_curves(SILICON, curves()).with_columns(
        crystal={
            "predicted_dos_low": np.array([-5.0]),
            "predicted_dos_high": np.array([5.0]),
            "predicted_sigma": np.array([0.2]),
            "predicted_meaning": np.array(["projections"]),
        },
        atom={"predicted_dos": np.ones((2, 11)), "projections": np.ones((2, ENERGIES.size))},
    )
    predicted, projections = (curves_of(both, column=name) for name in ("predicted_dos", "projections"))
    assert (predicted.energies[0], predicted.sigma, predicted.high, predicted.gap) == (-5.0, 0.2, 5.0, None)
    assert predicted.meaning == projections.meaning == "projections"
    assert (projections.energies[0], projections.low, projections.gap) == (-12.0, -11.0, 0.6)
    assert curves_of(both).meaning == "partition"


def test_a_set_takes_the_energies_of_its_header():
    grid = EnergyGrid(-15, 5, 200)
    crystals = SILICON.with_columns(crystal={"complete_below": np.array([3.0])}, atom={"dos": np.ones((2, 200))})
    got = curves_of(with_energies(crystals, grid))
    assert (got.energies[0], got.energies[-1], got.high, got.meaning) == (-15.0, 5.0, 3.0, "projections")
    said = with_curves(SILICON, curves())
    assert with_energies(said, grid) is said


def test_curves_come_to_the_energies_of_a_model():
    broad = np.exp(-0.5 * ((ENERGIES + 2) / 1.0) ** 2) * np.ones((2, 2, 4, 1))
    given = Curves(broad, ENERGIES, 0.1, -11.0, 4.0, channels=("s", "p", "d", "f"))
    set_ = on_energies(with_curves(SILICON, given), DEFAULT_GRID, 0.3)
    assert set_.atom_columns["dos"].shape == (2, 400) and meaning_of(set_) == "partition"
    added = np.sqrt(0.3**2 - 0.1**2)
    np.testing.assert_allclose(set_.crystal_columns["complete_below"], 4.0 - 2 * added)
    assert compare(curves_of(set_), given).mae < 1e-4
    old = SILICON.with_columns(crystal={"complete_below": np.array([4.0])}, atom={"dos": np.ones((2, 400))})
    assert on_energies(old, DEFAULT_GRID, 0.3) is old
    with pytest.raises(ContentError, match=r"crystal 0 \(Si\): .* cannot be sharpened to 0.2 eV") as info:
        on_energies(old, DEFAULT_GRID, 0.2)
    assert "\n" not in str(info.value)


def test_a_set_of_two_meanings_is_refused():
    mixed = CrystalSet.concatenate([with_curves(SILICON, curves(meaning=m)) for m in ("partition", "projections")])
    with pytest.raises(ContentError, match="do not mean the same"):
        meaning_of(mixed)
