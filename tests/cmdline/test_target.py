"""``aiida-dosmatgen target``: from files and processes to nodes, pictures and lists."""

import json
import re

import numpy as np
import pytest
from aiida import orm

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.data.target import DosTargetData

E = DEFAULT_GRID.points
CURVE = np.exp(-0.5 * (E + 2) ** 2)


def stored(output) -> DosTargetData:
    """Return the node that a command says it stored."""
    return orm.load_node(int(re.match(r"DosTargetData<(\d+)>", output)[1]))


@pytest.fixture
def total_csv(tmp_path):
    path = tmp_path / "my_dos.csv"
    path.write_text("energy,dos\n" + "\n".join(f"{e:.4f},{8 * d:.6f}" for e, d in zip(E, CURVE, strict=True)))
    return path


def test_a_total_curve(run, total_csv):
    assert "needs n_atoms" in run("target", "import", total_csv, status=2)
    node = stored(run("target", "import", total_csv, "--n-atoms", "8"))
    assert (node.label, node.target.kind, node.target.n_atoms) == ("my_dos", "total", 8)
    np.testing.assert_allclose(node.target.total, CURVE, atol=1e-4)
    assert stored(run("target", "import", total_csv, "--n-atoms", "8")).pk == node.pk  # stored once under each label
    mine = stored(run("target", "import", total_csv, "--n-atoms", "8", "--label", "mine"))
    assert (mine.label, node.label) == ("mine", "my_dos") and mine.sha256 == node.sha256
    per_atom = stored(run("target", "import", total_csv, "--per-atom", "--complete-below", "3"))
    assert per_atom.target.complete_below == 3 and per_atom.target.n_atoms is None


def test_curves_for_sites(run, tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("\n".join(f"{e},{d},{2 * d}" for e, d in zip(E, CURVE, strict=True)))
    assert stored(run("target", "import", path)).target.n_atoms == 2
    chosen = stored(run("target", "import", path, "--sites", "0,3", "--n-atoms", "4"))
    assert chosen.target.sites == (0, 3)
    assert "'0;3' is not a list of atoms" in run("target", "import", path, "--sites", "0;3", status=2)
    record = tmp_path / "sites.json"
    record.write_text(json.dumps({"energies": E.tolist(), "sites": [CURVE.tolist()] * 2}))
    assert stored(run("target", "import", record, "--label", "json")).label == "json"


def test_a_complete_dos_of_pymatgen(run, tmp_path, complete_dos_json):
    path = tmp_path / "complete.json"
    path.write_text(json.dumps(complete_dos_json))
    node = stored(run("target", "import", path))
    assert node.target.n_atoms == 2 and "CompleteDos of pymatgen, 2 sites (Si C)" in node.reading
    energies = node.target.dos.energies
    middle = (energies > -5) & (energies < -1)
    np.testing.assert_allclose(node.target.curves[:, middle], [[1.0] * middle.sum(), [2.0] * middle.sum()], rtol=0.02)
    assert "2 site curves but 3 atoms" in run("target", "import", path, "--n-atoms", "3", status=2)
    assert "per_atom is for a total" in run("target", "import", path, "--per-atom", status=2)
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps({name: value for name, value in complete_dos_json.items() if name != "densities"}))
    assert "cut.json is no whole CompleteDos; it lacks densities" in run("target", "import", cut, status=2)


def test_what_is_no_target_is_refused(run, tmp_path):
    assert run("target", "import", tmp_path / "gone.csv", status=2).endswith("gone.csv does not exist")
    assert "neither a file here nor the pk or uuid of a process" in run("target", "import", "999999", status=2)
    bad = tmp_path / "bad.csv"
    bad.write_text("-1,0.1\n0,nonsense\n1,0.1\n2,0.2\n")
    assert "bad.csv, line 2" in run("target", "import", bad, status=2)
    bad.write_text("0,0.1\n-1,0.1\n1,0.1\n")
    assert "bad.csv: the energies neither rise nor fall" in run("target", "import", bad, "--per-atom", status=2)
    assert "is a folder without vasprun.xml" in run("target", "import", f"{tmp_path}/.", "--per-atom", status=2)
    foreign = tmp_path / "foreign.npz"
    foreign.write_bytes(b"no archive at all")
    assert run("target", "import", foreign, status=2).endswith("(truncated, or of another kind)")
    workchain = orm.WorkChainNode().store()
    assert "has not finished well" in run("target", "import", workchain.pk, status=2)
    number = orm.Int(1).store()
    assert "is no DosWorkChain" in run("target", "import", number.pk, status=2)


