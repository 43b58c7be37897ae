"""The parser of crystals to label."""

import numpy as np

from aiida_dosmatgen.data.crystals import CrystalSetData
from tests.calculations.test_jobs import upf


def test_crystals(start, crystals):
    origin = {"source": np.full(3, "here"), "id": np.array(["1", "2", "3"])}
    job = start(
        "crystals",
        structures={"real": CrystalSetData(crystals.with_columns(crystal=origin)).store()},
        pseudos={symbol: upf(symbol, 4).store() for symbol in ("Si", "C", "N")},
        parameters={"distorted": 1.0},  # without prototypes, which take ten seconds to read: tests/engine/labelling makes some
        reserved=["Si-C"],
        seed=1,
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    made = outputs["crystals"].crystals
    kinds = made.crystal_columns["kind"].tolist()
    assert {"real", "element"} <= set(kinds) and {"scaled", "distorted"} & set(kinds)
    assert "CSi" not in made.formulas and "SiC" not in made.formulas  # reserved
    assert made.crystal_columns["id"][kinds.index("real")] == "1"
    assert outputs["crystals"].sha256 == outputs["results"].get_dict()["output_sha256"]
