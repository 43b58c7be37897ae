"""The density of states of a crystal: the work chain beside its twin without AiiDA, with the real pw.x and projwfc.x."""

from pathlib import Path

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida_pseudo.data.pseudo.upf import UpfData
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_upf
from aiida_dosmatgen.data.conversion import structure_of
from aiida_dosmatgen.engine.labelling.label import label_crystal
from aiida_dosmatgen.setup import ensure_debian_family
from aiida_dosmatgen.workflows.dos import DosWorkChain

from .conftest import QUICK, SERIAL, runs

DEBIAN = Path("/usr/share/espresso/pseudo")
IRON = {"cutoff": 28, "density_factor": 9, "scf_distance": 0.6, "bands_distance": 0.6, "points_per_atom": 0, "least_high": 1.0}


@pytest.fixture
def compute(real_codes):
    """Return a function that computes a crystal, and returns the work chain's node."""

    def run(crystal, recipe=QUICK, pseudos=None, codes=None, **inputs):
        codes = {**real_codes, **(codes or {})}
        builder = DosWorkChain.get_builder_from_protocol(
            codes["pw"],
            codes["projwfc"],
            structure_of(crystal) if isinstance(crystal, CrystalSet) else crystal,
            "fast",
            {"pseudo_family": ensure_debian_family().label, "recipe": recipe},
            SERIAL,
            ["Si"],
        )
        if pseudos:
            builder.pseudos = {symbol: UpfData(path) for symbol, path in pseudos.items()}
        for name, value in inputs.items():
            builder[name] = value
        return run_get_node(builder)[1]

    return run


def silicon(strain=0.0):
    """A strained and displaced crystal if asked for: no symmetry, so that no mistake cancels."""
    atoms = bulk("Si")
    if strain:
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain * np.array([[0.3, -0.9, 0.4], [-0.9, -1.2, 0.7], [0.4, 0.7, 0.8]])))
        atoms.set_scaled_positions([[0.02, 0, 0], [0.27, 0.24, 0.26]])
    return CrystalSet.from_ase(atoms)


def twin(crystal, recipe, files):
    return label_crystal(crystal, Recipe(**recipe), {s: read_upf(path) for s, path in files.items()}, dtype=np.float32)


@pytest.mark.parametrize("strain", [0.0, 0.05])
def test_silicon_is_that_of_the_executable(compute, strain):
    crystal, files = silicon(strain), {"Si": DEBIAN / "Si.pbe-rrkj.UPF"}
    node = compute(crystal, pseudos=files)
    assert node.is_finished_ok, node.exit_message
    _same(node.outputs.dos.crystals, twin(crystal, QUICK, files))
    assert [len(runs(node, step)) for step in ("scf", "bands", "projwfc")] == [1, 1, 1]


def test_iron_is_that_of_the_executable(compute):
    crystal, files = CrystalSet.from_ase(bulk("Fe")), {"Fe": DEBIAN / "Fe.pbe-nd-rrkjus.UPF"}
    node = compute(crystal, IRON, files)
    assert node.is_finished_ok, node.exit_message
    got = node.outputs.dos.crystals
    assert got.crystal_columns["magnetization"][0, 0] > 1.5
    up, down = got.atom_columns["dos"][0].sum(1)
    assert np.abs(up - down).max() > 0.5
    _same(got, twin(crystal, IRON, files))


def _same(got, expected):
    np.testing.assert_allclose(got.atom_columns["dos"], expected.atom_columns["dos"], atol=1e-6)
    for name in ("energy", "zero", "gap", "low", "high", "n_electrons", "projected", "magnetization", "remedy"):
        np.testing.assert_allclose(got.crystal_columns[name], expected.crystal_columns[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(got.atom_columns["forces"], expected.atom_columns["forces"], atol=1e-4)
    np.testing.assert_allclose(got.atom_columns["moment"], expected.atom_columns["moment"], atol=5e-3)
    sums, curves = curves_of(got, 0, "projections"), curves_of(got)
    occupied = sums.energies <= 0
    assert (sums.total <= curves.total + 1e-3)[occupied].all()
    share = sums.total[occupied].sum() / curves.total[occupied].sum()
    assert share == pytest.approx(got.crystal_columns["projected"][0], abs=0.02)
