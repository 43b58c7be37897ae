"""``target wish`` and ``target sketch --wish``: stored, drawn, and said in words."""

import json
import re

import pytest
from aiida import orm

WISHES = ("gap >= 1.5", "d band centre -2.0 +- 0.2", "band width <= 3")


def stored(output):
    return orm.load_node(int(re.match(r"DosTargetData<(\d+)>", output)[1]))


@pytest.fixture
def total_csv(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("\n".join(f"{0.1 * i},{1 if i < 0 else 0}" for i in range(-90, 60)))
    return path


def test_wishes_are_stored_drawn_and_said(run):
    printed = run("target", "wish", *WISHES, "--label", "wide", "--n-atoms", "4")
    node = stored(printed)
    assert (node.label, node.target.n_atoms, node.target.only_wishes) == ("wide", 4, True)
    assert "wide, made of wishes" in printed and "energy (eV)" in printed
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.startswith("wish: ")]
    assert lines[0] == "wish: gap >= 1.5 +- 0.2 eV sampled, screened and scored by DFT"
    assert lines[1].startswith("wish: d band centre -2 +- 0.2 eV from -10 to 4 eV scored by DFT; predicted curves do not tell")
    assert lines[2].endswith("screened and scored by DFT, not sampled")
    assert stored(run("target", "wish", *WISHES, "--n-atoms", "4", "--label", "wide")).pk == node.pk  # stored once
    assert stored(run("target", "wish", *WISHES)).label.startswith("wishes_")
    shown = run("target", "show", "wide")
    assert "wide: 3 wishes, from gap >= 1.5" in shown and "ranked by its wishes" in shown
    assert "3 wishes" in run("target", "list")


def test_wishes_beside_a_curve(run, total_csv):
    curve = stored(run("target", "import", total_csv, "--per-atom", "--label", "curve"))
    printed = run("target", "wish", "gap >= 1.5", "--curve", "curve")
    node = stored(printed)
    assert node.label == "curve_wishes" and not node.target.only_wishes
    assert node.creator.process_label == "add_wishes" and node.creator.inputs.target.uuid == curve.uuid
    assert "compared up to 5.9 eV" in run("target", "show", "curve_wishes")
    message = run("target", "wish", "gap >= 1.5", "--curve", "curve", "--n-atoms", "4", status=2)
    assert "leave out --n-atoms" in message


def test_wishes_from_files(run, tmp_path):
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("- gap >= 1.5\n- kind: states\n  low: -2\n  high: 0\n  value: 4\n  channel: d\n")
    node = stored(run("target", "wish", yaml, "peak at -3"))
    assert list(map(str, node.target.wishes)) == [
        "gap >= 1.5 +- 0.2 eV", "d states from -2 to 0 eV: 4 +- 0.2 per atom", "peak at -3 +- 0.2 eV",
    ]  # fmt: skip
    record = tmp_path / "mine.json"
    record.write_text(json.dumps({"wishes": ["gap >= 1.5"]}))
    assert stored(run("target", "wish", record)).target.wishes == node.target.wishes[:1]
    yaml.write_text("- gap >= 1.5\n- gap of 2\n")
    assert "mine.yaml, wish 2: 'gap of 2' is no wish; write it like 'gap >= 1.5 +- 0.1'" in run(
        "target", "wish", yaml, status=2
    )
    yaml.write_text("- [\n")
    assert "mine.yaml is neither YAML nor JSON" in run("target", "wish", yaml, status=2)
    assert "gone.yaml cannot be read: No such file" in run("target", "wish", tmp_path / "gone.yaml", status=2)


def test_a_sketch_draws_them(run):
    alone = run("target", "sketch", "--wish", "peak at -3", "--wish", "gap >= 1.5", "--label", "drawn")
    assert stored(alone).target.only_wishes and "drawn, made of wishes" in alone
    both = run("target", "sketch", "--centre", "-3", "--width", "6", "--gap", "1.5", "--wish", "peak at -3")
    assert list(map(str, stored(both).target.wishes)) == ["peak at -3 +- 0.2 eV"]
    assert re.search("wish: peak at -3 .* not sampled", both)  # the denoiser goes by the curve of its own
    assert "needs --centre and --width" in run("target", "sketch", "--centre", "-3", status=2)
    assert '--wish "gap >= 1.5"' in run("target", "sketch", "--wish", "peak at -3", "--gap", "1", status=2)
    assert "'gap > 1' is no wish" in run("target", "sketch", "--wish", "gap > 1", status=2)


def test_contradictions_are_said(run):
    printed = run("target", "wish", "nothing from -2 to 0", "states from -2 to 0: 3")
    assert "no curve was found that grants all of it: states from -2 to 0 eV: 3 +- 0.2 per atom" in printed
