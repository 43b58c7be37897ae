import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.manage.caching import disable_caching, enable_caching
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.setup import ensure_debian_family
from aiida_dosmatgen.workflows.failures import noted
from aiida_dosmatgen.workflows.label import LabelWorkChain
from aiida_dosmatgen.workflows.retries import LIMIT
from aiida_dosmatgen.workflows.timing import rate_of

from .conftest import FAMILY, QUICK, SERIAL


@pytest.fixture
def build(codes, pseudo_family, crystals):
    def _build(**kwargs):
        overrides = {"pseudo_family": FAMILY, **kwargs.pop("overrides", {})}
        return LabelWorkChain.get_builder_from_protocol(
            codes["pw"], codes["projwfc"], CrystalSetData(crystals), overrides=overrides, **kwargs
        )

    return _build


@pytest.mark.parametrize("protocol", [None, "fast", "balanced", "stringent"])
def test_protocols_make_valid_inputs(build, process, protocol):
    chain = process(build(protocol=protocol))
    chain.setup()
    chain.open_window()
    assert chain.crystals_left()
    recipe = Recipe.model_validate(chain.inputs.dos.recipe.get_dict())
    # the family has an ultrasoft file of carbon
    assert (recipe == Recipe(density_factor=8)) is (protocol in (None, "fast"))


def test_nothing_labelled_is_an_exit_code_with_a_report(build, process):
    chain = process(build())
    chain.setup()
    chain.ctx.failures = {str(row): noted(chain.inputs.crystals, "pw.x crashed") for row in range(3)}
    exit_code = chain.assemble()
    assert exit_code.status == LabelWorkChain.exit_codes.ERROR_NO_LABELS.status
    assert "pw.x crashed" in exit_code.message
    assert chain.outputs["report"].get_dict() == {
        "given": 3,
        "labelled": 0,
        "failed": dict.fromkeys("012", "pw.x crashed"),
    }
    assert isinstance(chain.outputs["report"], orm.Dict)


def test_a_work_chain_that_aiida_failed_with_is_repeated(build, process):
    chain = process(build(max_concurrent=1))
    chain.setup()
    chain.open_window()
    chain.ctx.next = 1
    began = []
    chain._begin = began.append
    for again in [*[True] * (LIMIT - 1), False]:
        node = orm.WorkChainNode()
        node.base.links.add_incoming(orm.StructureData(ase=bulk("Si")).store(), LinkType.INPUT_WORK, "structure")
        node.set_process_state("excepted")
        node.set_exception("aio_pika.exceptions.ConnectionClosed")
        chain.add_child("dos_0", node.store())
        assert chain.crystals_left() and not chain.may_start()
        chain.inspect()
        assert (chain.ctx.failures == {}) is again
        if again:
            chain.start_next()
            assert began.pop() == 0 and chain.ctx.next == 1
    assert list(chain.ctx.failures) == ["0"]


@pytest.fixture
def label_for_real(real_codes):
    """Return a function that labels crystals with the real executables, in this process, and returns the work chain's node."""

    def label(crystals):
        builder = LabelWorkChain.get_builder_from_protocol(
            real_codes["pw"],
            real_codes["projwfc"],
            CrystalSetData(crystals),
            overrides={"pseudo_family": ensure_debian_family().label, "recipe": QUICK},
            options=SERIAL,
        )
        return run_get_node(builder)[1]

    return label


@pytest.mark.slow
def test_a_second_run_computes_only_what_is_missing_and_says_so(label_for_real, crystals):
    """Silicon twice, at two volumes; and aluminium, of which Debian has no pseudopotential."""
    silicon = crystals[:1].with_columns(crystal={"source": np.array(["here"])})
    aluminium = silicon.replace(numbers=np.array([13, 13]))
    with disable_caching():
        first = label_for_real(silicon)
    assert first.is_finished_ok, first.exit_message
    rate = rate_of(first, 2)
    assert (rate["structures"], rate["workers"], rate["jobs"], rate["jobs_from_cache"]) == (1, 2, 3, 0)
    assert rate["structures_per_hour"] == pytest.approx(3600 / rate["wall_seconds"], rel=0.1)
    assert 0 < rate["program_seconds_per_structure"] < rate["job_seconds_per_structure"]
    with enable_caching():
        larger = silicon.replace(lattices=1.02 * silicon.lattices)
        second = label_for_real(CrystalSet.concatenate([silicon, larger, aluminium]))
    assert second.is_finished_ok, second.exit_message
    rate = rate_of(second, 2)
    assert (rate["structures"], rate["jobs"], rate["jobs_from_cache"]) == (1, 6, 3)
    (reason,) = second.outputs.report["failed"].values()
    assert "no pseudopotential for Al" in reason
    one, both = (node.outputs.crystals.crystals for node in (first, second))
    np.testing.assert_array_equal(one.atom_columns["dos"], both[0].atom_columns["dos"])
    assert both.atom_columns["dos"].shape == (4, 2, 4, len(Recipe().energies))
    assert both.crystal_columns["source"].tolist() == ["here", "here"]
    energies = both.crystal_columns["energy"]
    assert one.crystal_columns["energy"][0] == energies[0] != energies[1]
    assert curves_of(both, 1).total.max() > 1
    # one link of each crystal
    (assembled,) = (child for child in second.called if child.process_label == "assemble_labelled")
    assert sorted(assembled.base.links.get_incoming().all_link_labels()) == [
        *("assemble_labelled", "crystals", "dos_0", "dos_1", "failure_2", "recipe")
    ]
