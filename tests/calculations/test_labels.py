"""DFT by pw.x and projwfc.x through AiiDA: per-atom DOS, scores, targets and labels, against the engine's own reader."""

import shutil

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.orm import Computer, Dict, InstalledCode, KpointsData
from aiida.plugins import CalculationFactory, DataFactory

from aiida_dosmatgen.calculations.functions import (
    BAD_CONTENT,
    assemble_labelled,
    score_dos,
    target_from_pdos,
)
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dft.bands import CHANNELS
from aiida_dosmatgen.core.dft.pseudopotentials import collect, cutoffs
from aiida_dosmatgen.core.dft.settings import kpoints_mesh, label_namelists
from aiida_dosmatgen.core.dft.upf import read_upf
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.data.conversion import crystal_of, structure_of
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.pdos import espresso_bands, projected_crystal
from aiida_dosmatgen.engine.labelling.pwscf import label_one

pytestmark = pytest.mark.skipif(shutil.which("projwfc.x") is None, reason="Quantum ESPRESSO is not installed")

SETTINGS = LabelSettings(kpoints_distance=0.6)


@pytest.fixture(scope="module")
def pseudos(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("pseudos"))


@pytest.fixture(scope="module")
def crystal():
    """Strained and displaced SiC: no symmetry, so that no mistake cancels. One atom lies outside of the cell."""
    lattice = 4.36 * np.array([[0, 0.5, 0.5], [0.5, 0.02, 0.5], [0.5, 0.5, -0.01]])
    return CrystalSet([2], [14, 6], [[0.98, -0.01, 0.0], [0.27, 0.24, 1.26]], lattice[None])


@pytest.fixture(scope="module")
def codes(aiida_profile, tmp_path_factory):
    """pw.x and projwfc.x on this machine."""
    workdir = str(tmp_path_factory.mktemp("scratch"))
    computer = Computer("labels", "localhost", "", "core.local", "core.direct", workdir).store()
    computer.set_minimum_job_poll_interval(0)
    computer.configure(safe_interval=0)
    return {
        name: InstalledCode(computer, shutil.which(f"{name}.x"), label=name, default_calc_job_plugin=f"quantumespresso.{name}")
        for name in ("pw", "projwfc")
    }


@pytest.fixture(scope="module")
def run(codes, crystal, pseudos):
    """The nodes of one real self-consistent run and its projections."""
    symbols = ["Si", "C"]
    structure = structure_of(crystal)
    electrons = sum(read_upf(pseudos[s]).valence for s in symbols)
    kpoints = KpointsData()
    kpoints.set_kpoints_mesh(kpoints_mesh(crystal.lattices[0], SETTINGS.kpoints_distance))
    metadata = {
        "options": {
            "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
            "withmpi": False,
            "max_wallclock_seconds": 600,
        }
    }
    namelists = label_namelists(electrons, 2, cutoffs(symbols, "fast"), SETTINGS.smearing, SETTINGS.degauss)
    outputs, pw = run_get_node(
        CalculationFactory("quantumespresso.pw"),
        code=codes["pw"],
        structure=structure,
        pseudos={s: DataFactory("pseudo.upf")(pseudos[s]) for s in symbols},
        kpoints=kpoints,
        parameters=Dict(namelists),
        metadata=metadata,
    )
    assert pw.is_finished_ok, pw.exit_message
    projections, projwfc = run_get_node(
        CalculationFactory("quantumespresso.projwfc"),
        code=codes["projwfc"],
        parent_folder=outputs["remote_folder"],
        parameters=Dict({"PROJWFC": {"ngauss": 0, "degauss": 0.01, "deltae": 1.0}}),
        metadata=metadata,
    )
    assert projwfc.is_finished_ok, projwfc.exit_message
    return {
        "structure": structure,
        "bands": outputs["output_band"],
        "projections": projections["projections"],
        "parameters": outputs["output_parameters"],
        "trajectory": outputs["output_trajectory"],
    }


@pytest.fixture(scope="module")
def reference(crystal, pseudos):
    """The same crystal by the engine, without AiiDA."""
    return label_one(crystal, SETTINGS, pseudos)


def without_trajectory(run):
    return {name: node for name, node in run.items() if name != "trajectory"}


def test_projected_dos_agrees_with_the_engine(run, reference):
    got = projected_crystal(**without_trajectory(run))
    assert np.abs(got.atom_columns["dos"] - reference.atom_columns["dos"]).max() < 1e-3
    for name, tolerance in {
        "complete_below": 2e-3,
        "highest_occupied": 2e-3,
        "n_electrons": 1e-9,
        "projected_electrons": 2e-3,
    }.items():
        assert got.crystal_columns[name][0] == pytest.approx(reference.crystal_columns[name][0], abs=tolerance)


def test_the_target_of_a_crystal_is_at_distance_zero_from_it(run):
    nodes = without_trajectory(run)
    target = target_from_pdos(**nodes)
    score = score_dos(CrystalSetData(projected_crystal(**nodes)), target).get_dict()
    assert target.target.n_atoms == 2
    assert score["mae"] < 1e-6
    assert score["projected_electrons"] == pytest.approx(8, abs=0.3)


