"""A denoiser too small to be good for anything, of weights that are not zero, as a checkpoint."""

from pathlib import Path

import torch

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.engine.checkpoint import save_model
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser

SIZE = {"width": 16, "layers": 1, "frequencies": 2}


def save_small_denoiser(path: Path) -> None:
    """Write the checkpoint of a denoiser of C and Si."""
    torch.manual_seed(0)
    model = Denoiser(["C", "Si"], DEFAULT_GRID, **SIZE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    header = CheckpointHeader(
        kind="denoiser",
        architecture=SIZE,
        elements=["C", "Si"],
        grid={"emin": -10, "emax": 10, "n": 400},
        sigma=0.3,
        training={"dataset_sha256": "0" * 64, "n_crystals": 0, "seed": 0, "epochs": 0, "parameters": {}},
        engine_version="0",
    )
    save_model(path, model, header)
