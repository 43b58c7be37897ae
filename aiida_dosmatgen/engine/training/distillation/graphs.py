"""Crystals with energies, forces and stresses as graphs, whose edges are found once."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Data

from ....core.crystals import CrystalSet
from ....core.elements import SYMBOLS
from ...neighbours import neighbours
from ...relaxation.forcefields.fused_mace import TILE
from ...relaxation.forcefields.mace import fill_tiles


def graphs(crystals: CrystalSet, energies: np.ndarray, numbers: np.ndarray, cutoff: float, weight: float = 1.0) -> list[Data]:
    """Return one graph for each crystal.

    :param crystals: with the column ``forces``, and ``stress`` where it is known.
    :param energies: what the network should say, in eV, shape (N,).
    :param numbers: atomic numbers of the network's elements, ascending.
    :param weight: of the crystals in the loss.
    """
    index = np.full(len(SYMBOLS), -1)
    index[numbers] = np.arange(len(numbers))
    stresses = crystals.crystal_columns.get("stress", np.full((len(crystals), 3, 3), np.nan))
    made = []
    for i, crystal in enumerate(crystals):
        found = neighbours(crystal.positions, crystal.lattices, crystal.n_atoms, cutoff)
        edges, images = fill_tiles(crystal, np.stack([found.j, found.i]), -found.images, cutoff, TILE)
        made.append(
            Data(
                num_nodes=int(crystal.n_atoms[0]),
                species=torch.as_tensor(index[crystal.numbers]),
                pos=torch.as_tensor(crystal.positions, dtype=torch.float32),
                edge_index=torch.as_tensor(edges, dtype=torch.int64),
                images=torch.as_tensor(images, dtype=torch.int8),
                cell=torch.as_tensor(crystal.lattices, dtype=torch.float32),
                energy=torch.tensor([energies[i]], dtype=torch.float32),
                forces=torch.as_tensor(crystal.atom_columns["forces"], dtype=torch.float32),
                stress=torch.as_tensor(stresses[i : i + 1], dtype=torch.float32),
                weight=torch.tensor([weight], dtype=torch.float32),
            )
        )
    return made


def mean_neighbours(made: list[Data]) -> float:
    """Return the mean number of edges that an atom receives, those that fill tiles among them."""
    return sum(g.edge_index.shape[1] for g in made) / sum(int(g.num_nodes) for g in made)


def mace_input(batch: Data, n_elements: int) -> dict[str, torch.Tensor]:
    """Return what MACE's forward takes."""
    of_edge = batch.batch[batch.edge_index[1]]
    images = batch.images.to(batch.cell.dtype)
    return {
        "edge_index": batch.edge_index,
        "node_attrs": torch.nn.functional.one_hot(batch.species, n_elements).to(batch.pos.dtype),
        "positions": batch.pos.clone(),
        "shifts": torch.bmm(images[:, None], batch.cell[of_edge])[:, 0],
        "unit_shifts": images,
        "cell": batch.cell.reshape(-1, 3),
        "batch": batch.batch,
        "ptr": batch.ptr,
        "head": torch.zeros(batch.num_graphs, dtype=torch.int64, device=batch.pos.device),
    }
