"""The page of a campaign: in a browser, on a phone, on paper, with a keyboard, with malicious labels."""

import base64
import io
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from aiida import orm
from PIL import Image
from selenium.webdriver.common.keys import Keys

from aiida_dosmatgen import report
from aiida_dosmatgen.tools.campaign import compared, results_of
from aiida_dosmatgen.tools.ranking import ranking_content

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
LIMIT = 8_000_000


@pytest.fixture
def campaign(make_campaign):
    """A campaign of 60 candidates, 30 ranked, 5 validated, 2 failed, with a target of two sites."""
    return make_campaign(sites=2, n_candidates=60, n_ranked=30, n_validated=5)


WRITTEN: dict[str, str] = {}


@pytest.fixture
def path(request, tmp_path):
    """Its page; the campaign is the same each time, so that it is written once."""
    path = tmp_path / "campaign.html"
    if not WRITTEN:
        report.write(request.getfixturevalue("campaign"), path)
        WRITTEN["page"] = path.read_text(encoding="utf-8")
    path.write_text(WRITTEN["page"], encoding="utf-8")
    return path


def colours(page, selector):
    """Return the picture of an element as an array, and how many colours it has."""
    picture = np.array(Image.open(io.BytesIO(page.find(selector).screenshot_as_png)).convert("RGB"))
    return picture, len(np.unique(picture.reshape(-1, 3), axis=0))


def test_it_draws_curves_and_structure(page, path, campaign):
    page.open(path)
    assert page.run("return document.querySelectorAll('#plot .scatterlayer .trace').length") == 3
    best = min(
        (crystal for crystal in results_of(campaign).crystals if crystal.validated), key=lambda one: one.row["dft"]["mae"]
    )
    label = page.find("#plot").get_attribute("aria-label")
    assert f"{best.row['dft']['mae']:.4f} states per eV and atom" in label
    page.run("document.getElementById('structure').scrollIntoView({behavior: 'instant'})")
    page.wait(lambda: page.all("#structure canvas"))
    page.wait(lambda: colours(page, "#structure")[1] > 100)
    before, _ = colours(page, "#structure")
    page.find("#structure").send_keys(Keys.ARROW_LEFT)
    page.wait(lambda: (colours(page, "#structure")[0] != before).mean() > 0.01)
    symbols = {symbol for symbol in re.findall("[A-Z][a-z]?", best.row["formula"])}
    assert {entry.text for entry in page.all("#elements span")} == symbols


def test_the_drawn_curves_are_those_of_the_nodes(page, path, campaign):
    results = results_of(campaign)
    page.open(path, fragment="#crystal-1")
    crystal = results.crystals[1]
    assert crystal.validated
    target = results.targets[crystal.target]
    drawn = page.run("return document.getElementById('plot').data.map((trace) => ({name: trace.name, y: trace.y}))")
    energies = target.grid.points
    expected = {
        "target": (target.total, target.low, target.high),
        "predicted": (compared(target, crystal, crystal.predicted).mean(0), -np.inf, np.inf),
        "DFT": (compared(target, crystal, crystal.dft).mean(0), crystal.low, crystal.complete_below),
    }
    assert [trace["name"] for trace in drawn] == list(expected)
    assert target.low > energies[0]  # nothing is drawn where nothing is known
    for trace in drawn:
        curve, low, high = expected[trace["name"]]
        values = np.array([np.nan if value is None else value for value in trace["y"]])
        assert np.array_equal(np.isnan(values), (energies < low) | (energies > high))
        assert np.nanmax(np.abs(values - curve)) <= curve.max() / 65535


def test_the_funnel_is_that_of_the_report(page, path, campaign):
    page.open(path)
    steps = {row.text.rsplit(None, 1)[0]: int(row.text.rsplit(None, 1)[1]) for row in page.all(".funnel tbody tr")}
    assert steps == {
        "sampled": 60,
        "valid crystals": 60 - 7,
        "unique": 30,
        "computed by DFT": 7,
        "validated": 5,
    }
    page.click(".funnel summary")
    reasons = page.find(".funnel .reasons").text
    assert "8 formation energy too high" in reasons and "2 DFT failed: the bands could not be computed" in reasons


