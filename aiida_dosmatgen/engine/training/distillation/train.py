"""Train a MACE force field on many frames: from scratch, or from a parent that is fitted to other labels."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch

from ....core.crystals import CrystalSet
from ....core.elements import SYMBOLS
from ....core.errors import ContentError
from ....core.files.replacing import replacing
from ....core.job import BatchedTraining, TrainParameters
from ....core.labelled.splits import split_by_system
from ...relaxation.forcefields.mace import MaceEvaluator
from ..loop import Schedule, Trainer
from .graphs import graphs, mace_input, mean_neighbours
from .network import build, even_out, quicken
from .objective import ForceFieldObjective

_LEAST_FRAMES = 3  # with an element, for a constant of its own
_RIDGE = 1e-3
_AT_ONCE = 64
_HIGHEST_ENERGY = 10.0  # eV/atom above what the constants say; such frames teach nothing


def train_batched(
    crystals: CrystalSet,
    pseudolabelled: CrystalSet | None,
    parameters: TrainParameters,
    seed: int,
    folder: Path,
    output: Path,
    history_path: Path,
    *,
    parent: Path | None = None,
    device: str = "cpu",
    allows: Callable[[float], bool] = lambda seconds: True,
    progress: Callable[[int, str], None] = lambda done, note: None,
) -> dict[str, Any]:
    """Train a ScaleShiftMACE, and write it as :class:`mace.calculators.MACECalculator` reads it.

    Energies of the elements are fitted to the crystals. With a parent, constants are fitted to what its energies lack, and the
    energies of the pseudolabelled frames are shifted by them: labels of DFT and of a teacher have different zeros.

    :param crystals: with the columns ``energy`` (eV) and ``forces`` (eV/Å), and ``stress`` (eV/Å³) where it is known.
    :param pseudolabelled: frames that the network sees besides; it is never evaluated on them.
    :param folder: where the state is kept; one that fits is taken up.
    :return: ``epochs``, ``best_epoch``, ``finished``, ``metrics``, and ``history``, one list for each recorded quantity.
    :raises ContentError: if labels are missing, or the parent is not to be used.
    """
    options = parameters.batched or BatchedTraining()
    crystals = _finite(crystals, options.at_rest)
    pseudolabelled = None if pseudolabelled is None else _finite(pseudolabelled, options.at_rest)
    both = crystals if pseudolabelled is None else CrystalSet.concatenate([crystals, pseudolabelled])
    elder: Any = None  # a MACE, whose parts have no declared types
    if parent is None:
        numbers = np.unique(both.numbers)
        isolated = fitted_constants(both.crystal_columns["energy"], both, numbers)
        shift = np.zeros(len(numbers))
    else:
        elder = _read_parent(parent, options)
        numbers = elder.atomic_numbers.numpy()
        foreign = np.setdiff1d(both.numbers, numbers)
        if len(foreign):
            raise ContentError(f"parent: it does not know {' '.join(SYMBOLS[z] for z in foreign)}, which the crystals have")
        lacking = crystals.crystal_columns["energy"] - _energies(elder, crystals)
        shift = fitted_constants(lacking, crystals, numbers)
        isolated = np.atleast_2d(elder.atomic_energies_fn.atomic_energies.double().numpy())[0] + shift
    crystals = crystals[np.flatnonzero(_height(crystals, numbers, isolated) < _HIGHEST_ENERGY)]
    training, held_out = split_by_system(crystals, parameters.validation_fraction, seed)
    if not len(training):
        raise ContentError("no frame is left to train on")

    def made(rows: np.ndarray) -> list:
        some = crystals[rows]
        return graphs(some, _interaction(some, numbers, isolated), numbers, options.cutoff)

    seen, unseen = made(training), made(held_out)
    if pseudolabelled is not None:
        kept = pseudolabelled[np.flatnonzero(_height(pseudolabelled, numbers, isolated - shift) < _HIGHEST_ENERGY)]
        energies = _interaction(kept, numbers, isolated - shift)
        seen += graphs(kept, energies, numbers, options.cutoff, options.pseudo_weight)
    size = parameters.architecture
    neighbours = np.sqrt(mean_neighbours(seen)) if elder is None else float(elder.interactions[0].avg_num_neighbors)
    network = build(options, size.width, size.layers, numbers, isolated, neighbours, seed)
    if elder is None:
        even_out(network, mace_input(Batch.from_data_list(seen[:: max(1, len(seen) // _AT_ONCE)]), len(numbers)))
    else:
        _take(network, elder)
    schedule = Schedule(
        parameters.epochs, parameters.batch_size, parameters.learning_rate, parameters.weight_decay, parameters.ema,
        parameters.patience, parameters.keep,
    )  # fmt: skip
    fingerprint = hashlib.sha256()
    for graph in (*seen, *unseen):
        fingerprint.update(graph.energy.numpy().tobytes() + graph.pos.numpy().tobytes())
    fingerprint.update(json.dumps([parameters.model_dump(mode="json"), seed, numbers.tolist()]).encode())
    trainer = Trainer(
        quicken(network), ForceFieldObjective(options, len(numbers)), seen, unseen, schedule,  # type: ignore[arg-type]
        seed=seed, folder=folder, fingerprint=fingerprint.hexdigest(), device=device,
    )  # fmt: skip
    outcome = trainer.run(allows, progress, history_path)
    final = build(options, size.width, size.layers, numbers, isolated, neighbours, seed)
    _take(final, outcome.model.cpu())
    with replacing(output) as partial:
        torch.save(final, partial)
    return {
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "finished": outcome.finished,
        "history": outcome.history,
        "metrics": {
            **{name: value for name, value in outcome.metrics.items() if name != "loss"},
            "n_held_out": len(unseen),
            "n_crystals": len(training),
            "n_pseudolabelled": len(seen) - len(training),
            "n_elements": len(numbers),
        },
    }


def fitted_constants(energies: np.ndarray, crystals: CrystalSet, numbers: np.ndarray) -> np.ndarray:
    """Return one energy for each element whose sums come near to energies, shape (n_elements,).

    Absolute errors per atom are minimised, by least squares with weights that are adapted. Elements of fewer than three
    crystals get zero.
    """
    fractions = _counts(crystals, numbers) / crystals.n_atoms[:, None]
    per_atom = energies / crystals.n_atoms
    often = (fractions > 0).sum(0) >= _LEAST_FRAMES
    matrix = fractions[:, often]
    mean = np.median(per_atom)
    constants, weights = np.full(int(often.sum()), mean), np.ones(len(per_atom))
    for _ in range(30):
        weighted = matrix * weights[:, None]
        normal = weighted.T @ matrix + _RIDGE * np.eye(matrix.shape[1])
        constants = mean + np.linalg.solve(normal, weighted.T @ (per_atom - mean * matrix.sum(1)))
        weights = 1 / np.maximum(np.abs(per_atom - matrix @ constants), 0.02)
    result = np.zeros(len(numbers))
    result[often] = constants
    return result


def _counts(crystals: CrystalSet, numbers: np.ndarray) -> np.ndarray:
    counts = np.zeros((len(crystals), len(SYMBOLS)))
    np.add.at(counts, (crystals.crystal_of_atom, crystals.numbers), 1)
    return counts[:, numbers]


def _interaction(crystals: CrystalSet, numbers: np.ndarray, isolated: np.ndarray) -> np.ndarray:
    return crystals.crystal_columns["energy"] - _counts(crystals, numbers) @ isolated


def _height(crystals: CrystalSet, numbers: np.ndarray, isolated: np.ndarray) -> np.ndarray:
    return _interaction(crystals, numbers, isolated) / crystals.n_atoms


def _finite(crystals: CrystalSet, at_rest: bool) -> CrystalSet:
    """Return the crystals with finite energies and forces, with the columns that are learnt from alone."""
    if "energy" not in crystals.crystal_columns or "forces" not in crystals.atom_columns:
        raise ContentError("the crystals have no columns 'energy' and 'forces'; a force field is trained on these")
    forces = crystals.atom_columns["forces"].copy()
    finite = np.isfinite(crystals.crystal_columns["energy"])
    finite[crystals.crystal_of_atom[~np.isfinite(forces).all(1)]] = False
    stress = crystals.crystal_columns.get("stress", np.full((len(crystals), 3, 3), np.nan)).copy()
    if at_rest and "kind" in crystals.crystal_columns:
        kind = crystals.crystal_columns["kind"]
        stress[np.isin(kind, ["real", "rest"])] = 0.0
        forces[(kind == "rest")[crystals.crystal_of_atom]] = 0.0
    columns = {"energy": crystals.crystal_columns["energy"], "stress": stress}
    return crystals.replace(crystal_columns=columns, atom_columns={"forces": forces})[np.flatnonzero(finite)]


def _read_parent(path: Path, options: BatchedTraining) -> torch.nn.Module:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if (options.parent_sha256 or "").lower() != sha256:
        raise ContentError(
            f"parent: {path.name} was not loaded, because loading it would run the code in it. If you trust the file, "
            f"say so by its hash, parameters.batched.parent_sha256: {sha256}"
        )
    from mace import modules  # noqa: F401 - before e3nn, whose constants torch refuses to load unless mace has allowed it

    model = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    if float(model.r_max) != options.cutoff:
        raise ContentError(f"parent: its cutoff is {float(model.r_max):g} Å, not {options.cutoff:g} Å")
    return model


def _energies(model: torch.nn.Module, crystals: CrystalSet) -> np.ndarray:
    """Return what a model says, in eV, shape (N,)."""
    evaluator = MaceEvaluator(copy.deepcopy(model), "parent")
    parts = [evaluator.evaluate(crystals[i : i + _AT_ONCE]).energies for i in range(0, len(crystals), _AT_ONCE)]
    return np.concatenate(parts)


def _take(network: torch.nn.Module, other: torch.nn.Module) -> None:
    """Give a network the weights of another."""
    given = dict(other.named_parameters())
    for name, parameter in network.named_parameters():
        if name not in given or given[name].shape != parameter.shape:
            raise ContentError(f"parent: it is of another architecture; it has no {name} of shape {tuple(parameter.shape)}")
        with torch.no_grad():
            parameter.copy_(given[name])