def test_orbitals_of_another_structure_are_refused(run, crystal):
    moved = structure_of(crystal.replace(fractional=crystal.fractional + np.array([[0, 0, 0], [0.1, 0, 0]])))
    _, node = target_from_pdos.run_get_node(**{**without_trajectory(run), "structure": moved})
    assert node.exit_status == BAD_CONTENT
    assert "away from every atom; the projections are of another structure" in node.exit_message


def test_too_many_electrons_for_the_bands(run):
    nodes = {**without_trajectory(run), "parameters": Dict({"number_of_electrons": 80.0})}
    _, node = target_from_pdos.run_get_node(**nodes)
    assert node.exit_message == "9 bands cannot hold 80 electrons; compute more bands"


def test_a_dos_without_its_electrons_makes_no_target(run):
    nodes = {**without_trajectory(run), "parameters": Dict({"number_of_electrons": 10.0})}
    structure, rest = nodes.pop("structure"), nodes
    projections = rest["projections"].clone()
    for name in projections.get_arraynames():
        if name.startswith("proj_"):
            projections.set_array(name, 0.3 * rest["projections"].get_array(name))
    _, node = target_from_pdos.run_get_node(structure=structure, **{**rest, "projections": projections})
    assert node.exit_message.startswith("the DOS up to the highest occupied level holds")


def test_bands_without_weights_are_refused(run):
    bands = DataFactory("core.array.bands")()
    bands.set_kpoints(run["bands"].get_kpoints())
    bands.set_bands(run["bands"].get_bands(), units="eV")
    _, node = target_from_pdos.run_get_node(**{**without_trajectory(run), "bands": bands})
    assert node.exit_message == "the k-points of the bands have no weights; give the output_band of pw.x"


def test_projections_in_another_order_are_refused(run):
    bands = run["bands"].clone()
    bands.set_kpointsdata(run["bands"])
    bands.set_bands(run["bands"].get_bands()[::-1], units="eV")
    crystal = crystal_of(run["structure"])
    assert espresso_bands(crystal, run["bands"], [run["projections"]], 8.0).projections.shape[:2] == (2, 4)
    with pytest.raises(ContentError, match="in another order"):
        espresso_bands(crystal, bands, [run["projections"]], 8.0)
    with pytest.raises(ContentError, match="1 spins, and there are projections of 2"):
        espresso_bands(crystal, run["bands"], [run["projections"]] * 2, 8.0)


# --- many crystals ------------------------------------------------------------------------------------------------------------


def labelled(crystal, force=1.0):
    """A crystal as the work chain of one leaves it, with made-up numbers."""
    energies = np.linspace(-20, 10, 201)
    curves = Curves(np.full((2, 2, 4, 201), 0.1), energies, 0.3, -20, 8, "vbm", 0.5, 8.0, CHANNELS, projected=0.97)
    return with_curves(crystal, curves).with_columns(
        crystal={"energy": np.array([-300.0])},
        atom={"forces": np.full((2, 3), force), "projections": np.ones((2, 201), np.float32)},
    )


def test_labels_of_many_crystals_keep_columns_and_reasons(aiida_profile, crystal):
    four = CrystalSet.concatenate([crystal] * 4).with_columns(crystal={"id": np.array(["a", "b", "c", "d"])})
    recipe, failure = Dict({"cutoff": 30.0}), Dict({"reason": "did not converge"})
    other = CrystalSet([2], [14, 14], crystal.fractional, crystal.lattices)
    chosen = {"dos_0": labelled(crystal), "dos_2": labelled(crystal, force=100.0), "dos_3": labelled(other)}
    node = assemble_labelled(
        crystals=CrystalSetData(four),
        recipe=recipe,
        failure_1=failure,
        **{name: CrystalSetData(one) for name, one in chosen.items()},
    )
    assert node.base.attributes.get("n_crystals") == 1
    card = node.base.attributes.get("card")
    assert (card["given"], card["settings"]) == (4, {"cutoff": 30.0})
    assert card["failed"] == {
        "1": "did not converge",
        "2": "outlier: a force above 30 eV/Å",
        "3": "the density of states is of another crystal",
    }
    got = node.crystals
    assert got.crystal_columns["id"].tolist() == ["a"] and "projections" not in got.atom_columns
    np.testing.assert_allclose(got.fractional, crystal.fractional)  # not wrapped into the cell
    assert (got.atom_columns["dos"].dtype, got.atom_columns["dos"].shape) == (np.float16, (2, 2, 4, 201))
    assert curves_of(got).projected == 0.97


def test_names_that_mean_nothing_are_refused(aiida_profile, crystal):
    for name in ("dos_5", "colour_0", "dos_one"):
        _, node = assemble_labelled.run_get_node(crystals=CrystalSetData(crystal), **{name: CrystalSetData(labelled(crystal))})
        assert node.exit_status == BAD_CONTENT and f"{name!r} is not dos_" in node.exit_message
    _, node = assemble_labelled.run_get_node(crystals=CrystalSetData(crystal), failure_0=Dict({"reason": "crashed"}))
    assert node.exit_message == "no crystal has labels; the first reason: crashed"


def test_pure_function_takes_a_crystal_set(run, crystal):
    nodes = without_trajectory(run)
    nodes["structure"] = crystal
    assert projected_crystal(**nodes).atom_columns["dos"].shape == (2, 400)
