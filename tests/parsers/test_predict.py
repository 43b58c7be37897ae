"""The parser of predictions."""

import numpy as np
from aiida.orm import Dict

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.data.crystals import CrystalSetData


def test_predict(start, model, crystals):
    job = start("predict", crystals=CrystalSetData(crystals).store(), checkpoint=model("predictor"))
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    assert outputs["crystals"].crystals.atom_columns["predicted_dos"].shape == (7, DEFAULT_GRID.n)


def test_many_candidates_are_screened_as_they_are_predicted(start, model, crystals):
    columns = {
        "candidate": np.arange(10, 13),
        "energy": -5.0 * crystals.n_atoms,
        "status": np.array(["exploded", "converged", "converged"]),
    }
    job = start(
        "predict",
        crystals=CrystalSetData(crystals.with_columns(crystal=columns)).store(),
        checkpoint=model("predictor"),
        criteria={"max_ranked": 1, "unique": False, "min_contact": 0, "max_formation_energy": None},
        references=Dict({"energies": {"Si": -5.0, "C": -5.0, "N": None}}).store(),
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    kept, others = (outputs[name].crystals for name in ("crystals", "left_out"))
    assert len(kept) == 1 and len(others) == 2
    assert sorted([*kept.crystal_columns["candidate"], *others.crystal_columns["candidate"]]) == [10, 11, 12]
    assert "relaxation: exploded" in others.crystal_columns["reason"].tolist()
    assert "predicted_dos" in kept.atom_columns and not others.atom_columns
    job.results(details={**outputs["results"].get_dict()["details"], "left_out_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "left_out.npz has not the sha256" in node.exit_message
    job.results(details={**outputs["results"].get_dict()["details"], "checkpoint_sha256": None})
    _, node = job.parse()
    assert node.exit_status == 303 and "checkpoint: the job used a file with sha256 None" in node.exit_message
