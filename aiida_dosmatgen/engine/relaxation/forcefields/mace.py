"""MACE models, evaluated on many crystals in one call."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ....core.crystals import CrystalSet
from ....core.elements import SYMBOLS
from ....core.errors import ContentError
from ....core.job import ForceField
from ...neighbours import neighbours
from .evaluation import BatchEvaluator, Evaluation
from .fused_mace import TILE, ScalarConvolution, fuse


class MaceEvaluator(BatchEvaluator):
    """A MACE model, evaluated on many crystals in one call.

    :param model: as :func:`torch.load` gives it.
    :param head: index of the output head of a multi-head model.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        description: str,
        sha256: str | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        head: int = 0,
    ) -> None:
        super().__init__(torch.device(device))
        self.description, self.sha256 = description, sha256
        self.dtype, self.head = dtype, head
        # Energies of isolated atoms run to thousands of eV; they are added in float64, outside of the model
        isolated = torch.atleast_2d(model.atomic_energies_fn.atomic_energies.detach().double())[head]  # type: ignore[operator,union-attr,index]
        self.model = model.to(device=self.device, dtype=dtype).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.model = fuse(self.model)
        self._tile = TILE if any(isinstance(part, ScalarConvolution) for part in self.model.modules()) else 1
        self.cutoff = float(model.r_max)  # type: ignore[arg-type]
        numbers = model.atomic_numbers.cpu().numpy()  # type: ignore[operator,union-attr]
        self._index = np.full(len(SYMBOLS), -1)
        self._index[numbers] = np.arange(len(numbers))
        self._isolated = isolated.cpu().numpy()

    @property
    def symbols(self) -> list[str]:
        """The elements of the model."""
        return [SYMBOLS[z] for z in np.flatnonzero(self._index >= 0)]

    def knows(self, numbers: np.ndarray) -> np.ndarray:
        """Say which atomic numbers are in the model's table."""
        return self._index[numbers] >= 0

    def _evaluate(self, crystals: CrystalSet) -> Evaluation:
        species = self._index[crystals.numbers]
        graph = self._graph(crystals, species)
        with _default_dtype(self.dtype):
            output = self.model(graph, compute_force=True, compute_stress=True)
        e0 = np.bincount(crystals.crystal_of_atom, weights=self._isolated[species], minlength=len(crystals))
        interaction = output.get("interaction_energy")
        if interaction is None:  # plain MACE: the first contribution is that of the isolated atoms
            interaction = output["contributions"][:, 1:].sum(-1)
        return Evaluation(
            e0 + interaction.detach().double().cpu().numpy(),
            output["forces"].detach().double().cpu().numpy(),
            output["stress"].detach().double().cpu().numpy(),
        )

    def _graph(self, crystals: CrystalSet, species: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the model's input: all crystals as one graph without edges between them."""
        positions = crystals.positions
        found = neighbours(positions, crystals.lattices, crystals.n_atoms, self.cutoff)
        # messages go from the second atom to the first
        edge_index, unit_shifts = np.stack([found.j, found.i]), -found.images
        edge_index, unit_shifts = fill_tiles(crystals, edge_index, unit_shifts, self.cutoff, self._tile)
        crystal_of_edge = crystals.crystal_of_atom[edge_index[1]]
        cartesian_shifts = np.einsum("ei,eij->ej", unit_shifts, crystals.lattices[crystal_of_edge])

        def real(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=self.dtype, device=self.device)

        def integer(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=torch.int64, device=self.device)

        return {
            "edge_index": integer(edge_index),
            "node_attrs": real(np.eye(len(self._isolated))[species]),
            "positions": real(positions),
            "shifts": real(cartesian_shifts),
            "unit_shifts": real(unit_shifts),
            "cell": real(crystals.lattices.reshape(-1, 3)),
            "batch": integer(crystals.crystal_of_atom),
            "ptr": integer(crystals.offsets.copy()),  # torch would share memory that is not to be written to, and warns
            "head": integer(np.full(len(crystals), self.head)),
        }


def fill_tiles(
    crystals: CrystalSet, edge_index: np.ndarray, unit_shifts: np.ndarray, cutoff: float, tile: int
) -> tuple[np.ndarray, np.ndarray]:
    """Add edges beyond the cutoff, which count for nothing, until each receiver has whole tiles of edges, and sort by receiver.

    :param edge_index: senders and receivers, (2, E).
    :param unit_shifts: lattice translations of the edges, (E, 3).
    """
    counts = np.bincount(edge_index[1], minlength=len(crystals.numbers))
    missing = np.repeat(np.arange(len(counts)), -counts % tile)
    far = np.ceil(2 * cutoff / np.linalg.norm(crystals.lattices[:, 0], axis=1))
    images = np.zeros((len(missing), 3), dtype=unit_shifts.dtype)
    images[:, 0] = far[crystals.crystal_of_atom[missing]]
    edge_index = np.concatenate([edge_index, np.stack([missing, missing])], 1)
    order = np.argsort(edge_index[1], kind="stable")
    return edge_index[:, order], np.concatenate([unit_shifts, images])[order]


def load_mace(
    path: Path, description: str, force_field: ForceField, device: torch.device | str, dtype: torch.dtype
) -> MaceEvaluator:
    """Load a MACE file, if its hash is the one given.

    :param description: what the force field is called.
    :raises ContentError: if the file is not there, not trusted, or no MACE model.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ContentError(f"the force field {path} does not exist") from None
    except OSError as exception:
        raise ContentError(f"the force field {path} cannot be read: {exception.strerror}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if force_field.sha256 is not None and force_field.sha256.lower() != sha256:
        raise ContentError(
            f"the force field {path.name} hashes to {sha256}, not to {force_field.sha256}; it was not loaded. "
            "Give the file that was meant, or its hash"
        )
    if force_field.file is not None and force_field.sha256 is None:
        raise ContentError(
            f"the force field {path.name} was not loaded: loading it would run the code in it. "
            f"If you trust the file, say so by its hash, force_field.sha256: {sha256}"
        )
    _need_mace()
    try:
        model = torch.load(io.BytesIO(content), map_location=device, weights_only=False)
    except Exception as exception:  # unpickling foreign bytes can raise anything
        reason = " ".join(str(exception).split())[:200] or type(exception).__name__
        raise ContentError(f"{path.name} is not a MACE model file (truncated, or of another kind): {reason}") from None
    missing = [name for name in ("atomic_numbers", "r_max", "atomic_energies_fn") if not hasattr(model, name)]
    if not isinstance(model, torch.nn.Module) or missing:
        raise ContentError(f"{path.name} holds a {type(model).__name__}, not a MACE model with energies")
    head = _head(model, force_field.arguments)
    return MaceEvaluator(model, description, sha256, device=device, dtype=dtype, head=head)


def _head(model: torch.nn.Module, arguments: dict) -> int:
    """Return the index of the head asked for, or of the default one."""
    unknown = set(arguments) - {"head"}
    if unknown:
        raise ContentError(
            f"force_field.arguments: {sorted(unknown)[0]!r} is not an argument of a MACE model; there is only 'head'"
        )
    heads = list(getattr(model, "heads", None) or ["Default"])
    wanted = arguments.get("head")
    if wanted is None:
        named_default = [i for i, head in enumerate(heads) if head.lower() == "default"]
        if len(heads) > 1 and not named_default:
            raise ContentError(f"the model has several heads; choose one by force_field.arguments.head: {', '.join(heads)}")
        return named_default[0] if named_default else 0
    if wanted not in heads:
        raise ContentError(f"force_field.arguments.head: {wanted!r} is not a head of the model; it has {', '.join(heads)}")
    return heads.index(wanted)


def foundation_file(name: str) -> Path:
    """Return the file of a MACE foundation model, downloaded by mace unless it is in mace's cache.

    :raises ContentError: if there is no such model, or it cannot be downloaded.
    """
    _need_mace()
    from mace.calculators.foundations_models import download_mace_mp_checkpoint, mace_mp_urls

    if name not in mace_mp_urls:
        raise ContentError(f"{name!r} is not a MACE foundation model; there are {', '.join(mace_mp_urls)}")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Path(download_mace_mp_checkpoint(name))
    except Exception as exception:  # network errors come in many classes
        raise ContentError(
            f"the MACE foundation model {name} could not be downloaded ({' '.join(str(exception).split())}); "
            f"download {mace_mp_urls[name]} elsewhere and give it as a file"
        ) from None


def _need_mace() -> None:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module("mace.modules")
    except ImportError as exception:
        raise ContentError(f"MACE cannot be imported ({exception}); install aiida-dosmatgen[engine]") from None


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype for a while: parts of MACE make tensors of the default one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
