"""docs/limits.md: its numbers are those of the shipped checkpoints, of the data set and of the quality report."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase.units import GPa

from aiida_dosmatgen.core.crystals import MOST_ATOMS, CrystalSet
from aiida_dosmatgen.core.files.checkpoint_header import read_header

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aiida_dosmatgen"
PAGE = " ".join((ROOT / "docs" / "limits.md").read_text().split())
FIGURES = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text())


@pytest.fixture(scope="module")
def training():
    labelled = CrystalSet.load(PACKAGE / "datasets" / "debian-pbe" / "labelled.npz")
    return labelled[np.flatnonzero(labelled.crystal_columns["split"] == "train")]


@pytest.mark.parametrize("model", ["denoiser", "classifier", "predictor"])
def test_elements_grid_and_broadening(model):
    header = read_header(PACKAGE / "models" / f"{model}.safetensors")
    assert len(header.elements) == 12
    assert f"The shipped models know twelve elements: {', '.join(header.elements)}. " in PAGE
    grid = header.grid
    assert f"{grid.n} points from {grid.emin:.0f} to {grid.emax:.0f} eV" in PAGE
    assert f"broadened by a Gaussian of {header.sigma} eV" in PAGE


def test_sizes(training):
    n = training.n_atoms
    largest = read_header(PACKAGE / "models" / "denoiser.safetensors").architecture["max_atoms"]
    assert largest == n.max()
    assert f"The {len(n):,} training crystals have {n.min()} to {largest} atoms" in PAGE
    assert f"{(n <= 4).mean():.0%} have at most 4 atoms".replace("%", " %") in PAGE
    assert f"{(n > 6).sum()} have more than 6, one has more than 8" in PAGE and (n > 8).sum() == 1
    assert f"Crystals of more than {MOST_ATOMS:,} atoms are refused" in PAGE


def test_chemical_systems_and_equilibrium(training):
    systems = {frozenset(crystal.numbers.tolist()) for crystal in training}
    assert f"the training set covers {len(systems)} of the " in PAGE
    forces = np.array([np.linalg.norm(crystal.atom_columns["forces"], axis=1).max() for crystal in training])
    pressures = np.abs(np.trace(training.crystal_columns["stress"], axis1=1, axis2=2)) / 3 / GPa
    share = np.mean((forces < 1) & (pressures < 10))
    assert f"{share:.0%} of the training crystals".replace("%", " %") in PAGE
    assert "(forces below 1 eV/Å, pressure below 10 GPa)" in PAGE


def test_accuracy():
    """Each row of the table states the value of one figure of the report."""
    rows = dict(re.findall(r"\| ([^|]+) \| ([0-9.]+)[^|]*\|", PAGE))
    value = {name: figure["value"] for name, figure in FIGURES["figures"].items()}
    best = f"{value['dft_best_ratio']:.3g}"
    stated = {
        "distance by DFT of the best of 20 candidates, over the best of 20 unconditional ones": best,
        "candidates with the exact composition, curves for all sites given": f"{100 * value['exact_composition']:.0f}",
        "error of the predicted DOS, over that of each element's mean curve": f"{value['surrogate_over_baseline']:.3g}",
        "rank correlation of predicted and DFT distances": f"{value['surrogate_dft_rank_correlation']:.3g}",
        "error of the force field's energies": f"{value['energy_mae_meV']:.0f}",
        "error of the force field's forces": f"{value['force_mae']:.3g}",
    }
    assert rows == stated


def test_what_a_total_target_loses():
    shares = [100 * FIGURES["modes"][mode]["composition"] for mode in ("total-0.5", "sites-0.5")]
    assert f"found in {shares[0]:.0f} % of the candidates with a total curve, and in {shares[1]:.0f} % with curves" in PAGE
