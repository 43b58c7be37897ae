"""docs/how-to/generation.md: every example runs, with the shipped models."""

import json
import re
from pathlib import Path

import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.engine.cli import main

TEXT = (Path(__file__).parents[1] / "docs" / "how-to" / "generation.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the page's Python has run, and what it left."""
    path = tmp_path_factory.mktemp("page")
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
            exec(compile(block, "docs/how-to/generation.md", "exec"), namespace)
    return path, namespace


def test_the_python_gives_crystals(folder):
    _, names = folder
    sets = {
        name: value for name, value in names.items() if isinstance(value, CrystalSet) and "candidate" in value.crystal_columns
    }
    assert len(sets) == 15
    for crystals in sets.values():
        assert crystals.check().crystal_columns["candidate"].tolist() == [0, 1, 2, 3]
    assert names["mixed"].n_atoms.tolist() == [5] * 4
    assert names["in_turn"].n_atoms.tolist() == [2, 4, 2, 4]
    assert set(names["drawn_in_range"].n_atoms) <= set(range(2, 7))
    assert (names["inpainted"].numbers[::2] == names["binary"].numbers[0]).all()


@pytest.mark.parametrize("job", re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
def test_the_jobs_run(folder, job):
    path, _ = folder
    (path / "job.json").write_text(job)
    assert main(["sample", str(path / "job.json")]) == 0
    assert len(CrystalSet.load(path / "candidates.npz")) == json.loads(job)["stop"]
