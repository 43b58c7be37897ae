"""The page of a campaign for wishes: how many are met, by how much the others are missed, and what the plot shows of them."""

import pytest

from aiida_dosmatgen import report
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.tools.campaign import results_of
from aiida_dosmatgen.tools.ranking import best_of, format_ranking

WISHES = ("states from -4 to 0: 1 +- 0.2", "d band centre -2", "nothing from 1 to 3", "gap 0")


@pytest.fixture(params=["wishes alone", "with a curve"])
def campaign(request, make_campaign):
    target = DosTarget.from_wishes(WISHES)
    if request.param == "with a curve":
        target = DosTarget(target.total, "total", complete_below=8.0).wishing(WISHES)
    return make_campaign(n_candidates=20, n_ranked=8, n_validated=3, wanted=target)


def test_tables_speak_of_them(campaign):
    printed = format_ranking(campaign)
    lines = printed.splitlines()
    best = best_of(campaign)
    assert best["dft"]["distance"] == min(one.row["dft"]["distance"] for one in results_of(campaign).crystals if one.validated)
    assert "of 4 wishes (1 not known)" in printed
    assert f"  wishes, candidate {best['candidate']} by DFT:" in lines
    assert any(line.startswith("    d band centre -2 +- 0.2 eV from -10 to 4 eV: not known") for line in lines)
    frame = campaign.tools.to_dataframe()
    assert frame["dft_missed"].notna().sum() == 3 and frame["missed"].notna().all()


@pytest.mark.browser
def test_the_page_speaks_of_them(page, campaign, tmp_path):
    path = tmp_path / "page.html"
    report.write(campaign, path)
    page.open(path)
    results = results_of(campaign)
    alone = results.targets["target"].only_wishes
    best = best_of(campaign)
    tile = page.find(".tiles .best").text
    assert ("wishes met" in tile) and (("states/eV/atom" in tile) is not alone)
    assert page.find("#crystal-target").text.endswith(f"candidate {best['candidate']}")
    facts = page.find("#facts").text
    assert "Wish: d band centre −2" in facts and "Wish: gap 0 ± 0.2 eV" in facts
    met = page.column("Wishes met")
    assert len(met) == 3 and all(one.endswith("of 4") for one in met)
    drawn = page.run("return document.getElementById('plot').data[0].y")
    assert (None in drawn[:350]) is alone  # where wishes say nothing, no target is drawn
    windows = [window for one in results.targets["target"].wishes for window in one.windows]
    shapes = page.run("return document.getElementById('plot').layout.shapes.filter((one) => one.type === 'rect')")
    assert [(one["x0"], one["x1"]) for one in shapes] == windows
