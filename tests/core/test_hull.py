import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.screening.hull import energy_above_hull

REFERENCES = {"Si": -5.0, "C": -9.0, "N": np.nan}


def crystals(*compositions, energies=None, status=None) -> CrystalSet:
    """Crystals of some atomic numbers; where the atoms are does not matter here."""
    n = [len(c) for c in compositions]
    rng = np.random.default_rng(0)
    columns = {} if energies is None else {"energy": np.array(energies)}
    if status is not None:
        columns["status"] = np.array(status)
    return CrystalSet(n, np.concatenate(compositions), rng.random((sum(n), 3)), np.tile(4 * np.eye(3), (len(n), 1, 1)), columns)


def test_by_hand():
    """Si (-5), C (-9), and SiC at -0.5 eV/atom below the line between them."""
    phases = crystals([14, 6], energies=[-15.0])
    given = crystals([14, 6], [14, 6], [14, 14, 14, 6], [14], energies=[-15.0, -14.8, -24.0, -4.9])
    # Si3C lies between Si and SiC on the hull: -5 eV · 2 and -15 eV for four atoms
    assert energy_above_hull(given, REFERENCES, phases) == pytest.approx([0.0, 0.1, (-24.0 + 25.0) / 4, 0.1])


def test_without_phases_it_is_the_formation_energy():
    given = crystals([14, 6], [6, 6], energies=[-14.6, -17.0])
    assert energy_above_hull(given, REFERENCES) == pytest.approx([-0.3, 0.5])


def test_phases_above_the_hull_of_others_change_nothing():
    given = crystals([14, 6], energies=[-14.8])
    lowest = crystals([14, 6], energies=[-15.0])
    more = crystals([14, 6], [14, 6], [14, 14, 6], energies=[-15.0, -13.0, -10.0])
    assert energy_above_hull(given, REFERENCES, more) == pytest.approx(energy_above_hull(given, REFERENCES, lowest))


def test_what_is_not_known():
    given = crystals([14, 7], [14, 6], [14, 32], energies=[-10.0, np.nan, -9.0])
    assert np.isnan(energy_above_hull(given, REFERENCES)).all()
    phases = crystals([14, 6], [14, 6], energies=[-20.0, np.nan], status=["max steps", "converged"])
    assert energy_above_hull(crystals([14, 6], energies=[-14.0]), REFERENCES, phases) == pytest.approx([0.0])
    with pytest.raises(ContentError, match="the known phases have no column 'energy'"):
        energy_above_hull(given, REFERENCES, crystals([14]))
