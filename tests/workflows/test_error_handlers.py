"""What goes wrong with pw.x and projwfc.x, made to happen with the real executables."""

import shutil

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from ase.build import bulk

from aiida_dosmatgen.calculations.functions import screen
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.setup import ensure_pseudo_family
from aiida_dosmatgen.workflows.validate import ValidateWorkChain

from .windowed import CampaignOfGivenCandidates

FEW_KPOINTS = {"kpoints_distance": 1.0}


@pytest.fixture
def real_codes(aiida_profile, aiida_code_installed):
    """Quantum ESPRESSO as it is installed here."""

    def code(name, label="real", executable=None):
        code = aiida_code_installed(
            label=f"{label}-{name}",
            default_calc_job_plugin=f"quantumespresso.{name}",
            filepath_executable=str(executable or shutil.which(f"{name}.x")),
            prepend_text="export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1",
        )
        code.computer.set_default_mpiprocs_per_machine(1)
        return code

    codes = {name: code(name) for name in ("pw", "dos", "projwfc")}
    return Codes(codes, make=code)


class Codes(dict):
    """Codes by their names.

    :ivar make: makes another one, of a name, a label and an executable.
    """

    def __init__(self, codes, make):
        super().__init__(codes)
        self.make = make


KILLED = """#!/bin/bash
for number in {{1..{times}}}; do
    if mkdir {folder}/$number 2> /dev/null; then
        {program} "$@" <&0 &
        kill -9 $!
        wait $!
        exit $?
    fi
done
exec {program} "$@"
"""


@pytest.fixture
def killed(real_codes, tmp_path):
    """Return a function that makes a code whose executable is killed in its first runs: ``kill -9`` of the real one."""

    def make(name, times):
        script = tmp_path / f"{name}-killed"
        script.write_text(KILLED.format(times=times, folder=tmp_path, program=shutil.which(f"{name}.x")))
        script.chmod(0o755)
        return real_codes.make(name, f"killed-{tmp_path.name}", script)

    return make


@pytest.fixture
def validate(real_codes):
    """Return a function that validates silicon, and returns the work chain's node."""

    def run(atoms=None, scf=None, nscf=None, codes=None, **settings):
        def step(parameters):
            return {**FEW_KPOINTS, "pw": {"parameters": parameters or {}}}

        codes = {**real_codes, **(codes or {})}
        builder = ValidateWorkChain.get_builder_from_protocol(
            codes["pw"],
            codes["dos"],
            codes["projwfc"],
            orm.StructureData(ase=atoms or bulk("Si", "diamond", a=5.43)),
            DosTargetData(DosTarget(np.exp(-0.5 * (DEFAULT_GRID.points + 3) ** 2)[None])),
            protocol="fast",
            overrides={
                "pseudo_family": ensure_pseudo_family().label,
                "cutoffs_stringency": "fast",
                "pdos": {"scf": step(scf), "nscf": step(nscf)},
                "settings": settings,
            },
            options={"withmpi": False, "max_wallclock_seconds": 1200},
        )
        return run_get_node(builder)[1]

    return run


def runs(node: orm.WorkChainNode, label: str) -> list[orm.CalcJobNode]:
    """Return the jobs called as ``scf``, ``nscf`` or ``projwfc``, or by a work chain that is, in their order."""
    called = [child for child in node.called_descendants if child.base.links.get_incoming(link_label_filter=label).all()]
    every = [job for child in called for job in (child.called if isinstance(child, orm.WorkChainNode) else [child])]
    return sorted((job for job in every if isinstance(job, orm.CalcJobNode)), key=lambda job: job.pk)


def bands_of(job: orm.CalcJobNode) -> int:
    return job.inputs.parameters["SYSTEM"]["nbnd"]


def test_a_self_consistent_run_that_does_not_converge_in_time_goes_on(validate):
    node = validate(scf={"ELECTRONS": {"electron_maxstep": 3}})
    assert node.is_finished_ok, node.exit_message
    first, *others = runs(node, "scf")
    assert first.exit_status == 410  # electronic convergence not reached
    assert others and others[-1].is_finished_ok


def test_one_that_never_converges_is_recorded(validate):
    node = validate(scf={"ELECTRONS": {"electron_maxstep": 1}})
    assert node.exit_status == ValidateWorkChain.exit_codes.ERROR_PDOS_FAILED.status
    assert "electronic minimization cycle did not reach self-consistency" in node.exit_message
    assert len(runs(node, "scf")) > 1 and not runs(node, "nscf")


def test_bands_that_do_not_hold_the_electrons_become_more(validate):
    node = validate(nscf={"SYSTEM": {"nbnd": 3}})
    assert node.is_finished_ok, node.exit_message
    first, second = runs(node, "nscf")[0], runs(node, "nscf")[-1]
    assert "bad Fermi energy" in first.outputs.retrieved.base.repository.get_object_content("aiida.out")
    assert bands_of(first) == 3 and bands_of(second) > 4 and second.is_finished_ok
    assert len({job.pk for job in runs(node, "scf")}) == 1  # from the same charge density


