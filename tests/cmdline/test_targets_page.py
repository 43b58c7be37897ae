"""docs/how-to/targets.md: the commands run, in order, on files like those that they name."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
from aiida import orm

from aiida_dosmatgen.data.target import DosTargetData

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "targets.md").read_text()


def test_the_page(aiida_profile_clean, run, tmp_path, monkeypatch, complete_dos_json):
    monkeypatch.chdir(tmp_path)
    energies = np.linspace(-10, 10, 201)
    curve = np.exp(-((energies + 2) ** 2))
    for name, columns in (("total", 1), ("sites", 2)):
        rows = [",".join(f"{value:.4f}" for value in (e, *[d] * columns)) for e, d in zip(energies, curve, strict=True)]
        Path(f"{name}.csv").write_text("\n".join(rows))
    Path("complete_dos.json").write_text(json.dumps(complete_dos_json))
    Path("wishes.yaml").write_text(re.search(r"^```\n(- gap.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1])
    printed = {}
    for block in re.findall(r"^```bash\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            printed[line] = run(*shlex.split(line)[1:])
    labels = {node.label: node for node in orm.QueryBuilder().append(DosTargetData).all(flat=True)}
    of_wishes = {"wide-gap", "windows", "catalyst", "total-with-gap", "clean-gap", "from-a-file"}
    assert set(labels) == {"total", "two-sites", "two-of-six", "complete_dos", "semiconductor", "d-metal"} | of_wishes
    assert all(len(labels[name].target.wishes) > 0 for name in of_wishes)
    assert not labels["total-with-gap"].target.only_wishes and labels["windows"].target.only_wishes
    assert labels["two-of-six"].target.sites == (0, 3) and labels["total"].target.n_atoms == 8
    assert Path("semiconductor.png").read_bytes().startswith(b"\x89PNG")
    assert all(label in printed["aiida-dosmatgen target list"] for label in labels)
