import numpy as np
import pytest

from aiida_dosmatgen.core.curves import Curves, compare
from aiida_dosmatgen.core.errors import ContentError

ENERGIES = np.linspace(-12, 8, 401)
CENTRES = np.array([[-9.0, -3.0, -1.0, 2.0], [-8.0, -4.0, -2.0, 4.0], [-6.0, -2.5, 1.0, 3.0]])


def curves(sigma=0.3, energies=ENERGIES, centres=CENTRES, **changes):
    """Sites with Gaussian levels, one each for an s, p, d and f channel, both spins equal."""
    shape = np.exp(-0.5 * ((energies - centres[..., None]) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    values = np.repeat(shape[:, None], 2, axis=1)
    return Curves(values, energies, sigma, energies[0], energies[-1], "vbm", 1.0, channels=("s", "p", "d", "f"), **changes)


def test_a_crystal_is_at_no_distance_from_itself_whatever_the_order_of_its_sites():
    crystal = curves()
    other = curves(centres=CENTRES[[2, 0, 1]])
    distance = compare(crystal, other)
    assert distance.mae == pytest.approx(0, abs=1e-12)
    assert distance.wasserstein == pytest.approx(0, abs=1e-12)
    assert distance.r2 == pytest.approx(1)
    assert (distance.low, distance.high) == (-12, 8)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(curves().cut(low=-5), id="cut"),
        pytest.param(curves().on(np.linspace(-8, 8, 641)), id="another grid"),
        pytest.param(curves(sigma=0.1), id="sharper"),
        pytest.param(curves().summed(), id="summed"),
        pytest.param(curves().summed(sites=True), id="total"),
        pytest.param(curves(energies=ENERGIES + 3.7, centres=CENTRES + 3.7).shifted(3.7), id="absolute energies"),
        pytest.param(curves(sigma=0.3, energies=np.arange(-12, 8, 0.15)), id="points half a sigma apart"),
    ],
)
def test_what_says_the_same_in_another_way_is_near(other):
    n_atoms = None if other.resolved else 3
    distance = compare(other, curves(), n_atoms=n_atoms)
    assert distance.mae < 0.005
    assert distance.mae_total < 0.005


def test_sites_scaled_to_the_total_forget_what_the_projectors_lost():
    crystal = curves()
    lossy = Curves(0.43 * crystal.values, ENERGIES, 0.3, -12, 8, channels=crystal.channels)
    scaled = lossy.scaled_to(crystal.total)
    assert compare(scaled, crystal).mae < 0.005
    assert scaled.projected == pytest.approx(0.43)
    np.testing.assert_allclose(scaled.total, crystal.total, atol=1e-9)


def test_a_sharp_curve_is_broadened_before_it_is_compared_and_a_broad_one_is_not_sharpened():
    sharp, broad = curves(sigma=0.1), curves(sigma=0.4)
    assert compare(sharp, broad).sigma == 0.4
    assert compare(sharp, broad).mae < 0.005
    with pytest.raises(ContentError, match="cannot be sharpened"):
        broad.broadened(0.3)


def test_only_what_both_are_known_at_is_compared():
    crystal = curves()
    half = Curves(
        np.where(ENERGIES < -5, 0, crystal.values), ENERGIES, 0.3, -5, 8, channels=crystal.channels
    )  # a file that begins at -5 eV and says so
    assert compare(half, crystal).mae == pytest.approx(0, abs=1e-12)
    unaware = Curves(half.values, ENERGIES, 0.3, -12, 8, channels=crystal.channels)
    assert compare(unaware, crystal).mae > 0.05
    with pytest.raises(ContentError, match="no window in common"):
        compare(crystal.cut(high=-6), crystal.cut(low=-2))


def test_different_curves_are_as_far_apart_as_their_difference():
    a, b = curves(), curves(centres=CENTRES + 0.5)
    expected = np.abs(a.sites - b.sites).mean()
    assert compare(a, b).mae == pytest.approx(expected, rel=0.02)
    assert compare(a, b).wasserstein == pytest.approx(0.5, rel=0.05)


def test_electrons_are_the_states_below_zero():
    assert curves().electrons == pytest.approx(2 * (CENTRES < 0).sum(), abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.ones((2, 1, 1, 5))}, "are not"),
        ({"values": np.full((2, 1, 1, 4), np.nan)}, "NaN"),
        ({"values": np.ones((2, 3, 1, 4))}, "spins"),
        ({"energies": np.array([0.0, 1.0, 3.0, 4.0])}, "equidistant"),
        ({"sigma": -1.0}, "negative"),
        ({"low": 3.0, "high": 2.0}, "nowhere"),
    ],
)
def test_what_is_no_curve_is_refused(changes, message):
    with pytest.raises(ContentError, match=message):
        Curves(**{"values": np.ones((2, 1, 1, 4)), "energies": np.arange(4.0), "sigma": 0.3, "low": 0, "high": 3, **changes})


def test_a_total_needs_a_number_of_atoms():
    with pytest.raises(ContentError, match="number of atoms"):
        compare(curves().summed(sites=True), curves())


def test_nothing_changes_a_curve():
    with pytest.raises(ValueError, match="read-only"):
        curves().values[0] = 1