def test_it_sorts(page, path, campaign):
    page.open(path)
    assert page.column("Rank") == ["1", "2", "3", "4", "5"]
    page.click("[name=shown][value=all]")
    assert len(page.column("Rank")) == 30
    heading = "//th[contains(., 'DFT')]/button[text()='DFT']"
    for direction, reverse in (("ascending", False), ("descending", True)):
        page.driver.find_element("xpath", heading).send_keys(Keys.ENTER)
        values = page.column("DFT")
        known = [float(value) for value in values if value != "–"]
        assert len(known) == 5 and known == sorted(known, reverse=reverse)
        assert values[5:] == ["–"] * 25  # what is not known comes last either way
        assert page.driver.find_element("xpath", f"{heading}/..").get_attribute("aria-sort") == direction
    assert len(page.all("#table th[aria-sort]")) == 1
    page.driver.find_element("xpath", "//th/button[text()='Formula']").click()
    formulas = page.column("Formula")
    assert formulas == page.run("return [...arguments[0]].sort((a, b) => a.localeCompare(b, 'en', {numeric: true}))", formulas)


def test_it_filters(page, path, campaign):
    page.open(path)
    page.click("[name=shown][value=all]")
    rows = results_of(campaign).crystals
    wanted = rows[7].row["formula"]
    page.find("#search").send_keys(wanted.lower())
    found = [one for one in rows if wanted.lower() in one.row["formula"].lower()]
    assert page.column("Candidate") == [str(one.row["candidate"]) for one in found]
    assert page.find("#shown").text == f"{len(found)} of 30 shown"


