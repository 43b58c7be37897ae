"""Relax many crystals with one force field in batches. Each ends with its own status; a failure affects no other crystal."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from ase.units import GPa

from ...core.contacts import closest_contacts, valid_crystals
from ...core.crystals import MOST_ATOMS, CrystalSet
from ...core.dft.orientation import oriented
from ...core.job import RelaxParameters
from .forcefields.evaluation import Evaluator
from .pool import Pool
from .repair import OVERLAP, make_right_handed, push_apart
from .symmetry import Operations, impose, symmetrize

STATUSES = (
    "converged", "max steps", "too slow", "out of time", "exploded", "collapsed", "clash", "not finite", "unknown element",
    "too large",
)  # fmt: skip

_VOLUME_PER_ATOM = (1.5, 200.0)  # Å³; beyond these it is no crystal
_VOLUME_OVER_START = (0.1, 10.0)
_CLASH = 0.3  # contact below which the force field has pulled atoms into each other
_ISOLATED = 1.8  # contact above which atoms do not touch
_NOBLE = np.array([2, 10, 18, 36, 54, 86])  # solids of these have no bonds
_HIGHER = 1e-3  # eV/atom by which a crystal's energy may rise when its symmetry is made exact
_TOLERANCES = (1, 2 / 3, 1 / 3)  # of the largest within which symmetry is made, in this order
_CHECK_EVERY = 10  # steps between looks at the contacts
_MOST_FAILURES = 8  # evaluations in a row without a finite energy
_BATCH_ATOMS = {"cpu": 400, "cuda": 8000}  # atoms at a time, where the caller does not say


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxed:
    """The end of one crystal's relaxation.

    :param index: its place in the set that was given.
    :param crystal: one crystal with the columns ``energy``, ``start_energy`` (eV, where its relaxation began), ``stress``,
        ``fmax``, ``steps``, ``status``, and ``forces``.
    """

    index: int
    crystal: CrystalSet

    @property
    def status(self) -> str:
        """One of :data:`STATUSES`."""
        return str(self.crystal.crystal_columns["status"][0])


def relax(
    crystals: CrystalSet,
    evaluator: Evaluator,
    parameters: RelaxParameters,
    *,
    batch_size: int | None = None,
    in_time: Callable[[], bool] = lambda: True,
    start: CrystalSet | None = None,
) -> Iterator[Relaxed]:
    """Relax crystals, and yield each as soon as it ends; every one is yielded exactly once.

    Positions and cells are relaxed together by L-BFGS with a model of springs, each crystal on its own; the force field is
    called for the whole batch. A crystal that ends leaves the batch and the next one enters.

    :param crystals: any crystals, also such as :meth:`CrystalSet.defect` refuses.
    :param batch_size: crystals at a time; None goes by the number of atoms.
    :param in_time: asked before each call of the force field; once it says no, what is not done ends as ``out of time``.
    :param start: where to start from, if not from ``crystals``: the same crystals further on, with the columns ``steps`` and
        ``start_energy``. Limits of the volume still refer to ``crystals``.
    """
    given = make_right_handed(crystals)
    begin = given if start is None else make_right_handed(start)
    done_steps = np.zeros(len(given), dtype=np.int64) if start is None else start.crystal_columns["steps"].astype(np.int64)
    start_energies = np.full(len(given), np.nan) if start is None else start.crystal_columns["start_energy"]
    queue: deque[int] = deque()
    refused = _refuse(begin, evaluator)
    for i in range(len(begin)):
        if i in refused:
            yield _untouched(i, crystals[i], refused[i])
        else:
            queue.append(i)
    contacts = closest_contacts(begin)
    pool = Pool(parameters.cell)
    budget = _BATCH_ATOMS.get(str(getattr(evaluator, "device", "cpu")).partition(":")[0], 400)

    def wanted(entering: list[int]) -> bool:
        """Whether another crystal fits in the batch."""
        if not queue:
            return False
        if batch_size is not None:
            return len(pool) + len(entering) < batch_size
        atoms = int(pool.n_atoms.sum()) + sum(int(begin.n_atoms[i]) for i in [*entering, queue[0]])
        return atoms <= budget or not len(pool) + len(entering)

    symmetries: dict[int, Operations] = {}
    rounds = 0
    while queue or len(pool):
        if not in_time():
            break
        entering: list[int] = []
        ready: list[CrystalSet] = []
        while wanted(entering):
            i = queue.popleft()
            crystal: CrystalSet | None = begin[i].replace(crystal_columns={}, atom_columns={})
            if contacts[i] < OVERLAP:
                crystal = push_apart(crystal)  # type: ignore[arg-type]
            if crystal is None:
                yield _untouched(i, crystals[i], "clash")
                continue
            if parameters.symmetry is not None:
                crystal, symmetries[i] = symmetrize(crystal, parameters.symmetry)
            entering.append(i)
            ready.append(crystal)
        if entering:
            # limits refer to the cell as given, or as it is once its atoms were pushed apart
            joined = CrystalSet.concatenate(ready)
            pool.add(
                np.array(entering),
                joined,
                np.maximum(given[entering].volumes, joined.volumes * (done_steps[entering] == 0)),
                done_steps[entering],
                start_energies[entering],
            )
        if not len(pool):
            continue
        trial = pool.crystals(pool.trial)
        before = time.monotonic()
        evaluation = evaluator.evaluate(trial)
        pool.spend(time.monotonic() - before)
        if parameters.symmetry is not None:
            evaluation = impose([symmetries[i] for i in pool.index.tolist()], trial, evaluation)
        pool.take(evaluation)
        statuses = _statuses(pool, parameters, rounds % _CHECK_EVERY == 0)
        over = statuses != ""
        if over.any():
            leaving = list(_leave(pool, statuses))
            yield from leaving if parameters.symmetrize is None else _symmetrized(leaving, evaluator, parameters)
            pool.keep(~over)
        if len(pool):
            pool.step()
        rounds += 1
    if len(pool):
        yield from _leave(pool, np.full(len(pool), "out of time"))
    for i in queue:
        yield _untouched(i, begin[i], "out of time", int(done_steps[i]), float(start_energies[i]))


def gather(crystals: CrystalSet, relaxed: list[Relaxed]) -> CrystalSet:
    """Return all crystals in the order given, relaxed, with their earlier columns and those of the relaxation."""
    parts = CrystalSet.concatenate(r.crystal for r in sorted(relaxed, key=lambda r: r.index))
    return crystals.replace(fractional=parts.fractional, lattices=parts.lattices).with_columns(
        parts.crystal_columns, parts.atom_columns
    )


# --- beginning ----------------------------------------------------------------------------------------------------------


def _refuse(crystals: CrystalSet, evaluator: Evaluator) -> dict[int, str]:
    """Return the status of each crystal that the force field must not see."""
    refused: dict[int, str] = {}
    valid = valid_crystals(crystals)
    finite = np.isfinite(crystals.lattices).all((1, 2))
    finite[crystals.crystal_of_atom[~np.isfinite(crystals.fractional).all(1)]] = False
    real = (crystals.numbers >= 1) & (crystals.numbers <= 118)
    unknown = ~real
    unknown[real] = ~evaluator.knows(crystals.numbers[real])
    strange = np.zeros(len(crystals), dtype=bool)
    strange[crystals.crystal_of_atom[unknown]] = True
    volumes = np.abs(np.linalg.det(np.where(finite[:, None, None], crystals.lattices, np.nan)))
    per_atom = volumes / crystals.n_atoms
    for i in range(len(crystals)):
        if crystals.n_atoms[i] > MOST_ATOMS:
            refused[i] = "too large"
        elif not finite[i]:
            refused[i] = "not finite"
        elif strange[i]:
            refused[i] = "unknown element"
        elif per_atom[i] > _VOLUME_PER_ATOM[1]:
            refused[i] = "exploded"
        elif not valid[i]:
            refused[i] = "collapsed"
    return refused


def _untouched(index: int, crystal: CrystalSet, status: str, steps: int = 0, start_energy: float = np.nan) -> Relaxed:
    stress, forces = np.full((3, 3), np.nan), np.full((int(crystal.n_atoms[0]), 3), np.nan)
    return Relaxed(index, _with_results(crystal, np.nan, start_energy, stress, forces, status, steps))


def _with_results(
    crystal: CrystalSet,
    energy: float,
    start_energy: float,
    stress: np.ndarray,
    forces: np.ndarray,
    status: str,
    steps: int,
) -> CrystalSet:
    return crystal.replace(
        crystal_columns={
            "energy": np.array([energy]),
            "start_energy": np.array([start_energy]),
            "stress": stress[None],
            "fmax": np.linalg.norm(forces, axis=1).max(keepdims=True),
            "steps": np.array([steps]),
            "status": np.array([status]),
        },
        atom_columns={"forces": forces},
    )


# --- ending -------------------------------------------------------------------------------------------------------------


def _statuses(pool: Pool, parameters: RelaxParameters, look_at_contacts: bool) -> np.ndarray:
    """Return the status of each crystal that is to end, and empty text for the others, shape (B,)."""
    volumes = pool.volumes()
    per_atom, over_start = volumes / pool.n_atoms, volumes / pool.start_volume
    converged = (pool.fmax() < parameters.fmax) & ((pool.smax() < parameters.smax) | (not parameters.cell))
    contacts = np.full(len(pool), np.nan)
    looked_at = converged | look_at_contacts | (pool.steps >= parameters.max_steps)
    if looked_at.any():
        contacts[looked_at] = closest_contacts(pool.crystals(pool.variables)[looked_at])
    bonded = np.ones(len(pool), dtype=bool)
    bonded[np.repeat(np.arange(len(pool)), pool.n_atoms)[np.isin(pool.numbers, _NOBLE)]] = False
    lower, upper = _VOLUME_PER_ATOM
    conditions = {
        "not finite": (np.isnan(pool.energies) & (pool.failures > 0)) | (pool.failures >= _MOST_FAILURES),
        "exploded": (per_atom > upper) | (over_start > _VOLUME_OVER_START[1]) | (converged & bonded & (contacts > _ISOLATED)),
        "collapsed": (per_atom < lower) | (over_start < _VOLUME_OVER_START[0]),
        "clash": contacts < _CLASH,
        "converged": converged,
        "max steps": pool.steps >= parameters.max_steps,
        "too slow": pool.seconds > parameters.max_seconds,
    }
    return np.select(list(conditions.values()), list(conditions), default="")


def _leave(pool: Pool, statuses: np.ndarray) -> Iterator[Relaxed]:
    """Yield the crystals of the pool that have a status, at their last accepted points."""
    ended = pool.crystals(pool.variables)
    offsets = ended.offsets
    for b in np.flatnonzero(statuses != "").tolist():
        energy, start_energy, stress = pool.energies[b], pool.start_energy[b], pool.stresses[b]
        forces, status, steps = pool.forces[offsets[b] : offsets[b + 1]], str(statuses[b]), int(pool.steps[b])
        yield Relaxed(int(pool.index[b]), _with_results(ended[b], energy, start_energy, stress, forces, status, steps))


def _symmetrized(leaving: list[Relaxed], evaluator: Evaluator, parameters: RelaxParameters) -> Iterator[Relaxed]:
    """Yield them all, the converged ones with their symmetry made exact where they stay converged and as low in energy.

    Within a wide tolerance a crystal may have more symmetry than its energy bears: then a narrower one is tried.
    """
    assert parameters.symmetrize is not None
    left = {
        k: relaxed.crystal.replace(crystal_columns={}, atom_columns={})
        for k, relaxed in enumerate(leaving)
        if relaxed.status == "converged"
    }
    refused: dict[int, int] = {}  # operations of the group that was
    for share in _TOLERANCES:
        changed: dict[int, CrystalSet] = {}
        for k, bare in left.items():
            crystal, operations = symmetrize(bare, share * parameters.symmetrize)
            keeps_cell = parameters.cell or np.allclose(crystal.lattices, bare.lattices, atol=1e-9)
            if keeps_cell and len(operations.rotations) not in (1, refused.get(k)):
                changed[k], refused[k] = oriented(crystal) if parameters.cell else crystal, len(operations.rotations)
        if not changed:
            continue
        joined = CrystalSet.concatenate(changed.values())
        evaluation = evaluator.evaluate(joined)
        offsets = joined.offsets
        for b, k in enumerate(changed):
            before, energy, stress = leaving[k].crystal, float(evaluation.energies[b]), evaluation.stresses[b]
            forces, columns = evaluation.forces[offsets[b] : offsets[b + 1]], leaving[k].crystal.crystal_columns
            stays = np.linalg.norm(forces, axis=1).max() < parameters.fmax and (
                not parameters.cell or np.abs(stress).max() < parameters.smax * GPa
            )
            if stays and energy - columns["energy"][0] < _HIGHER * before.n_atoms[0]:
                start_energy, steps = float(columns["start_energy"][0]), int(columns["steps"][0])
                crystal = _with_results(joined[b], energy, start_energy, stress, forces, "converged", steps)
                leaving[k] = Relaxed(leaving[k].index, crystal)
                del left[k]
    yield from leaving
