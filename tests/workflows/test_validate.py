import pytest
from aiida import orm
from aiida.common import AttributeDict
from aiida.common.links import LinkType
from ase.build import bulk

from aiida_dosmatgen.core.dft.settings import more_bands, n_bands
from aiida_dosmatgen.workflows.error_handlers import MORE_BANDS, WITHOUT_SYMMETRY
from aiida_dosmatgen.workflows.validate import ValidateWorkChain

from .conftest import FAMILY


@pytest.fixture
def build(codes, pseudo_family, target_node):
    def _build(structure=None, overrides=None, **kwargs):
        return ValidateWorkChain.get_builder_from_protocol(
            codes["pw"],
            codes["dos"],
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
    assert chain.should_relax() is relax
    for step in ("scf", "nscf"):
        system = chain.inputs.pdos[step].pw.parameters.get_dict()["SYSTEM"]
        # tetrahedra_opt gives a DOS of zeros, nosym costs a factor of 3
        assert system["occupations"] == {"scf": "smearing", "nscf": "tetrahedra"}[step]
        assert system["nosym"] is False
    assert chain.inputs.pdos.scf.kpoints_distance == chain.inputs.pdos.nscf.kpoints_distance


def test_settings_that_depend_on_the_structure_are_filled_in(build, process):
    chain = process(build())
    chain.setup()
    inputs = AttributeDict(chain.exposed_inputs(chain_class("quantumespresso.pdos"), "pdos"))
    chain._fill(inputs.nscf.pw, bands=True)
    parameters = inputs.nscf.pw.parameters.get_dict()
    assert (parameters["SYSTEM"]["ecutwfc"], parameters["SYSTEM"]["ecutrho"]) == (25.0, 200.0)
    assert parameters["SYSTEM"]["nbnd"] == n_bands(8, 2)
    assert parameters["ELECTRONS"]["conv_thr"] == pytest.approx(2 * 2e-9)
    assert set(inputs.nscf.pw.pseudos) == {"Si", "C"}

    chain.ctx.remedies = [MORE_BANDS]
    inputs = AttributeDict(chain.exposed_inputs(chain_class("quantumespresso.pdos"), "pdos"))
    chain._fill(inputs.nscf.pw, bands=True)
    assert inputs.nscf.pw.parameters.get_dict()["SYSTEM"]["nbnd"] == more_bands(8, 2) > n_bands(8, 2)


def test_what_the_user_gives_is_kept(build, process):
    system = {"ecutwfc": 55, "ecutrho": 440, "nbnd": 21}
    overrides = {"pdos": {"nscf": {"kpoints_distance": 0.11, "pw": {"parameters": {"SYSTEM": system}}}}}
    chain = process(build(overrides=overrides, options={"max_wallclock_seconds": 77}))
    chain.setup()
    inputs = AttributeDict(chain.exposed_inputs(chain_class("quantumespresso.pdos"), "pdos"))
    chain._fill(inputs.nscf.pw, bands=True)
    assert {key: inputs.nscf.pw.parameters.get_dict()["SYSTEM"][key] for key in system} == system
    assert inputs.nscf.kpoints_distance == 0.11
    assert inputs.scf.pw.metadata.options.max_wallclock_seconds == 77


def test_a_structure_without_pseudopotential_is_an_exit_code(build, process):
    builder = build()
    builder.structure = orm.StructureData(ase=bulk("GaAs", "zincblende", a=5.65))
    exit_code = process(builder).setup()
    assert exit_code.status == ValidateWorkChain.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.status
    assert exit_code.message == "no pseudopotential for As Ga; there are some for C Si"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pdos": {"nscf": {"kpoint_distance": 0.1}}}, "unknown key 'pdos.nscf.kpoint_distance'.*'kpoints_distance'"),
        ({"settings": {"conv_thr": 1}}, "unknown key 'settings.conv_thr'.*'conv_thr_per_atom'"),
        ({"pseudo_family": "none/such"}, "no pseudopotential family 'none/such'"),
        ({"cutoffs_stringency": "lax"}, "test/family.*lax"),
    ],
)
def test_bad_overrides_are_refused(build, overrides, message):
    with pytest.raises(ValueError, match=message):
        build(overrides=overrides)