def test_it_opens_a_crystal_by_mouse_and_by_keyboard(page, path, campaign):
    crystals = results_of(campaign).crystals
    page.open(path)
    page.click("#table tbody tr:nth-child(3) td:last-child")
    page.wait(lambda: f"candidate {crystals[2].row['candidate']}" in page.find("#crystal-target").text)
    assert page.run("return document.activeElement.id") == "crystal-title"
    assert page.run("return document.querySelector('tr[aria-current]').dataset.place") == "2"
    page.run("document.querySelector('#table tbody tr:nth-child(4) a').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait(lambda: f"candidate {crystals[3].row['candidate']}" in page.find("#crystal-target").text)
    page.click("#next")
    page.wait(lambda: f"candidate {crystals[4].row['candidate']}" in page.find("#crystal-target").text)
    page.driver.back()
    page.wait(lambda: f"candidate {crystals[3].row['candidate']}" in page.find("#crystal-target").text)
    facts = page.find("#facts").text
    assert f"{crystals[3].row['dft']['mae']:.4f}" in facts and crystals[3].row["validation"] in facts
    assert "−110.0000" in facts  # by pw.x, in eV/atom


def test_it_says_in_which_geometry_each_crystal_was_compared(page, path, campaign):
    crystals = results_of(campaign).crystals
    page.open(path)
    page.click("[name=shown][value=all]")
    assert page.column("Geometry") == [one.row["geometry"] for one in crystals]
    for geometry, words in (("relaxed", "relaxed with"), ("unrelaxed", "its density of states predicted unrelaxed")):
        place = next(i for i, one in enumerate(crystals) if one.row["geometry"] == geometry and one.validated)
        page.open(path, fragment=f"#crystal-{place}")
        assert words in page.find("#made").text
        facts = page.find("#facts").text
        assert ("Energy above the relaxed geometry" in facts) == (geometry == "unrelaxed") and geometry in facts


def test_a_crystal_without_dft_has_two_curves_and_no_lineage(page, path):
    page.open(path, fragment="#crystal-10")
    assert page.run("return document.querySelectorAll('#plot .scatterlayer .trace').length") == 2
    assert not page.find("#lineage").is_displayed()
    assert "not validated" in page.find("#crystal-title").text


def test_curves_of_the_sites(page, make_campaign, synthetic, tmp_path):
    crystals = synthetic.made_up(np.random.default_rng(3), 4, largest=2)
    campaign = make_campaign(sites=2, n_candidates=4, n_ranked=4, n_validated=2, n_failed=0, crystals=crystals)
    results, place = results_of(campaign), 1
    target = results.targets["target"]
    page.open(report.write(campaign, tmp_path / "sites.html"), fragment=f"#crystal-{place}")
    page.find("#site option[value='1']").click()
    drawn = page.run("return document.getElementById('plot').data.map((trace) => trace.y)")
    inside = (target.grid.points >= target.low) & (target.grid.points <= target.high)
    assert np.allclose(np.array(drawn[0], float)[inside], target.curves[1][inside], atol=target.curves.max() / 65535)
    dft = compared(target, results.crystals[place], results.crystals[place].dft)[1]
    shown = target.grid.points <= results.crystals[place].complete_below
    assert np.allclose(np.array(drawn[2], float)[shown], dft[shown], atol=dft.max() / 65535)


def test_it_downloads_cif_and_curves(page, path, campaign):
    crystal = results_of(campaign).crystals[1].crystal
    page.open(path, fragment="#crystal-1")
    page.click("#cif")
    downloaded, expected = ase.io.read(page.downloaded(".cif")), crystal.to_ase()[0]
    assert downloaded.get_chemical_symbols() == expected.get_chemical_symbols()
    assert np.allclose(downloaded.cell.cellpar(), expected.cell.cellpar(), atol=1e-6)
    assert np.allclose(downloaded.get_all_distances(mic=True), expected.get_all_distances(mic=True), atol=1e-5)
    page.click("#csv")
    lines = page.downloaded(".csv").read_text().splitlines()
    assert lines[0] == "energy_eV,target_states_per_eV_and_atom,predicted_states_per_eV_and_atom,dft_states_per_eV_and_atom"
    assert len(lines) == 401 and lines[1].startswith("-10,")


def test_the_lineage_unfolds_and_folds(page, path, campaign):
    page.open(path, fragment="#crystal-0")
    lineage = page.find("#tree")
    assert "score" in lineage.text and "sampled" not in lineage.text
    page.click("#unfold")
    assert page.find("#tree").text.count("checkpoint") == 2  # of the sampling, and of the prediction
    text = page.find("#tree").text
    for part in ("a denoiser", "seed", "force field", "mace.model", "synthetic-pw@localhost", "Si.pbe.upf", "target"):
        assert part in text, part
    assert campaign.inputs.targets["target"].sha256[:16] in text
    assert text.index("pw.x") < text.index("sampled · synthetic-dosmatgen@localhost")
    page.click("#fold")
    assert "a denoiser" not in page.find("#tree").text
    page.run("document.querySelector('#tree summary').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.SPACE)  # folds the root itself
    assert page.run("return document.querySelector('#tree details').open") is False


def test_what_reproduces_it_is_there(page, path, campaign):
    page.open(path)
    text = page.run("return document.querySelector('.reproduce').textContent")
    for node in (
        campaign.inputs.targets["target"],
        campaign.inputs.candidates.checkpoint,
        campaign.inputs.candidates.force_field,
    ):
        assert node.base.attributes.get("sha256") in text
    for part in (
        campaign.uuid,
        campaign.inputs.validate.dos.pseudos.Si.md5,
        "synthetic-pw@localhost",
        '"sampler": "ode"',
        "2.9.4",
        "7.4.1",
    ):
        assert part in text, part


HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=2</script>&amp;\'"<!--'


def test_html_in_labels_is_harmless(page, make_campaign, shared_nodes, tmp_path):
    for name in ("checkpoint", "force_field", "dosmatgen", "pw"):
        shared_nodes[name].label = HOSTILE
    shared_nodes["pw"].computer.label = f"{HOSTILE} computer"
    campaign = make_campaign(
        sites=2, n_candidates=20, n_ranked=10, n_validated=2, n_failed=1, label=HOSTILE, label_source=HOSTILE, name="target"
    )
    campaign.description = HOSTILE
    page.open(report.write(campaign, tmp_path / "hostile.html"))
    page.click("#unfold")
    page.click("[name=shown][value=all]")
    for place in (0, 1, 5):
        page.run("location.hash = arguments[0]", f"crystal-{place}")
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.run("return [window.hacked ?? null, document.querySelectorAll('main img').length]") == [None, 0]
    text = page.run("return document.body.innerText")
    assert page.find("h1").text == HOSTILE
    assert text.count(HOSTILE) >= 8  # title, description, target, models, codes, lineage
    assert len(page.all("script")) == 4
    assert HOSTILE not in path_text(tmp_path / "hostile.html")


def path_text(path):
    """Return the text of a page."""
    return path.read_text(encoding="utf-8")


def test_no_script_from_elsewhere_may_run(page, path):
    """The policy stands behind the escaping: what gets in all the same does nothing."""
    text = path_text(path).replace("<main>", "<main><script>window.hacked=1</script><img src='https://example.org/x.png'>", 1)
    path.write_text(text)
    page.open(path)
    assert page.run("return window.hacked ?? null") is None
    refused = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert len(refused) == 2 and all("Content Security Policy" in message for message in refused)
    page.requests()  # the refused one is among them


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_at_any_width_in_light_and_dark(page, path, width, scheme):
    page.open(path, width, scheme)
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 380) is (scheme == "light")
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    page.click("#unfold")
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.run(AXE)
    found = page.driver.execute_async_script("axe.run(document).then((result) => arguments[0](result.violations))")
    assert not [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found]


def test_all_of_it_can_be_reached_by_keyboard(page, path):
    page.open(path)
    reached = set()
    for _ in range(45):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(page.run("return document.activeElement.id || document.activeElement.closest('[id]')?.id"))
    assert {"previous", "next", "cif", "csv", "structure", "unfold", "fold", "search", "table", "tree"} <= reached


def test_it_prints(page, path):
    page.open(path)
    page.run(
        "addEventListener('beforeprint', () => { window.folded = document.querySelectorAll('details:not([open])').length; })"
    )
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    assert page.run("return window.folded") == 0  # everything was unfolded on paper
    assert page.run("return document.querySelectorAll('details:not([open])').length") > 0  # and is folded again


def test_a_large_campaign_is_small(page, make_campaign, tmp_path):
    campaign = make_campaign(sites=4)
    path = report.write(campaign, tmp_path / "large.html")
    assert path.stat().st_size < LIMIT
    page.open(path)
    assert len(page.column("Rank")) == 50
    page.click("[name=shown][value=all]")
    assert len(page.column("Rank")) == 1000


def test_a_campaign_of_several_targets_of_which_one_failed(page, synthetic, shared_nodes, make_campaign, tmp_path):
    campaign = make_campaign(n_candidates=20, n_ranked=10, n_validated=2)
    content = ranking_content(campaign)
    content["targets"]["other"], content["failed"]["other"] = [], "no candidate passed the screening"
    graph = synthetic.Graph(shared_nodes, 5)
    other = synthetic.target(graph, "other.csv")
    ranking = graph.dict(**content)
    outputs = {"ranking": ranking, "candidates__target": -campaign.outputs.candidates["target"].pk}
    outputs |= {"reports__target": -campaign.outputs.reports["target"].pk}
    inputs = {"targets__other": other, "targets__target": -campaign.inputs.targets["target"].pk}
    names = ("checkpoint", "predictor", "force_field")
    inputs |= {f"candidates__{name}": -shared_nodes[name].pk for name in names}
    inputs["candidates__seed"] = -campaign.inputs.candidates.seed.pk
    top = graph.process("workchain", "CampaignWorkChain", "aiida.workflows:dosmatgen.campaign", inputs, outputs)
    uuid = graph.uuid(top)
    graph.store()
    page.open(report.write(orm.load_node(uuid), tmp_path / "two.html"))
    first, second = (one.text for one in page.all(".funnel"))
    assert "No candidates: no candidate passed the screening" in first and "validated 2" in second
    found, none = (one.text for one in page.all("#overview tbody tr")[::-1])
    assert "none: no candidate passed the screening" in none and "target" in found and "not compared" in found
    page.click("#overview thead th:nth-child(4) button")  # distances; what has none stays last
    assert page.all("#overview tbody tr")[0].text == found
    page.click("#overview tbody a")
    page.wait(lambda: page.find("#crystal-title").is_displayed())
    page.find("#target option:nth-child(2)").click()  # other
    assert page.column("Rank") == []


@pytest.mark.parametrize("ranked", [6, 0])
def test_a_campaign_in_which_nothing_was_validated(page, make_campaign, tmp_path, ranked):
    campaign = make_campaign(n_candidates=9, n_ranked=ranked, n_validated=0, n_failed=min(ranked, 2))
    page.open(report.write(campaign, tmp_path / "none.html"))
    assert [one.text for one in page.all(".tiles b")] == ["9", str(ranked), str(min(ranked, 2)), "0"]
    if ranked:
        assert len(page.column("Rank")) == ranked
        page.click("#table tbody tr:last-child a")
        page.wait(lambda: "failed" in page.find("#crystal-title").text)
        assert "the bands could not be computed" in page.find("#facts").text
    else:
        assert "No candidate passed the screening" in page.find("#crystals").text
