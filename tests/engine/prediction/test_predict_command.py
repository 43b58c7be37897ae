"""``dosmatgen predict`` where its time is short: what was predicted is kept, and the end is the same."""

import json
from importlib.resources import files

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening import thinning
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.labelling.prototypes import generate

ELEMENTS = ["Ga", "As", "Si"]


@pytest.fixture
def job(tmp_path):
    """Return a function that writes a job into a folder of its own."""
    crystals = generate(ELEMENTS, 45, 3, max_atoms=4)
    n = len(crystals)
    columns = {"candidate": np.arange(n), "energy": -4.0 * crystals.n_atoms, "status": np.full(n, "converged")}
    crystals = crystals.replace(crystal_columns=columns, atom_columns={})
    energies = np.linspace(-10, 10, 81)
    rows = "".join(f"{e:.3f},{d:.6f}\n" for e, d in zip(energies, 0.1 + np.exp(-0.5 * (energies + 3) ** 2), strict=True))
    target = DosTarget.from_text("# sigma: 0.3\nE-E_F,DOS\n" + rows, n_atoms=2)
    checkpoint = files("aiida_dosmatgen") / "models" / "predictor.safetensors"

    def make(name, **more):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "predictor.safetensors").write_bytes(checkpoint.read_bytes())
        crystals.save(folder / "crystals.npz")
        target.save(folder / "target.npz")
        content = {"kind": "predict", "checkpoint": "predictor.safetensors", "crystals": "crystals.npz", **more}
        (folder / "job.json").write_text(json.dumps(content))
        return folder

    return make


def end(folder, *options):
    status = main(["predict", str(folder / "job.json"), "--batch-size", "16", "--device", "cpu", *options])
    return status, json.loads((folder / "results.json").read_text())


SCREENED = {
    "criteria": {"max_ranked": 2, "geometries": ["relaxed"], "max_formation_energy": 10},
    "references": dict.fromkeys(ELEMENTS, -4.0),
    "target": "target.npz",
}


@pytest.mark.parametrize("more", [{}, SCREENED], ids=["all", "screened"])
def test_a_run_that_is_out_of_time_continues(job, more):
    whole, pieces = job("whole", **more), job("pieces", **more)
    assert end(whole)[0] == 0
    done = []
    while (ended := end(pieces, "--max-seconds", "0.001"))[0] == 3:  # one batch each time
        done.append(ended[1]["done"])
        assert len(CrystalSet.load(pieces / "predicted.npz")) <= done[-1]
    assert ended[0] == 0 and len(done) >= 2 and done == sorted(set(done))
    for name in ("predicted.npz", "left_out.npz") if more else ("predicted.npz",):
        assert CrystalSet.load(pieces / name) == CrystalSet.load(whole / name)
    if more:
        assert np.isfinite(CrystalSet.load(whole / "left_out.npz").crystal_columns["first_look"]).sum() > 2 * thinning.LOOKED_AT
    assert not list(pieces.glob(".*.parts"))
