"""Crystals of earlier campaigns, and what counts as known."""

import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.workflows.known import known_crystals

pytestmark = pytest.mark.usefixtures("aiida_profile_clean")


def campaign(crystals) -> CrystalSetData:
    """Store what a finished candidates work chain leaves."""
    chain, node = orm.WorkChainNode(process_type="aiida.workflows:dosmatgen.candidates"), CrystalSetData(crystals).store()
    chain.store()
    node.base.links.add_incoming(chain, LinkType.RETURN, "crystals")
    return node


def test_nothing_is_known_at_first(crystals):
    with pytest.raises(ValueError, match="no crystals are given, and no campaign has found any"):
        known_crystals()
    assert known_crystals(CrystalSetData(crystals)).crystals == crystals


def test_crystals_of_earlier_campaigns_are_known(crystals):
    given, first, second = CrystalSetData(crystals[[0]]).store(), campaign(crystals[[1]]), campaign(crystals[[2]])
    campaign(crystals[[]])  # found nothing
    known = known_crystals(given)
    assert sorted(known.crystals.formulas) == sorted(crystals.formulas)
    assert {entry.node.uuid for entry in known.creator.base.links.get_incoming().all()} == {given.uuid, first.uuid, second.uuid}


def test_crystals_with_other_elements_are_left_out(crystals):
    campaign(crystals)
    assert known_crystals(elements=["Si", "C"]).crystals.formulas == crystals[[0, 1]].formulas
