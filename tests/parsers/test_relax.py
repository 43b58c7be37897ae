"""The parser of relaxed crystals."""

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.data.forcefield import ForceFieldData
from tests.parsers.jobs import replace_output


def test_relax(relax_job, crystals):
    assert relax_job.run() == 0
    outputs, node = relax_job.parse()
    assert node.is_finished_ok
    relaxed = outputs["crystals"].crystals
    np.testing.assert_array_equal(relaxed.numbers, crystals.numbers)
    assert {"energy", "status", "fmax"} <= set(relaxed.crystal_columns)


def test_relaxed_crystals_that_are_others(relax_job):
    relax_job.run()
    relaxed = CrystalSet.load(relax_job.folder / "relaxed.npz")
    for changed, words in [
        (relaxed[:2], "has 2 crystals, 3 were given"),
        (relaxed[[1, 0, 2]], "crystals of other compositions"),
    ]:
        replace_output(relax_job, "relaxed.npz", changed)
        _, node = relax_job.parse()
        assert node.exit_status == 303 and words in node.exit_message


def test_a_relaxation_that_was_stopped_early_has_all_crystals_too(relax_job):
    assert relax_job.run("--max-seconds", "0.000001") == 3
    outputs, node = relax_job.parse()
    assert node.exit_status == 401 and len(outputs["crystals"].crystals) == 3
    replace_output(relax_job, "relaxed.npz", CrystalSet.load(relax_job.folder / "relaxed.npz")[:2])
    _, node = relax_job.parse()
    assert node.exit_status == 303 and "has 2 crystals, 3 were given" in node.exit_message


def test_another_force_field_than_the_one_given(relax_job, make_job, model_file):
    relax_job.run()
    given = ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)).store()
    relax_job.process = make_job("relax", crystals=relax_job.process.inputs.crystals, force_field=given)
    _, node = relax_job.parse()
    assert node.exit_status == 303 and f"the one given {given.sha256}" in node.exit_message


def test_exploded_crystals_are_results(relax_job):
    relax_job.run()
    relaxed = CrystalSet.load(relax_job.folder / "relaxed.npz")
    fractional = relaxed.fractional.copy()
    fractional[0] = np.nan
    replace_output(relax_job, "relaxed.npz", relaxed.replace(fractional=fractional))
    outputs, node = relax_job.parse()
    assert node.is_finished_ok
    assert outputs["crystals"].store().crystals[0].defect() is not None
