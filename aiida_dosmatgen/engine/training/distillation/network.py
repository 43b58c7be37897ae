"""A MACE network that is built for training, and the same network in a form that trains several times faster.

What is trained has the parameters of :class:`mace.modules.ScaleShiftMACE` by their names, so that it is saved as a model that
:class:`mace.calculators.MACECalculator` reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ....core.job import BatchedTraining
from ...relaxation.forcefields.fused_mace import TILE, ScalarConvolution, quicken_atoms


def build(
    options: BatchedTraining,
    channels: int,
    layers: int,
    numbers: np.ndarray,
    isolated: np.ndarray,
    neighbours: float,
    seed: int,
) -> torch.nn.Module:
    """Return a ScaleShiftMACE in float32 with scalar channels and pair repulsion (ZBL).

    :param numbers: atomic numbers of the elements, ascending.
    :param isolated: energies of the elements in eV, what the sum over atoms begins with, shape (n_elements,).
    :param neighbours: what sums over neighbours are divided by. The root of their number: by the number itself messages begin
        so small that hundreds of steps pass before forces are learnt.
    """
    from mace import modules  # before e3nn, whose constants torch refuses to load unless mace has allowed it
    from mace.modules.irreps_tools import o3

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    with _float32():
        torch.manual_seed(seed)
        return modules.ScaleShiftMACE(
            r_max=options.cutoff,
            num_bessel=options.radial_functions,
            num_polynomial_cutoff=5,
            max_ell=options.degree,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=layers,
            num_elements=len(numbers),
            hidden_irreps=o3.Irreps(f"{channels}x0e"),
            MLP_irreps=o3.Irreps("16x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.asarray(isolated, dtype=np.float64),
            avg_num_neighbors=neighbours,
            atomic_numbers=[int(z) for z in numbers],
            correlation=options.correlation,
            radial_type="bessel",
            radial_MLP=list(options.radial_widths),
            pair_repulsion=True,
            atomic_inter_scale=1.0,  # the repulsion is scaled, too
            atomic_inter_shift=0.0,
        )


def quicken(model: torch.nn.Module) -> torch.nn.Module:
    """Replace, in place, convolutions, skip connections and contractions by faster ones that can be differentiated twice.

    The parameters stay those of the model.
    """
    mace: Any = model  # its parts have no declared types
    for block in mace.interactions:
        convolution = DifferentiableConvolution.of(block.conv_tp)
        if convolution is not None:
            block.conv_tp, block.conv_fusion = convolution, True
    quicken_atoms(model)
    return model


def even_out(model: torch.nn.Module, graph: dict[str, torch.Tensor]) -> None:
    """Scale, in place, the weights of a new network so that densities and features of its layers are of the order of one.

    As it begins they are hundredths, their products less, and hundreds of steps pass before anything but constants is learnt.

    :param graph: some crystals, as the network takes them.
    """
    mace: Any = model
    with torch.no_grad():
        for block, product in zip(mace.interactions, mace.products, strict=True):
            for module, pick in ((block, 0), (product, None)):
                seen: list[torch.Tensor] = []
                hook = module.register_forward_hook(lambda _, __, out, pick=pick, seen=seen: seen.append(_part(out, pick)))
                model(graph, compute_force=False)
                hook.remove()
                for parameter in module.linear.parameters():
                    parameter /= seen[0].std().clamp(min=1e-6)


def _part(output: Any, index: int | None) -> torch.Tensor:
    return output if index is None else output[index]


class DifferentiableConvolution(ScalarConvolution):
    """The same sums by operations that autograd can differentiate twice, as the loss of forces needs."""

    def _sums(
        self, node_feats: torch.Tensor, edge_attrs: torch.Tensor, weights: torch.Tensor, senders: torch.Tensor,
        receivers: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        sent = node_feats.index_select(0, senders)
        messages = (weights.view(len(senders), -1, self.channels) * sent[:, None]).view(-1, TILE, weights.shape[1])
        tiles = torch.bmm(messages.transpose(1, 2), edge_attrs.reshape(-1, TILE, edge_attrs.shape[1]))
        return tiles.new_zeros(len(node_feats), *tiles.shape[1:]).index_add(0, receivers, tiles)


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
