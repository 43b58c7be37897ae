"""docs/how-to/bring-your-dos.md: every block runs, in order, on files like those that it names."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.engine.cli import main
from tests.core.curve_files.test_read import CURVE, ENERGIES, rows
from tests.core.curve_files.test_vasprun import ENERGIES as VASP
from tests.core.curve_files.test_vasprun import total, vasprun

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "bring-your-dos.md").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with what a newcomer has."""
    from pymatgen.electronic_structure.core import Spin
    from pymatgen.electronic_structure.dos import Dos

    monkeypatch.chdir(tmp_path)
    Path("vasprun.xml").write_text(vasprun())
    Path("mp-149.json").write_text(json.dumps(Dos(6.2, VASP, {Spin.up: total()}).as_dict()))
    Path("figure.csv").write_text(rows(ENERGIES[::-1], CURVE[::-1], separator=";").replace(".", ","))
    Path("shifted.csv").write_text(rows(ENERGIES + 5.63, CURVE))
    Path("headings.csv").write_text("E-E_F (eV),spin up,spin down,integrated\n" + rows(ENERGIES, CURVE, CURVE, ENERGIES + 10))
    Path("elements.csv").write_text("energy,Fe,O\n" + rows(ENERGIES, CURVE, CURVE))
    Path("sites.csv").write_text("energy,Si1,Si2\n" + rows(ENERGIES, CURVE, CURVE))
    return tmp_path


def test_the_page(aiida_profile_clean, run, folder, capsys):
    printed, names = {}, {}
    for kind, text in re.findall(r"^```(bash|python)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        if kind == "python":
            exec(compile(text, "bring-your-dos.md", "exec"), names)
            continue
        for line in text.splitlines():
            command, *words = shlex.split(line)
            if command == "dosmatgen":
                assert main(words) == 0, line
            else:
                printed[line] = run(*words)
    nodes = {node.label: node.target for node in orm.QueryBuilder().append(DosTargetData).all(flat=True)}
    assert set(nodes) >= {"silicon", "figure", "shifted", "mp-silicon", "headings", "two-of-six", "elements"}
    np.testing.assert_allclose(nodes["figure"].total, nodes["shifted"].total, atol=1e-4)
    np.testing.assert_allclose(5 * nodes["elements"].total, 4 * nodes["figure"].total, atol=1e-4)
    assert nodes["figure"].sigma == 0.1 and nodes["two-of-six"].sites == (0, 3)
    assert names["target"].kind == "sites" and names["node"].target.n_atoms == 2
    assert re.search(r"R² +1\.0000", capsys.readouterr().out)  # the same silicon by two ways


def test_the_line_of_the_page_is_what_is_printed(aiida_profile_clean, run, folder):
    shown = " ".join(re.search(r"^```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1].split())
    got = " ".join(run("target", "import", "vasprun.xml", "--label", "silicon").split())
    assert re.sub(r"<\d+>", "", got) == re.sub(r"<\d+>", "", shown)
