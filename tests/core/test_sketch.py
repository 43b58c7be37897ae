"""A target from a band's centre, width and gap: what was asked for is in the curve."""

import numpy as np
import pytest

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.sketch import sketch

energies = DEFAULT_GRID.points


def integral(values, where=slice(None)):
    return float(values[where].sum() * DEFAULT_GRID.spacing)


@pytest.mark.parametrize(("centre", "width", "gap", "electrons"), [(-3, 6, 3, 4), (-2, 6, 3, 2.5), (-4.5, 6, 3, 8)])
def test_the_filled_band_has_its_electrons_centre_and_width(centre, width, gap, electrons):
    target = sketch(centre, width, gap, electrons=electrons, sigma=0.05)
    curve, filled = target.total, energies < gap / 2
    assert target.kind == "total" and target.n_atoms is None
    assert integral(curve, filled) == pytest.approx(electrons, rel=1e-3)
    assert integral(curve * energies, filled) / electrons == pytest.approx(centre, abs=0.01)
    assert curve[(energies < -width - 0.3) | ((energies > 0.3) & (energies < gap - 0.3))].max() < 1e-6
    assert curve[(energies > -width + 0.2) & (energies < -0.2)].min() > 0.02
    # the band above the gap is the mirror image
    np.testing.assert_allclose(np.interp(gap - energies, energies, curve, left=0), curve, atol=0.04 * curve.max())
    assert target.complete_below == gap + width / 2


def test_the_middle_makes_a_semi_ellipse():
    curve = sketch(-4, 8, 1, electrons=2, sigma=0.02).total
    inside = (energies > -7.5) & (energies < -0.5)
    expected = 2 * (2 / (np.pi * 4**2)) * np.sqrt(np.clip(4**2 - (energies + 4) ** 2, 0, None))
    np.testing.assert_allclose(curve[inside], expected[inside], rtol=0.02)


def test_a_metal_is_filled_up_to_zero():
    target = sketch(1, 6, electrons=3, sigma=0.02, n_atoms=4)
    assert integral(target.total, energies <= 0) == pytest.approx(3, rel=0.02)
    assert target.total[np.argmin(np.abs(energies))] > 0.3
    assert target.complete_below == 4 and target.n_atoms == 4


def test_it_is_compared_like_any_other_target():
    target = sketch(-3, 6, 1.5)
    assert target.distances(np.stack([target.total] * 3))["mae"] < 1e-12
    other = sketch(-3, 6, 2.5)
    assert target.distances(other.curves)["mae"] > 0.05
    assert isinstance(target, DosTarget)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((3, 2, 0), "lies within the band, but this one reaches from 2 to 4 eV"),
        ((-6, 6, 1), "give one from -5.40 to -0.60"),
        ((1, 6, 1), "cannot have its centre of gravity at 1 eV"),
        ((-3, 0, 1), "the width is 0; it must be positive"),
        ((-3, 6, -1), "the gap is -1 eV; it must not be negative"),
        ((-8, 16, 1), "reaches beyond the energies of -10 to 10 eV"),
        ((float("nan"), 6, 1), "the centre is nan"),
    ],
)
def test_what_is_no_band_is_refused(given, message):
    with pytest.raises(ContentError, match=message):
        sketch(*given)
