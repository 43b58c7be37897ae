import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from pydantic import ValidationError

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import ReferencesJob, RelaxJob
from aiida_dosmatgen.engine.commands import references, relax
from aiida_dosmatgen.engine.labelling.prototypes import elemental
from aiida_dosmatgen.engine.relaxation.references import reference_candidates, reference_energies


def test_every_candidate_is_of_its_element_alone():
    symbols = ["B", "C", "N", "O", "Si", "Ga", "As", "Fe", "Na"]
    candidates = reference_candidates({symbol: elemental(symbol) for symbol in symbols})
    found = [{SYMBOLS[z] for z in crystal.numbers} for crystal in candidates]
    assert all(len(elements) == 1 for elements in found)
    assert set.union(*found) == set(symbols)
    assert candidates.check() is candidates


def test_no_candidate_is_denser_than_any_element():
    before = CrystalSet.from_ase(elemental("H"))
    after = reference_candidates({"H": elemental("H")})
    assert (before.volumes / before.n_atoms).min() < 0.3
    assert (after.volumes / after.n_atoms).min() == pytest.approx(5.0)
    molecule = int(np.argmax(after.volumes))
    assert after.volumes[molecule] == pytest.approx(before.volumes.max()), "sparse ones stay"


def test_the_lowest_converged_candidate_is_the_reference():
    crystals = CrystalSet.from_ase([bulk("Cu"), bulk("Cu", "bcc", 2.9), bulk("Al"), bulk("Al", "fcc", 1.0)]).with_columns(
        crystal={"energy": [-3.0, -3.5, -2.0, -900.0], "status": np.array(["converged", "max steps", "converged", "converged"])}
    )
    assert reference_energies(crystals) == {"Al": -2.0, "Cu": -3.0}


def test_relax_command(tmp_path):
    """The command as a whole: statuses, columns, continuing after its time is up."""
    crystals = CrystalSet.from_ase([bulk("Cu").repeat((1, 1, 2)), bulk("Si"), bulk("Cu", "fcc", 3.9)])
    crystals = crystals.with_columns(crystal={"candidate": [7, 8, 9]}).replace(
        fractional=np.concatenate([[[0, 0, 0], [0.02, 0.01, 0.48]], np.zeros((3, 3))])
    )
    crystals.save(tmp_path / "candidates.npz")
    job = RelaxJob(
        crystals="candidates.npz",
        force_field={"calculator": "ase.calculators.emt:EMT"},
        parameters={"fmax": 0.02},
        runtime={"max_seconds": 1e-6, "device": "cpu"},
    )
    early = relax.run(job, tmp_path)
    assert not early.finished and early.done == 1  # silicon, which is refused at once
    assert (tmp_path / "relaxed.npz.parts").is_dir()
    assert len(CrystalSet.load(tmp_path / "relaxed.npz")) == 3

    results = relax.run(job.model_copy(update={"runtime": job.runtime.model_copy(update={"max_seconds": None})}), tmp_path)
    assert results.finished and results.done == results.of == 3
    assert not (tmp_path / "relaxed.npz.parts").exists()
    relaxed = CrystalSet.load(tmp_path / "relaxed.npz")
    assert relaxed.crystal_columns["candidate"].tolist() == [7, 8, 9]
    assert relaxed.crystal_columns["status"].tolist() == ["converged", "unknown element", "converged"]
    assert results.details["statuses"] == {"converged": 2, "unknown element": 1}
    assert results.details["force_field_sha256"] is None


def test_command_gives_the_ground_state_of_ase(tmp_path):
    job = ReferencesJob(
        elements=["Si", "Cu"],
        force_field={"calculator": "ase.calculators.emt:EMT"},
        parameters={"fmax": 0.02},
        runtime={"max_seconds": 1e-6, "device": "cpu"},
    )
    early = references.run(job, tmp_path)
    assert not early.finished and early.done == 0
    assert (tmp_path / "references.npz.parts").is_dir()
    results = references.run(job.model_copy(update={"runtime": job.runtime.model_copy(update={"max_seconds": None})}), tmp_path)
    assert results.finished and results.details["elements"] == ["Si", "Cu"]
    assert not (tmp_path / "references.npz.parts").exists()
    assert results.details["force_field_sha256"] is None
    assert {SYMBOLS[z] for z in CrystalSet.load(tmp_path / "references.npz").numbers} == {"Cu"}  # EMT does not know silicon

    copper = bulk("Cu")
    copper.calc = EMT()
    BFGS(FrechetCellFilter(copper), logfile=None).run(fmax=0.001)
    assert set(results.details["energies"]) == {"Cu"}
    assert results.details["energies"]["Cu"] == pytest.approx(copper.get_potential_energy(), abs=1e-3)


def test_elements_that_the_force_field_does_not_know_are_refused(tmp_path):
    job = ReferencesJob(elements=["Si", "Ge"], force_field={"calculator": "ase.calculators.emt:EMT"})
    with pytest.raises(ContentError, match="elements: the force field knows none of Si, Ge"):
        references.run(job, tmp_path)
    with pytest.raises(ValidationError, match="'Xx' is not a chemical element"):
        ReferencesJob(elements=["Xx"], force_field={"calculator": "ase.calculators.emt:EMT"})