@pytest.mark.parametrize(
    ("system", "message"),
    [({"occupations": "tetrahedra_opt"}, "a DOS of zeros"), ({"nspin": 2}, "spin-polarised")],
)
def test_what_would_run_for_nothing_is_refused(build, process, system, message):
    with pytest.raises(ValueError, match=message):
        process(build(overrides={"pdos": {"nscf": {"pw": {"parameters": {"SYSTEM": system}}}}}))


def test_each_handler_is_tried_once(build, process):
    chain = process(build())
    chain.setup()
    assert chain.should_run_pdos()
    chain.ctx.again = False
    assert chain._try(MORE_BANDS, "too few bands") and chain.should_run_pdos()
    chain.ctx.again = False
    assert not chain._try(MORE_BANDS, "too few bands") and not chain._try(None, "unknown") and not chain.should_run_pdos()
    assert chain._try(WITHOUT_SYMMETRY, "d_matrix") and chain.should_run_pdos()


def test_outputs_that_a_killed_daemon_lost_are_computed_again(build, process, codes):
    """What aiida-core leaves if it is killed when a base work chain has attached its outputs, but not ended: status 11."""

    def ended(status, with_output):
        pdos, base = (orm.WorkChainNode(computer=None) for _ in range(2))
        pdos.store()
        base.base.links.add_incoming(pdos, LinkType.CALL_WORK, "scf")
        base.store()
        base.set_process_state("finished")
        base.set_exit_status(status)
        if with_output:
            output = orm.Dict({"energy": 1.0}).store()
            output.base.links.add_incoming(base, LinkType.RETURN, "output_parameters")
        pdos.set_process_state("finished")
        pdos.set_exit_status(402)
        return pdos

    chain = process(build())
    chain.setup()
    for status, with_output in ((11, False), (310, True)):
        chain.ctx.pdos, chain.ctx.again = ended(status, with_output), False
        assert chain.inspect_pdos().status == ValidateWorkChain.exit_codes.ERROR_PDOS_FAILED.status
    for _ in range(3):
        chain.ctx.pdos, chain.ctx.again = ended(11, True), False
        assert chain.inspect_pdos() is None and chain.should_run_pdos()
    assert chain.inspect_pdos().status == ValidateWorkChain.exit_codes.ERROR_PDOS_FAILED.status


@pytest.mark.parametrize("what", ["pdos", "scf", "job"])
def test_bands_that_aiida_failed_with_are_computed_again(build, process, codes, what):
    def broken():
        nodes = {"pdos": orm.WorkChainNode(), "scf": orm.WorkChainNode(), "job": orm.CalcJobNode()}
        links = {"pdos": None, "scf": ("pdos", LinkType.CALL_WORK, "scf"), "job": ("scf", LinkType.CALL_CALC, "iteration_01")}
        for name, node in nodes.items():
            if links[name]:
                caller, kind, label = links[name]
                node.base.links.add_incoming(nodes[caller], kind, label)
            node.store()
            if name == what:
                node.set_process_state("excepted")
                node.set_exception("aio_pika.exceptions.ConnectionClosed")
                break
            node.set_process_state("finished")
            node.set_exit_status(301)
        return nodes["pdos"]

    chain = process(build())
    chain.setup()
    for _ in range(3):
        chain.ctx.pdos, chain.ctx.again = broken(), False
        assert chain.inspect_pdos() is None and chain.should_run_pdos()
    chain.ctx.pdos = broken()
    exit_code = chain.inspect_pdos()
    assert exit_code.status == ValidateWorkChain.exit_codes.ERROR_PDOS_FAILED.status
    assert "excepted: aio_pika.exceptions.ConnectionClosed" in exit_code.message


def chain_class(name):
    from aiida.plugins import WorkflowFactory

    return WorkflowFactory(name)
