import pytest
from aiida import orm

from aiida_dosmatgen.core.dft import n_bands
from aiida_dosmatgen.data.crystals import CrystalSetData
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
    assert chain.outputs["report"].get_dict() == {"given": 3, "labelled": 0, "failed": chain.ctx.failures}
    assert isinstance(chain.outputs["report"], orm.Dict)