def test_names_of_files_and_labels_that_look_like_something_else(run, total_csv, monkeypatch):
    monkeypatch.chdir(total_csv.parent)
    text = total_csv.read_text()
    for name in ("-dash.csv", "--label.csv", "~home.csv", "$HOME.csv", "new\nline.csv", " .csv"):
        (total_csv.parent / name).write_text(text)
    refused = run("target", "import", "-dash.csv", "--n-atoms", "8", status=2)
    assert "the name of the file -dash.csv begins like an option; write ./-dash.csv" in refused
    assert "write ./--label.csv" in run("target", "import", "--label.csv", "--n-atoms", "8", status=2)
    for name, label in {
        "./-dash.csv": "-dash",
        "~home.csv": "~home",
        "$HOME.csv": "$HOME",
        "new\nline.csv": "new line",
        " .csv": ".csv",
    }.items():
        assert stored(run("target", "import", name, "--n-atoms", "8")).label == label
        assert "compared everywhere" in run("target", "show", "--", label)
    node = stored(run("target", "import", "~home.csv", "--n-atoms", "8", "--label", "\x1b[31mre\u202ed\0"))
    assert node.label == "[31mre d"
    assert "compared everywhere" in run("target", "show", "\x1b[31mre\u202ed\0")
    for label, what in (("  ", "'' has 0"), ("x" * 256, f"'{'x' * 30}'… has 256")):
        assert what in run("target", "import", "~home.csv", "--n-atoms", "8", "--label", label, status=2)
    assert "is an address; download the file" in run("target", "import", "https://example.org/a.csv", status=2)


def test_numbers_that_no_curve_has(run, total_csv):
    for options, message in {
        ("--zero", "50"): "the zero of 50 eV is outside of the energies",
        ("--zero", "nan"): "zero must be an energy in eV, not nan",
        ("--sigma", "1e9"): "sigma must be a broadening from 0 to 10 eV",
    }.items():
        assert message in run("target", "import", total_csv, "--n-atoms", "8", *options, status=2)


def test_a_sketch_is_stored_and_shown(run):
    output = run("target", "sketch", "--centre", "-3", "--width", "6", "--gap", "1.5", "--label", "drawn")
    node = stored(output)
    assert node.label == "drawn" and node.base.attributes.get("label_source").startswith("sketch: centre -3 eV, width 6 eV")
    assert node.target.complete_below == 4.5
    assert "drawn" in output and "energy (eV)" in output and "⠤" in output  # a line of braille
    assert "\x1b" not in output  # no colours where there is no terminal


def test_targets_are_shown_in_the_terminal_and_as_a_picture(run, total_csv, tmp_path):
    from PIL import Image

    stored(run("target", "import", total_csv, "--per-atom", "--label", "shown"))
    output = run("target", "show", "shown")
    assert "one total curve, from my_dos.csv, compared everywhere" in output
    # a file will do as well: it is stored first
    record = tmp_path / "other.json"
    record.write_text(json.dumps({"energies": E.tolist(), "total": CURVE.tolist(), "per_atom": True, "complete_below": 2.0}))
    assert "compared up to 2.0 eV" in run("target", "show", "shown", record)
    picture = tmp_path / "shown.png"
    assert run("target", "show", "shown", "--png", picture) == f"Wrote {picture}\n"
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.width > 800 and len(set(image.convert("L").resize((60, 40)).tobytes())) > 5
    assert "cannot be written" in run("target", "show", "shown", "--png", tmp_path / "no" / "folder.png", status=2)


def test_the_list(aiida_profile_clean, run, total_csv):
    assert run("target", "list").startswith("There are no targets; import one: ")
    run("target", "import", total_csv, "--per-atom")
    assert re.search(r"\d+  my_dos +one total curve +– +my_dos.csv", run("target", "list"))


def test_a_label_that_two_nodes_have_is_refused(run, total_csv):
    pks = [
        stored(run("target", "import", total_csv, *arguments, "--label", "twice")).pk
        for arguments in (["--per-atom"], ["--n-atoms", "3"])
    ]
    refusal = run("target", "show", "twice", status=2)
    assert f"several nodes are called 'twice'; give the pk of one: {min(pks)}, {max(pks)}; " in refusal


