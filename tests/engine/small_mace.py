"""A MACE model with random weights, small enough to build in a test."""

from pathlib import Path

import numpy as np
import torch


def save_small_mace(path: Path, numbers=(6, 14, 31, 33), seed: int = 0) -> Path:
    """Write a ScaleShiftMACE with pair repulsion in float64, and return its path."""
    from mace import modules  # before e3nn, whose constants torch refuses to load unless mace has allowed it
    from mace.modules.irreps_tools import o3

    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = modules.ScaleShiftMACE(
            r_max=4.5,
            num_bessel=6,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
            num_interactions=2,
            num_elements=len(numbers),
            hidden_irreps=o3.Irreps("8x0e"),
            MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.linspace(-3000.0, -100.0, len(numbers)),
            avg_num_neighbors=20.0,
            atomic_numbers=list(numbers),
            correlation=2,
            radial_type="bessel",
            pair_repulsion=True,
            atomic_inter_scale=3.0,
            atomic_inter_shift=0.1,
        )
    finally:
        torch.set_default_dtype(before)
    torch.save(model, path)
    return path
