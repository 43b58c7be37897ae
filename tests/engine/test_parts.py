import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.parts import Parts


@pytest.fixture
def finished() -> dict[int, CrystalSet]:
    crystals = generate(["Si", "C"], 6, 0)
    return {10 + i: crystal.replace(crystal_columns={"status": np.array(["converged"])}) for i, crystal in enumerate(crystals)}


def written(folder, finished, key="job") -> Parts:
    """Two parts of three crystals, as a run leaves them that is killed after the second."""
    parts = Parts(folder, key, every=1e9)
    for number, (index, crystal) in enumerate(finished.items()):
        parts.add(index, crystal)
        if number % 3 == 2:
            parts.flush()
    return parts


def test_a_run_finds_what_a_killed_one_wrote(tmp_path, finished):
    written(tmp_path / "parts", finished)
    found = Parts(tmp_path / "parts", "job").read()
    assert sorted(found) == list(range(10, 16))
    assert found == finished


def test_a_later_part_replaces_an_earlier_one(tmp_path, finished):
    written(tmp_path, finished)
    again = Parts(tmp_path, "job", every=0.0)
    again.add(11, finished[10])
    assert Parts(tmp_path, "job").read()[11] == finished[10]


def test_a_truncated_part_costs_only_itself(tmp_path, finished):
    written(tmp_path, finished)
    first = sorted(tmp_path.glob("part-*.npz"))[0]
    first.write_bytes(first.read_bytes()[:-40])
    assert sorted(Parts(tmp_path, "job").read()) == [13, 14, 15]
    assert not first.exists()


def test_parts_of_another_job_are_not_used(tmp_path, finished):
    written(tmp_path, finished)
    assert Parts(tmp_path, "another force field").read() == {}


def test_adding_writes_now_and_then(tmp_path, finished):
    parts = Parts(tmp_path, "job", every=0.0)
    parts.add(10, finished[10])
    assert Parts(tmp_path, "job").read() == {10: finished[10]}
