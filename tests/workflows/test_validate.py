"""Validations: inputs, relaxation, and one of each kind with the real pw.x and projwfc.x."""

import numpy as np
import pytest
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from aiida_quantumespresso.common.types import SpinType
from ase.build import bulk

from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.setup import ensure_debian_family
from aiida_dosmatgen.workflows.retries import LIMIT
from aiida_dosmatgen.workflows.validate import ValidateWorkChain

from .conftest import FAMILY, QUICK, SERIAL


@pytest.fixture
def build(codes, pseudo_family, target_node):
    def _build(structure=None, overrides=None, **kwargs):
        return ValidateWorkChain.get_builder_from_protocol(
            codes["pw"],
            codes["projwfc"],
            orm.StructureData(ase=structure or bulk("SiC", "zincblende", a=4.36)),
            target_node,
            **{"protocol": "fast", "overrides": {"pseudo_family": FAMILY, **(overrides or {})}, **kwargs},
        )

    return _build


@pytest.mark.parametrize("protocol", ["fast", "balanced", "stringent"])
@pytest.mark.parametrize("relax", [False, True])
def test_protocols_make_valid_inputs(build, process, protocol, relax):
    chain = process(build(protocol=protocol, relax=relax))
    assert chain.setup() is None
    assert chain.should_relax() is relax and chain.should_run_dos()
    assert set(chain.inputs.dos.pseudos) == {"Si", "C"}


def test_the_fast_protocol_is_the_recipe_of_the_labels_on_symmetric_meshes(build, process):
    chain = process(build())
    expected = Recipe(density_factor=8, symmetric_mesh=True)  # of ultrasoft files
    assert Recipe.model_validate(chain.inputs.dos.recipe.get_dict()) == expected


@pytest.mark.parametrize("protocol", ["fast", "balanced", "stringent"])
def test_relaxations_have_the_mesh_of_their_protocol_in_aiida_quantumespresso(build, process, protocol):
    theirs = WorkflowFactory("quantumespresso.pw.base").get_protocol_inputs(protocol)
    ours = process(build(protocol=protocol, relax=True, spin_type=SpinType.NONE)).inputs
    assert ours.relax.base_relax.kpoints_distance.value == theirs["kpoints_distance"]
    control = ours.relax.base_relax.pw.parameters["CONTROL"]
    assert control["forc_conv_thr"] == theirs["pw"]["parameters"]["CONTROL"]["forc_conv_thr"]
    assert ours.dos.recipe["moments"] == {}


def test_a_relaxation_follows_the_recipe(build, process):
    overrides = {"recipe": {"cutoff": 33, "functional": {"vdw_corr": "grimme-d3"}, "moments": {"Si": 2.0}}}
    chain = process(build(relax=True, overrides=overrides))
    chain.setup()
    inputs = AttributeDict(chain.exposed_inputs(WorkflowFactory("quantumespresso.pw.relax"), "relax"))
    chain._fill(inputs.base_relax.pw)
    parameters = inputs.base_relax.pw.parameters.get_dict()
    assert parameters["CONTROL"]["calculation"] == "vc-relax"
    assert parameters["CONTROL"]["etot_conv_thr"] == pytest.approx(2e-5)
    system = parameters["SYSTEM"]
    assert (system["ecutwfc"], system["ecutrho"], system["vdw_corr"], system["nspin"]) == (33, 8 * 33, "grimme-d3", 2)
    assert system["starting_magnetization"] == {"C": 0.1 / 4, "Si": 2.0 / 4}
    assert set(inputs.base_relax.pw.pseudos) == {"Si", "C"}


