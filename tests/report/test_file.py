"""The page of a campaign as a file: what it is not made of, and what it carries inside."""

import json
import re
from pathlib import Path

import pytest
from aiida import orm

from aiida_dosmatgen import report


def test_what_is_no_finished_campaign_is_refused(make_campaign, synthetic, shared_nodes, tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(ValueError, match="^Int<.*> is no campaign; give a CampaignWorkChain$"):
        report.write(orm.Int(1).store(), path)
    running = orm.WorkChainNode()
    running.set_process_type("aiida.workflows:dosmatgen.campaign")
    running.set_process_label("CampaignWorkChain")
    running.set_process_state("running")
    with pytest.raises(ValueError, match="^CampaignWorkChain<.*> has no ranking; its state is running: aiida-dosmatgen status"):
        report.write(running.store(), path)
    campaign = make_campaign(n_candidates=10, n_validated=1)
    validation = next(node for node in campaign.called if node.process_label == "ValidateWorkChain")
    with pytest.raises(ValueError, match="^ValidateWorkChain<.*> is no campaign"):
        report.write(validation, path)
    assert list(tmp_path.glob("*page.html*")) == []


def test_what_it_carries_inside_is_what_the_registry_has():
    """The libraries are unchanged, and their licences are there."""
    vendor = Path(report.__file__).parent / "vendor"
    readme = (vendor / "README.md").read_text()
    for library in vendor.glob("*.js"):
        assert f"`{library.name}`" in readme
        assert library.with_name(re.sub(r"(-min|\.min)\.js$", ".LICENSE", library.name)).is_file()
        assert library.stat().st_size < 1_500_000
    assert json.dumps(sorted(one.name for one in vendor.glob("*.js"))) == '["3Dmol-min.js", "plotly-basic.min.js"]'