def test_bands_that_end_below_the_window_become_more(validate):
    node = validate(complete_up_to=9.0)
    assert node.is_finished_ok, node.exit_message
    first, second = runs(node, "nscf")
    assert first.is_finished_ok and bands_of(second) > bands_of(first)
    curves = [
        entry.node.crystals.crystal_columns["complete_below"][0]
        for child in node.called
        if child.process_label == "projected_dos"
        for entry in child.base.links.get_outgoing().all()
    ]
    assert sorted(curves) == curves and curves[0] < curves[1]
    assert node.outputs.dos.crystals.crystal_columns["complete_below"][0] == curves[1]


def test_projections_of_a_nearly_symmetric_cell_are_computed_without_symmetry(validate):
    """pw.x finds 48 operations in a cell that is off by 1e-7, and projwfc.x stops at the first of them."""
    atoms = bulk("Si", "diamond", a=5.43)
    strain = 1e-7 * np.array([[0.3, -0.9, 0.4], [-0.9, -1.2, 0.7], [0.4, 0.7, 0.8]])
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    node = validate(atoms)
    assert node.is_finished_ok, node.exit_message
    first, second = runs(node, "projwfc")
    assert "d_matrix" in first.outputs.retrieved.base.repository.get_object_content("aiida.out")
    assert not first.is_finished_ok and second.is_finished_ok
    assert [job.inputs.parameters["SYSTEM"]["nosym"] for job in runs(node, "nscf")] == [False, True]
    assert len(runs(node, "scf")) == 1
    curve = validate().outputs.dos.crystals.atom_columns["dos"]
    np.testing.assert_allclose(node.outputs.dos.crystals.atom_columns["dos"], curve, atol=0.02)


@pytest.fixture
def candidates(aiida_profile):
    """What a finished candidates work chain leaves: silicon in three crystals, the second one with twice the electrons."""
    rng = np.random.default_rng(1)
    every = [bulk("Si", "diamond", a=5.43), bulk("SiSi", "wurtzite", a=3.84, c=6.27), bulk("Si", "sc", a=2.55)]
    n_atoms = [len(atoms) for atoms in every]
    crystals = CrystalSet(
        n_atoms,
        np.concatenate([atoms.numbers for atoms in every]),
        np.concatenate([atoms.get_scaled_positions() for atoms in every]),
        np.stack([atoms.cell.array for atoms in every]),
        {
            "candidate": np.array([3, 5, 8]),
            "seed": np.array([1, 1, 1]),
            "energy": -5.1 * np.array(n_atoms),
            "status": np.array(["converged"] * 3),
        },
        {"predicted_dos": rng.uniform(size=(sum(n_atoms), DEFAULT_GRID.n)).astype(np.float32)},
    )
    result, node = screen.run_get_node(
        crystals=CrystalSetData(crystals),
        references=orm.Dict({"energies": {"Si": -5.0}}),
        criteria=orm.Dict({}),
    )
    assert node.is_finished_ok and result["crystals"].base.attributes.get("n_crystals") == 3, result["report"].get_dict()
    chain = orm.WorkChainNode()
    chain.set_process_label("CandidatesWorkChain")
    chain.set_process_state("finished")
    chain.set_exit_status(0)
    chain.store()
    for name in ("crystals", "report"):
        result[name].base.links.add_incoming(chain, LinkType.RETURN, name)
    chain.seal()
    return chain


def test_a_campaign_goes_on_after_an_incurable_crystal_and_says_why(real_codes, candidates, models, codes):
    """With five bands the self-consistent run cannot hold the electrons of four atoms."""
    step = {**FEW_KPOINTS, "pw": {"parameters": {"SYSTEM": {"nbnd": 5}}}}
    builder = CampaignOfGivenCandidates.get_builder_from_protocol(
        {**real_codes, "dosmatgen": codes["dosmatgen"]},
        {"silicon": DosTargetData(DosTarget(np.exp(-0.5 * (DEFAULT_GRID.points + 3) ** 2)[None]))},
        **models,
        protocol="fast",
        overrides={
            "validate": {
                "pseudo_family": ensure_pseudo_family().label,
                "cutoffs_stringency": "fast",
                "pdos": {"scf": step, "nscf": FEW_KPOINTS},
            }
        },
        dft_options={"withmpi": False, "max_wallclock_seconds": 1200},
        top_k=3,
        max_concurrent=2,
    )
    builder.given = orm.Str(candidates.uuid)
    node = run_get_node(builder)[1]
    assert node.is_finished_ok, node.exit_message
    rows = {row["candidate"]: row for row in node.outputs.ranking["targets"]["silicon"]}
    assert {candidate: row["status"] for candidate, row in rows.items()} == {3: "validated", 5: "failed", 8: "validated"}
    assert "too few bands" in rows[5]["reason"]


@pytest.mark.parametrize(("name", "label"), [("pw", "scf"), ("projwfc", "projwfc")])
def test_a_killed_run_is_run_again(validate, killed, name, label):
    node = validate(codes={name: killed(name, times=1)})
    assert node.is_finished_ok, node.exit_message
    first, again = runs(node, label)
    assert not first.is_finished_ok and again.is_finished_ok
    assert node.outputs.score.get_dict()["mae"] >= 0


def test_what_is_always_killed_is_given_up_with_the_reason(validate, killed):
    node = validate(codes={"pw": killed("pw", times=1000)})
    assert node.exit_status == ValidateWorkChain.exit_codes.ERROR_PDOS_FAILED.status
    assert len(runs(node, "scf")) == 4
