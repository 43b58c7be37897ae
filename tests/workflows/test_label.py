import shutil
import uuid

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import disable_caching, enable_caching
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.settings import n_bands
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.engine.labelling.pwscf import gather, label
from aiida_dosmatgen.setup import ensure_pseudo_family
from aiida_dosmatgen.workflows.label import LabelWorkChain

from .conftest import FAMILY


@pytest.fixture
def build(codes, pseudo_family, crystals):
    def _build(**kwargs):
        overrides = {"pseudo_family": FAMILY, **kwargs.pop("overrides", {})}
        return LabelWorkChain.get_builder_from_protocol(
            codes["pw"], codes["projwfc"], CrystalSetData(crystals), overrides=overrides, **kwargs
        )

    return _build


@pytest.mark.parametrize("protocol", ["fast", "balanced", "stringent"])
def test_protocols_make_valid_inputs(build, process, protocol):
    chain = process(build(protocol=protocol))
    chain.setup()
    chain.open_window()
    assert chain.crystals_left()


def test_inputs_of_one_crystal(build, process):
    chain = process(build(protocol="fast", options={"max_wallclock_seconds": 100}))
    chain.setup()
    inputs = chain._pw_inputs(1)
    parameters = inputs.parameters.get_dict()
    assert parameters["SYSTEM"]["nbnd"] == n_bands(8, 2)
    assert parameters["SYSTEM"]["ecutwfc"] == 25.0
    assert parameters["CONTROL"]["max_seconds"] == 90
    assert inputs.kpoints.get_kpoints_mesh() == ([9, 9, 9], [0.0, 0.0, 0.0])
    assert inputs.structure.get_formula() == "CSi"


def test_a_crystal_without_pseudopotential_is_recorded(build, process):
    chain = process(build())
    chain.setup()
    assert chain._pw_inputs(2) is None
    assert chain.ctx.failures == {"2": "no pseudopotential for B N"}


def test_nothing_labelled_is_an_exit_code_with_a_report(build, process):
    chain = process(build())
    chain.setup()
    chain.ctx.failures = {str(row): "pw.x crashed" for row in range(3)}
    exit_code = chain.assemble()
    assert exit_code.status == LabelWorkChain.exit_codes.ERROR_NO_LABELS.status
    assert "pw.x crashed" in exit_code.message
    nothing_ran = {"structures": 0, "workers": 2, "jobs": 0, "jobs_from_cache": 0, "wall_seconds": 0.0}
    assert chain.outputs["report"].get_dict() == {
        "given": 3,
        "labelled": 0,
        "failed": chain.ctx.failures,
        "computed_in_this_run": nothing_ran,
    }
    assert isinstance(chain.outputs["report"], orm.Dict)


def test_a_run_whose_projections_failed_is_not_taken_from_the_cache(build, process, aiida_localhost):
    def job(exit_status):
        node = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:quantumespresso.pw")
        node.set_option("prepend_text", f"# {uuid.uuid4()}")  # equal jobs would have the same hash
        node.store()
        node.set_process_state("finished")
        node.set_exit_status(exit_status)
        node.seal()
        return node

    chain = process(build())
    chain.setup()
    chain.open_window()
    runs = {0: [job(0), job(0)], 1: [job(0), job(300)]}
    chain.ctx.jobs = {str(row): [node.uuid for node in nodes] for row, nodes in runs.items()}
    for row, (_, projwfc) in runs.items():
        chain.add_child(f"projwfc_{row}", projwfc)
    chain.ctx.interrupted = {"projwfc_1": 2}  # it was tried before
    chain.inspect()  # neither has a work directory, as a job that could not be submitted
    assert chain.ctx.finished == [0] and list(chain.ctx.failures) == ["1"]
    assert runs[0][0].base.caching.is_valid_cache and not runs[1][0].base.caching.is_valid_cache


def test_a_crystal_goes_on_before_the_next_one_begins(build, process):
    chain = process(build(max_concurrent=1))
    chain.setup()
    chain.open_window()
    pw = orm.CalcJobNode()
    pw.set_process_state("finished")
    pw.set_exit_status(0)
    chain.ctx.next = 1
    chain.add_child("pw_0", pw)
    assert chain.crystals_left() and not chain.may_start()
    chain.inspect()
    assert chain.ctx.projectable == [0] and chain.may_start()
    chain._run_projwfc = lambda row: chain.add_child(f"projwfc_{row}", pw)
    chain.start_next()
    assert list(chain.ctx.running) == ["projwfc_0"] and chain.ctx.next == 1


