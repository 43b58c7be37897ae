"""docs/limits.md: its numbers are those of the shipped checkpoints, of the data set and of the quality report."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import MOST_ATOMS
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.files.checkpoint_header import read_header
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import systems_of

from .shards import SHARDS, needs_shards

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "aiida_dosmatgen" / "models"
LABELS_LEARNT = 1381  # of the shards that there were when the models were trained
PAGE = " ".join((ROOT / "docs" / "limits.md").read_text().split())
REPORT = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text())


@pytest.mark.parametrize("model", ["denoiser", "classifier", "predictor"])
def test_elements_energies_and_broadening(model):
    header = read_header(MODELS / f"{model}.safetensors")
    assert len(header.elements) == 65 and "The shipped models know 65 elements" in PAGE
    missing = set(SYMBOLS[1 : SYMBOLS.index("Bi") + 1]) - set(header.elements)
    assert missing == {"He", "Ne", "Ar", "Kr", "Xe", *"Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb".split()}
    grid, taken = header.grid, {"predictor": "gives them from −10 to 10 eV"}.get(model, "takes curves from −20 to 10 eV")
    assert f"from {grid.emin:.0f} to {grid.emax:.0f} eV".replace("-", "−") in taken and taken in PAGE
    assert f"broadened by a Gaussian of {header.sigma} eV" in PAGE


@needs_shards
def test_sizes_and_systems():
    labels = load_shards(SHARDS)[:LABELS_LEARNT]
    training = labels[np.flatnonzero(labels.crystal_columns["split"] == "train")]
    n = training.n_atoms
    largest = read_header(MODELS / "denoiser.safetensors").architecture["max_atoms"]
    assert f"Candidates have up to {largest} atoms" in PAGE
    assert f"learnt from {len(n):,} labelled crystals of {len(set(systems_of(training)))} chemical systems" in PAGE
    assert f"{(n <= 4).sum()} of the {len(n):,} have at most 4 atoms, {(n > 8).sum()} have more than 8" in PAGE
    assert f"Crystals of more than {MOST_ATOMS:,} atoms are refused" in PAGE


def test_accuracy():
    """Each row of the table states the value of one figure of the report."""
    rows = dict(re.findall(r"\| ([^|]+) \| ([0-9.]+)[^|]*\|", PAGE))
    value = {name: figure["value"] for name, figure in REPORT["figures"].items()}
    best, success, exact = value["dft_best_ratio"], 100 * value["dft_success"], 100 * value["exact_composition"]
    assert rows == {
        "distance by DFT of the first of the ranking, relaxed, over that of unconditional candidates": f"{best:.2f}",
        "targets that one of the first three meets by DFT (0.10 states/eV/atom), near the hull": f"{success:.0f}",
        "candidates with the exact composition": f"{exact:.0f}",
        "error of the predicted DOS, over that of each element's mean curve": f"{value['surrogate_over_baseline']:.2f}",
        "rank correlation of predicted and DFT distances": f"{value['surrogate_dft_rank_correlation']:.2f}",
    }


def test_what_a_total_target_loses():
    shares = [100 * REPORT["modes"][f"compositions proposed{what}"]["composition"] for what in (", total", "")]
    assert f"found in {shares[0]:.0f} % of the candidates with a total curve, and in {shares[1]:.0f} % with curves" in PAGE
