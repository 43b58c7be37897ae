"""The gate: each criterion accepts what meets it, and says why it refuses the others."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.learning.gate import check_results, structure_hash
from aiida_dosmatgen.core.learning.settings import GateCriteria

ENERGIES = np.linspace(-20, 10, 201)
ELEMENTS = {"Si": -100.0, "C": -150.0, "Ge": -90.0}  # eV/atom


def result(atoms, formation_energy=-0.3, force=0.0, high=8.0, projected=0.98, electrons=4.0, shift=0.0):
    """A DFT result of the right form: a band for each site."""
    crystal = CrystalSet.from_ase(atoms)
    n = len(crystal.numbers)
    band = np.exp(-0.5 * ((ENERGIES + 3 + shift) / 0.5) ** 2)
    values = np.zeros((n, 2, 4, len(ENERGIES)))
    values[:, :, 1] = electrons / 2 * band / np.trapezoid(band, ENERGIES)
    curves = Curves(values, ENERGIES, 0.3, -20, high, "fermi", 0.0, 4.0 * n, ("s", "p", "d", "f"), projected=projected)
    energy = sum(ELEMENTS[symbol] for symbol in atoms.get_chemical_symbols()) + n * formation_energy
    forces = np.zeros((n, 3))
    forces[0, 0] = force
    return with_curves(crystal, curves).with_columns(crystal={"energy": [energy]}, atom={"forces": forces})


def zincblende(a, b, length):
    return bulk(f"{a}{b}", "zincblende", a=length)


@pytest.fixture
def learnt():
    """The elements, and zincblende SiC."""
    atoms = [bulk("Si"), bulk("C"), bulk("Ge"), zincblende("Si", "C", 4.36)]
    return CrystalSet.concatenate([result(one, 0.0) for one in atoms])


def passage(learnt, crystal, **options):
    criteria = GateCriteria(**options.pop("criteria", {}))
    return check_results({"a_1": crystal}, learnt, criteria, **options)["a_1"]


def test_a_good_result_enters_and_what_was_measured_is_said(learnt):
    good = passage(learnt, result(zincblende("Ge", "C", 4.6)))
    assert good.entered and good.criterion == "passed" and good.reason == "meets all criteria; at equilibrium"
    assert good.values["formula"] == "GeC" and good.values["formation_energy"] == pytest.approx(-0.3)
    assert good.values["hash"] == structure_hash(CrystalSet.from_ase(zincblende("Ge", "C", 4.6)))


@pytest.mark.parametrize(
    ("changes", "criterion", "reason"),
    [
        ({"electrons": 0.1}, "electrons", "holds 0.20 of 8 electrons"),
        ({"projected": 0.6}, "electrons", "the projections saw 60%"),
        ({"high": 1.0}, "bands", "bands are complete up to 1.0 eV"),
        ({"force": 31.0}, "forces", "a force of 31.00 eV/Å"),
        ({"formation_energy": 3.0}, "energy", "a formation energy of 3.00 eV/atom"),
        ({"formation_energy": -90.0}, "energy", "a formation energy of -90.00 eV/atom"),
    ],
)
def test_each_criterion_refuses_what_does_not_meet_it(learnt, changes, criterion, reason):
    refused = passage(learnt, result(zincblende("Ge", "C", 4.6), **changes))
    assert not refused.entered and refused.criterion == criterion and reason in refused.reason


def test_off_equilibrium_is_labelled_or_refused(learnt):
    strained = result(zincblende("Ge", "C", 4.6), force=1.5)
    labelled = passage(learnt, strained)
    assert labelled.entered and labelled.values["off_equilibrium"] and "off equilibrium" in labelled.reason
    refused = passage(learnt, strained, criteria={"off_equilibrium": "refuse"})
    assert not refused.entered and refused.criterion == "forces" and "off equilibrium" in refused.reason


def test_near_copies_of_what_is_known_are_refused(learnt):
    """Also as a supercell, turned, with other atoms first, and slightly strained; not if it is strained much."""
    copy = zincblende("C", "Si", 4.37).repeat((2, 1, 1))
    copy.rotate(30, "z", rotate_cell=True)
    refused = passage(learnt, result(copy))
    assert (refused.criterion, refused.reason) == ("copy", "a near copy of crystal 3 of the training set")
    assert passage(learnt, result(zincblende("C", "Si", 4.8))).entered
    other = bulk("SiC", "rocksalt", a=4.1)
    assert passage(learnt, result(other)).entered


def test_of_two_copies_in_a_round_one_enters(learnt):
    results = {name: result(zincblende("Ge", "C", length)) for name, length in (("b_2", 4.6), ("a_7", 4.61), ("c_1", 5.1))}
    said = check_results(results, learnt, GateCriteria())
    assert {name: one.entered for name, one in said.items()} == {"a_7": True, "b_2": False, "c_1": True}
    assert said["b_2"].reason == "a near copy of a_7, which entered"


def test_crystals_kept_for_tests_never_enter_nor_do_strained_ones(learnt):
    held_out = CrystalSet.from_ase([zincblende("Ge", "C", 4.6)])
    refused = passage(learnt, result(zincblende("Ge", "C", 5.0)), held_out=held_out)
    assert (refused.criterion, refused.reason) == ("held out", "it equals crystal 0 of those kept for tests")


def test_reserved_systems_never_enter(learnt):
    refused = passage(learnt, result(zincblende("Ge", "C", 4.6)), reserved=["Ge-C", "Ga-N"])
    assert refused.criterion == "reserved" and passage(learnt, result(zincblende("Ge", "Si", 5.6)), reserved=["Ge-C"]).entered


def test_a_repeated_run_that_disagrees_keeps_its_result_out(learnt):
    one, two, three = (result(zincblende("Ge", "C", length)) for length in (4.6, 5.0, 5.5))
    off = two.with_columns(crystal={"energy": two.crystal_columns["energy"] + 0.1})
    said = check_results({"a": one, "b": two, "c": three}, learnt, GateCriteria(), repeats={"a": one, "b": off})
    assert {name: passage.entered for name, passage in said.items()} == {"a": True, "b": False, "c": True}
    assert (
        said["b"].reason.startswith("a repeated run disagrees: by 50 meV/atom") and "a repeated run agrees" in said["a"].reason
    )
    other_curve = {"b": result(zincblende("Ge", "C", 5.0), shift=1.0)}
    said = check_results({"a": one, "b": two}, learnt, GateCriteria(), repeats=other_curve)
    assert [one.criterion for one in said.values()] == ["repeat", "repeat"]  # the only one that was repeated disagrees
    assert said["a"].reason == "1 of 1 repeated runs of this round disagree"


def test_energies_that_cannot_be_compared_are_said_to_be_so(learnt):
    bare = learnt[[0, 1]]
    entered = passage(bare, result(zincblende("Ge", "C", 4.6), formation_energy=50.0))
    assert entered.entered and entered.values["formation_energy"] is None and "was not compared" in entered.reason


def test_what_is_no_result_is_refused_with_its_defect(learnt):
    bare = CrystalSet.from_ase([zincblende("Ge", "C", 4.6)])
    assert passage(learnt, bare).criterion == "unusable" and "'energy'" in passage(learnt, bare).reason


def test_the_hash_knows_geometries_apart():
    atoms = zincblende("Ge", "C", 4.6)
    first = structure_hash(CrystalSet.from_ase(atoms))
    atoms.positions += atoms.cell[0]  # by a lattice vector
    assert structure_hash(CrystalSet.from_ase(atoms)) == first
    assert structure_hash(CrystalSet.from_ase(zincblende("Ge", "C", 4.601))) != first