def test_a_job_that_aiida_failed_with_is_repeated(build, process):
    chain = process(build(max_concurrent=1))
    chain.setup()
    chain.open_window()
    chain.ctx.next = 1
    began = []
    chain._run_pw = lambda row: began.append(("pw", row))
    chain._run_projwfc = lambda row: began.append(("projwfc", row))
    for step, again in (("pw", True), ("pw", True), ("pw", False), ("projwfc", True)):
        job = orm.CalcJobNode()
        job.set_process_state("excepted")
        job.store()
        chain.ctx.jobs["0"] = [job.uuid]
        chain.add_child(f"{step}_0", job)
        chain.inspect()
        assert (chain.ctx.failures == {}) is again
        if again:
            chain.start_next()
            assert began.pop() == (step, 0) and chain.ctx.next == 1 and chain.ctx.jobs["0"] == []
        chain.ctx.failures.clear()


# --- with the real pw.x and projwfc.x ---------------------------------------------------------------------------------------

QUICK = {"kpoints_distance": 0.8}


@pytest.fixture
def label_for_real(aiida_profile, aiida_code_installed):
    """Return a function that labels crystals with the real executables, in this process, and returns the work chain's node."""
    family = ensure_pseudo_family().label

    def code(name):
        code = aiida_code_installed(
            label=f"real-{name}",
            default_calc_job_plugin=f"quantumespresso.{name}",
            filepath_executable=shutil.which(f"{name}.x"),
            prepend_text="export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1",
        )
        code.computer.set_default_mpiprocs_per_machine(1)
        return code

    def label(crystals):
        builder = LabelWorkChain.get_builder_from_protocol(
            code("pw"),
            code("projwfc"),
            CrystalSetData(crystals),
            protocol="fast",
            overrides={"pseudo_family": family, "cutoffs_stringency": "fast", "parameters": QUICK},
            options={"withmpi": False, "max_wallclock_seconds": 1200},
        )
        return run_get_node(builder)[1]

    return label


def test_a_second_run_computes_only_what_is_missing_and_says_so(label_for_real, crystals, tmp_path):
    with disable_caching():
        first = label_for_real(crystals[:1])
    rate = first.outputs.report["computed_in_this_run"]
    assert (rate["structures"], rate["workers"], rate["jobs"], rate["jobs_from_cache"]) == (1, 2, 2, 0)
    assert rate["structures_per_hour"] == pytest.approx(3600 / rate["wall_seconds"], rel=0.1)
    assert 0 < rate["program_seconds_per_structure"] < rate["job_seconds_per_structure"] <= rate["wall_seconds"] + 0.1
    with enable_caching():
        second = label_for_real(crystals[:2])
    rate = second.outputs.report["computed_in_this_run"]
    assert (rate["structures"], rate["jobs"], rate["jobs_from_cache"]) == (1, 4, 2)
    labelled = second.outputs.crystals.crystals
    assert first.outputs.crystals.crystals.crystal_columns["energy"][0] == labelled.crystal_columns["energy"][0]

    # the twin without AiiDA has the same numbers
    settings = LabelSettings(**QUICK)
    assert dict(label(crystals[:2], settings, tmp_path, workers=1)) == {0: "ok", 1: "ok"}
    twin, _ = gather(crystals[:2], settings, tmp_path)
    np.testing.assert_allclose(labelled.crystal_columns["energy"], twin.crystal_columns["energy"], atol=1e-4)
    np.testing.assert_allclose(labelled.crystal_columns["stress"], twin.crystal_columns["stress"], atol=1e-5)
    np.testing.assert_allclose(labelled.atom_columns["forces"], twin.atom_columns["forces"], atol=1e-4)
    np.testing.assert_allclose(labelled.atom_columns["dos"], twin.atom_columns["dos"], atol=0.01)


def test_a_nearly_symmetric_crystal_is_computed_without_symmetry(label_for_real, tmp_path):
    """pw.x finds 48 operations in a cell that is off by 1e-7, and projwfc.x stops at the first of them."""
    silicon = CrystalSet.from_ase(bulk("Si"))
    strain = 1e-7 * np.array([[0.3, -0.9, 0.4], [-0.9, -1.2, 0.7], [0.4, 0.7, 0.8]])
    silicon = silicon.replace(lattices=silicon.lattices @ (np.eye(3) + strain))
    with disable_caching():
        node = label_for_real(silicon)
    assert node.is_finished_ok, node.exit_message
    first, second = (job for job in node.called_descendants if job.process_type.endswith("quantumespresso.projwfc"))
    assert "d_matrix" in first.outputs.retrieved.base.repository.get_object_content("aiida.out")
    assert second.is_finished_ok and node.outputs.report["failed"] == {}
    assert node.outputs.report["computed_in_this_run"]["jobs"] == 2  # those that the label is from

    settings = LabelSettings(**QUICK)
    assert dict(label(silicon, settings, tmp_path)) == {0: "ok"}
    twin, _ = gather(silicon, settings, tmp_path)
    np.testing.assert_allclose(node.outputs.crystals.crystals.atom_columns["dos"], twin.atom_columns["dos"], atol=0.01)
