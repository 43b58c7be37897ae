"""The parser of frames with energies, forces and stresses."""

import numpy as np

from aiida_dosmatgen.data.crystals import CrystalSetData
from tests.parsers.jobs import lennard_jones


def test_frames(start, crystals):
    origin = {"source": np.full(3, "here"), "id": np.array(["1", "2", "3"])}
    job = start(
        "frames",
        crystals=CrystalSetData(crystals.with_columns(crystal=origin)).store(),
        force_field=lennard_jones().store(),
        parameters={"count": 40, "steps": 1, "largest_force": 1e6},
        reserved=["C-Si"],
        seed=1,
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    columns = outputs["frames"].store().crystals.crystal_columns
    of = dict(zip(columns["kind"].tolist(), columns["source"].tolist(), strict=True))
    assert of["rattled"] == "here" and of["soup"] == "frames" and len(of) >= 4
    assert set(columns["id"][columns["source"] == "here"]) <= {"1", "2", "3"}
    job.results(details={**outputs["results"].get_dict()["details"], "crystals_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "crystals: the job used a file with sha256 0000" in node.exit_message