@pytest.mark.parametrize(
    "label", ["1234567", "1e5", "deadbeef", "cafe", "0x1f", "-3", "größe", "目标 1", "a%b_c", "my_dos.csv"]
)
def test_a_target_is_found_by_the_name_it_was_given(run, total_csv, label):
    node = stored(run("target", "import", total_csv, "--per-atom", "--label", label))
    assert node.label == label
    assert f"{label}: one total curve" in run("target", "show", "--", label)
    node.label = "another"


def test_a_name_that_is_the_pk_or_begins_like_the_uuid_of_another(run, total_csv):
    other = stored(run("target", "import", total_csv, "--per-atom", "--label", "other"))
    for label in (str(other.pk), other.uuid[:8], other.uuid):
        node = stored(run("target", "import", total_csv, "--n-atoms", "5", "--label", label))
        assert node.pk != other.pk
        assert run("target", "show", label).endswith(
            f"{label}: one total curve for 5 atoms, from my_dos.csv, compared everywhere\n"
        )
        node.label = ""
    assert "other: one total curve, from" in run("target", "show", other.pk)


def test_accents_may_be_written_in_two_ways(run, total_csv):
    composed, apart = "gr\u00f6\u00dfe", "gro\u0308\u00dfe"
    path = total_csv.rename(total_csv.with_name(f"{apart}.csv"))
    node = stored(run("target", "import", path, "--per-atom"))
    assert node.label == composed
    for label in (composed, apart):
        assert stored(run("target", "import", path, "--per-atom", "--label", label)).pk == node.pk
        assert f"{composed}: one total curve" in run("target", "show", label)


def test_no_import_renames_what_is_there(run, total_csv):
    first, second, again = (
        stored(run("target", "import", total_csv, "--per-atom", "--label", label)) for label in ("first", "second", "first")
    )
    assert (first.label, second.label, again.pk) == ("first", "second", first.pk)
    assert first.sha256 == second.sha256 and first.pk != second.pk
    for label in ("first", "second"):
        assert f"{label}: one total curve" in run("target", "show", label)
    copy = total_csv.rename(total_csv.with_name("copy.csv"))
    assert stored(run("target", "import", copy, "--per-atom")).label == "copy"
    run("target", "sketch", "--centre", "-2", "--width", "6", "--label", "drawn")
    assert stored(run("target", "sketch", "--centre", "-2", "--width", "6", "--label", "redrawn")).label == "redrawn"
    assert "drawn: one total curve" in run("target", "show", "drawn")


def test_the_import_says_what_was_made_of_the_file(run, tmp_path):
    path = tmp_path / "spins.csv"
    path.write_text(
        "E-E_F (eV),up,down,integrated\n" + "\n".join(f"{e},{d},{-d},{1 + e / 20}" for e, d in zip(E, CURVE, strict=True))
    )
    node, reading = run("target", "import", path, "--n-atoms", "2").splitlines()
    assert node.endswith(" spins")
    for words in (
        "spins.csv: table, total, both spins (added)",
        "integrated left out",
        "relative to the Fermi energy",
        "4.89 electrons",
    ):
        assert words in reading
    siesta = tmp_path / "si.DOS"
    siesta.write_text("\n".join(f"{e - 4} {d} {d}" for e, d in zip(E, CURVE, strict=True)))
    assert "its energies are absolute; give --zero" in run("target", "import", siesta, "--n-atoms", "2", status=2)
    moved = stored(run("target", "import", siesta, "--n-atoms", "2", "--zero", "-4"))
    np.testing.assert_allclose(moved.target.total, CURVE, atol=1e-3)
    assert "mp-api" in run("target", "from-mp", "mp-149", status=2)


def test_names_of_targets_are_links_whatever_their_labels(aiida_profile, target):
    from aiida.common.links import validate_link_label

    from aiida_dosmatgen.cmdline.launch_inputs import named_targets
    from aiida_dosmatgen.core.errors import ContentError

    nodes = [DosTargetData(target).store() for _ in range(5)]
    for node, label in zip(nodes, ("größe", "目标 1", "цель", "my-dos", "12"), strict=True):
        node.label = label
    names = named_targets(tuple(nodes))
    assert list(names) == ["groe", "target_1", f"target_{nodes[2].pk}", "my_dos", "target_12"]
    assert list(names.values()) == nodes
    for name in names:
        validate_link_label(name)
    nodes[1].label = "groe"
    with pytest.raises(ContentError, match="two targets are called groe"):
        named_targets(tuple(nodes[:2]))