def test_what_the_user_gives_is_kept(build, process):
    system = {"ecutwfc": 55, "ecutrho": 440, "degauss": 0.001}
    overrides = {
        "recipe": {"bands_distance": 0.11},
        "dos": {"pw": {"max_iterations": 2}},
        "relax": {"base_relax": {"kpoints_distance": 0.4, "pw": {"parameters": {"SYSTEM": system}}}},
    }
    chain = process(build(overrides=overrides, options={"max_wallclock_seconds": 77}, relax=True))
    chain.setup()
    inputs = AttributeDict(chain.exposed_inputs(WorkflowFactory("quantumespresso.pw.relax"), "relax"))
    chain._fill(inputs.base_relax.pw)
    assert {key: inputs.base_relax.pw.parameters["SYSTEM"][key] for key in system} == system
    assert inputs.base_relax.kpoints_distance == 0.4
    assert inputs.base_relax.pw.metadata.options.max_wallclock_seconds == 77
    assert chain.inputs.dos.recipe["bands_distance"] == 0.11
    assert chain.inputs.dos.pw.max_iterations == 2
    assert chain.inputs.dos.pw.pw.metadata.options.max_wallclock_seconds == 77
    assert chain.inputs.dos.projwfc.metadata.options.max_wallclock_seconds == 77


def test_a_structure_without_pseudopotential_is_an_exit_code(build, process):
    builder = build()
    builder.structure = orm.StructureData(ase=bulk("GaAs", "zincblende", a=5.65))
    exit_code = process(builder).setup()
    assert exit_code.status == ValidateWorkChain.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.status
    assert exit_code.message == "pseudopotentials: no pseudopotential for As Ga; there are some for C Si"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"relax": {"base_relax": {"kpoint_distance": 0.1}}}, "unknown key 'relax.base_relax.kpoint_distance'"),
        ({"recipe": {"sigmas": 1}}, "recipe: .*sigmas"),
        ({"pdos": {}}, "unknown key 'pdos'.*'dos'"),
        ({"pseudo_family": "none/such"}, "no pseudopotential family 'none/such'"),
    ],
)
def test_bad_overrides_are_refused(build, overrides, message):
    with pytest.raises(ValueError, match=message):
        build(overrides=overrides)


def test_a_work_chain_that_aiida_failed_with_is_run_again(build, process):
    def ended(state, status=None):
        node = orm.WorkChainNode()
        node.set_process_state(state)
        if state == "excepted":
            node.set_exception("aio_pika.exceptions.ConnectionClosed")
        else:
            node.set_exit_status(status)
        return node.store()

    chain = process(build())
    chain.setup()
    for _ in range(LIMIT - 1):
        chain.ctx.dos = ended("excepted")
        assert chain.inspect_dos() is None and chain.should_run_dos()
    chain.ctx.dos = ended("excepted")
    exit_code = chain.inspect_dos()
    assert exit_code.status == ValidateWorkChain.exit_codes.ERROR_DOS_FAILED.status
    assert "excepted: aio_pika.exceptions.ConnectionClosed" in exit_code.message
    assert chain.outputs["failure"]["reason"] == exit_code.message
    chain.ctx.interruptions = {}
    chain.ctx.dos = ended("finished", 302)
    assert chain.inspect_dos().status == ValidateWorkChain.exit_codes.ERROR_DOS_FAILED.status


# without relaxation it is a part of every campaign, and the relaxed one has all of its steps
@pytest.mark.parametrize("relax", [pytest.param(False, marks=pytest.mark.slow), True])
def test_silicon_is_validated(real_codes, relax):
    """The score is the distance of the curves that the target's kind of labels has."""
    forces = {"CONTROL": {"forc_conv_thr": 1e-2}}
    builder = ValidateWorkChain.get_builder_from_protocol(
        real_codes["pw"],
        real_codes["projwfc"],
        orm.StructureData(ase=bulk("Si")),
        DosTargetData(DosTarget(np.exp(-0.5 * (DEFAULT_GRID.points + 3) ** 2)[None])),
        protocol="fast",
        overrides={
            "pseudo_family": ensure_debian_family().label,
            "recipe": QUICK,
            "relax": {"meta_convergence": False, "base_relax": {"kpoints_distance": 1.0, "pw": {"parameters": forces}}},
        },
        options=SERIAL,
        relax=relax,
    )
    node = run_get_node(builder)[1]
    assert node.is_finished_ok, node.exit_message
    volume = node.outputs.structure.get_cell_volume()
    assert bool(abs(volume - builder.structure.get_cell_volume()) > 0.1) is relax
    score = node.outputs.score.get_dict()
    assert 0 < score["mae"] < 3 and score["formula"] == "Si"
    assert score["projected_electrons"] == pytest.approx(8, abs=0.4)
