"""Candidates per core-second and their distance from the target: our sampler against the reference scheme, in one run.

    python benchmarks/sampling.py --json [--quick]

Both branches generate candidates, from pure noise, for the same held-out crystals: the target is the crystal's calculated
density of states, site by site, and neither of the denoisers nor the predictor has seen a crystal of its formula. Ours is the
shipped denoiser with the few-step solver, both branches of guidance in one stacked batch; the reference is the preset of
``benchmarks/reference.py``. Batches are the same for both: all candidates with one number of atoms. Both run on one thread in
this process, and take turns: the reference is interrupted several times, each time for a whole run of ours. Seconds are CPU
time, medians over the turns; both are warm.

``ratio`` is our number of candidates per core-second over the reference's. ``dos_distance`` is the mean absolute error, in
states/eV/atom, of the DOS that the shipped predictor gives a candidate from that of the target, averaged over candidates and
targets; nothing is relaxed or selected before. A candidate without a prediction (defective) counts with the largest distance
that any candidate has; ``failed`` says how many these are.

The reference has to be trained once (``python benchmarks/reference.py train``; the full run does it where it is missing, which
takes hours). Without it ``--quick`` and ``--untrained-reference`` measure the speed alone; ``dos_distance_reference`` is then
null and the time of a reference step is taken from the first 20 of its 1,000 steps (``reference_extrapolated``).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import reference
import throughput
import torch

from aiida_dosmatgen.core.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.core.contacts import closest_contacts
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import ATOMIC_NUMBERS, Composition
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters, sha256_of
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.conditioning import Condition
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.guidance import Guidance, make
from aiida_dosmatgen.engine.diffusion.sampler import condition_on, decoded
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve
from aiida_dosmatgen.engine.prediction.predictors import Predictor, predict
from aiida_dosmatgen.engine.training.dataset import load_labelled
from aiida_dosmatgen.engine.training.splits import split_by_system

MODELS = Path(__file__).parents[1] / "aiida_dosmatgen" / "models"
SWEEP = (10, 20, 30, 50, 100)
TIMED_STEPS = 20  # of a reference that is timed only
SOUND_CONTACT = ScreenCriteria().min_contact  # over the sum of the covalent radii
_STRIDE = 10_000  # candidates of one target are numbered from a multiple of it


class _Enough(Exception):
    """Ends a reference run that is timed only."""


# --- what is asked for ------------------------------------------------------------------------------------------------------


def held_out(dataset: Path, headers: dict[str, CheckpointHeader]) -> CrystalSet:
    """Return the crystals that none of the models has been trained on: those kept for tests, if the set says which.

    :raises ContentError: naming the model that has seen them.
    """
    crystals = load_labelled(dataset)
    by_column = "split" in crystals.crystal_columns
    digest, first = sha256_of(dataset), next(iter(headers.values())).training
    fraction = first.parameters["validation_fraction"]
    for name, header in headers.items():
        training = header.training
        if training.dataset_sha256 != digest:
            raise ContentError(f"the {name} was trained on another data set than {dataset}; give the one it was trained on")
        if by_column:
            continue
        if not training.parameters["validation_fraction"]:
            raise ContentError(f"the {name} was trained without crystals held out; give one that was not")
        if (training.seed, training.parameters["validation_fraction"]) != (first.seed, fraction):
            raise ContentError(
                f"the {name} and the {next(iter(headers))} hold out different crystals; train them with one seed"
            )
    if by_column:
        return crystals[np.flatnonzero(crystals.crystal_columns["split"] != "train")]
    return crystals[split_by_system(crystals, fraction, first.seed)[1]]


def chosen(crystals: CrystalSet, count: int, max_atoms: int) -> CrystalSet:
    """Return so many of the crystals: the first of each formula, then the second of each, and so on."""
    seen: dict[Composition, int] = {}
    order = []
    for i, formula in enumerate(crystals.compositions):
        seen[formula] = seen.get(formula, 0) + 1
        if crystals.n_atoms[i] <= max_atoms:
            order.append((seen[formula], i))
    return crystals[np.array(sorted(i for _, i in sorted(order)[:count]))]


def targets_of(crystals: CrystalSet) -> list[DosTarget]:
    """Return the density of states of each crystal as a target, site by site."""
    dos, offsets = crystals.atom_columns["dos"], crystals.offsets
    limits = crystals.crystal_columns["complete_below"]
    return [
        DosTarget(dos[offsets[i] : offsets[i + 1]], complete_below=float(limits[i]) if limits[i] < 10 else math.inf)
        for i in range(len(crystals))
    ]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Candidates of equal size that are generated together.

    :param targets: the targets, each with its number.
    :param candidates: of each target.
    """

    targets: list[tuple[int, DosTarget]]
    candidates: int
    seed: int

    @property
    def n_atoms(self) -> int:
        """Atoms of each."""
        return len(self.targets[0][1].curves)

    def __len__(self) -> int:
        return len(self.targets) * self.candidates


def batches_of(targets: list[DosTarget], candidates: int, seed: int) -> list[Batch]:
    """Put targets with the same number of atoms together."""
    sizes = sorted({len(target.curves) for target in targets})
    return [Batch([(i, t) for i, t in enumerate(targets) if len(t.curves) == n], candidates, seed) for n in sizes]


# --- candidates -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def generate(
    model: Denoiser,
    batch: Batch,
    parameters: SampleParameters,
    guide: Callable[[Condition, torch.Tensor], Guidance],
    turn: int = 0,
    each_step: Callable[[], None] = lambda: None,
) -> CrystalSet:
    """Return the candidates of a batch; those of turn k are ``k·candidates`` and following.

    The same as :func:`aiida_dosmatgen.engine.diffusion.sampler.sample` for each target, but for several targets in one batch.
    """
    n = batch.n_atoms
    conditions = [condition_on(target, model, batch.candidates, n) for _, target in batch.targets]
    joined = Condition(**{f.name: torch.cat([getattr(c, f.name) for c in conditions]) for f in dataclasses.fields(Condition)})
    numbers = [_STRIDE * i + turn * batch.candidates + k for i, _ in batch.targets for k in range(batch.candidates)]
    noise = Noise([generator_of(batch.seed, i) for i in numbers], n, len(model.elements), model.dtype, model.device)
    guidance = guide(joined, torch.ones(len(batch), n, dtype=torch.bool, device=model.device))
    names = ("steps", "sampler", "corrector_steps", "coordinate_power")
    settings: dict[str, Any] = {name: getattr(parameters, name) for name in names}
    types, fractional, lattices = decoded(model, solve(model, guidance, noise, each_step=each_step, **settings))
    z = np.array([ATOMIC_NUMBERS[symbol] for symbol in model.elements])
    columns = {"candidate": np.array(numbers), "target": np.array(numbers) // _STRIDE}
    return CrystalSet(np.full(len(batch), n), z[types].ravel(), fractional.reshape(-1, 3), lattices, columns)


def timed(model: Denoiser, batch: Batch, parameters: SampleParameters, turn: int = 0) -> tuple[float, CrystalSet]:
    """Return the core-seconds of a run of ours, and its candidates."""
    start = time.process_time()
    crystals = generate(model, batch, parameters, lambda c, mask: make(model, None, c, mask, parameters), turn)
    return time.process_time() - start, crystals


@dataclasses.dataclass
class Comparison:
    """What one batch took and gave.

    :param ours: core-seconds of each run of ours.
    :param reference: core-seconds of the reference, from each of its parts; all steps.
    """

    batch: Batch
    ours: list[float]
    reference: list[float]
    crystals: list[CrystalSet]
    crystals_reference: CrystalSet | None


def compare(ours: Denoiser, other: Denoiser, batch: Batch, parameters: SampleParameters, turns: int, whole: bool) -> Comparison:
    """Run the reference for one batch, and ours as often as ``turns`` in between.

    :param whole: whether the reference runs to its end; if not, for ``TIMED_STEPS`` steps only.
    """
    scheme = reference.SAMPLING
    steps = scheme.steps if whole else TIMED_STEPS
    turns = min(turns, steps)
    marks = [round(steps * (k + 1) / turns) for k in range(turns)]
    timed(ours, batch, parameters.model_copy(update={"steps": 2}))  # warm
    with torch.no_grad():
        warm = scheme.model_copy(update={"steps": 2})
        generate(other, batch, warm, lambda c, mask: reference.TwoCalls(other, c, mask))

    found = Comparison(batch, [], [], [], None)
    done, last = 0, 0
    begin = time.process_time()

    def take_turns() -> None:
        nonlocal begin, last
        found.reference.append((time.process_time() - begin) * scheme.steps / (done - last))
        seconds, crystals = timed(ours, batch, parameters, len(found.ours))
        found.ours.append(seconds)
        found.crystals.append(crystals)
        last, begin = done, time.process_time()

    def each_step() -> None:
        nonlocal done
        if done in marks[:-1] or (done == steps and not whole):
            take_turns()
        if done == steps:
            raise _Enough
        done += 1

    try:
        found.crystals_reference = generate(
            other, batch, scheme, lambda c, mask: reference.TwoCalls(other, c, mask), each_step=each_step
        )
        take_turns()
    except _Enough:
        pass
    return found


# --- distances --------------------------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """What is found of n candidates, each array of shape (n,).

    :param wanted: number of the target.
    :param distances: of the predicted DOS from the target, NaN where there is no prediction.
    :param composition: whether the formula is that of the crystal that the target belongs to.
    :param sound: whether no two atoms are nearer than ``SOUND_CONTACT``, the limit of the screening.
    """

    wanted: np.ndarray
    distances: np.ndarray
    composition: np.ndarray
    sound: np.ndarray


class Judge:
    """Distances from the targets by the predictor.

    :param crystals: those that the targets belong to.
    """

    def __init__(self, path: Path, crystals: CrystalSet) -> None:
        self.model: Predictor
        self.model, self.header = load_model(path, kind="predictor")
        self.targets, self.compositions = targets_of(crystals), crystals.compositions

    def __call__(self, parts: list[CrystalSet]) -> Judged:
        """Judge candidates, the column ``target`` of which says what they were asked for."""
        crystals = predict(self.model, self.header, CrystalSet.concatenate(parts))
        wanted, dos, offsets = crystals.crystal_columns["target"], crystals.atom_columns["predicted_dos"], crystals.offsets
        found = np.full(len(crystals), np.nan)
        for i, target in enumerate(wanted):
            curves = dos[offsets[i] : offsets[i + 1]]
            if np.isfinite(curves).all():
                found[i] = self.targets[target].distances(curves)["mae"]
        right = np.array([own == self.compositions[i] for own, i in zip(crystals.compositions, wanted, strict=True)])
        return Judged(wanted, found, right, closest_contacts(crystals) > SOUND_CONTACT)


def summary(judged: Judged, worst: float) -> dict[str, Any]:
    """Return mean, best and failures; a candidate without a distance has the worst one.

    :return: ``mean`` over candidates, then targets; ``best`` of each target, over targets; ``of_target``: the means;
        ``composition`` and ``sound``: shares of the candidates.
    """
    wanted, distances = judged.wanted, judged.distances
    values = np.where(np.isfinite(distances), distances, worst)
    groups = [values[wanted == i] for i in np.unique(wanted)]
    return {
        "composition": float(judged.composition.mean()),
        "sound": float(judged.sound.mean()),
        "mean": float(np.mean([g.mean() for g in groups])),
        "best": float(np.mean([g.min() for g in groups])),
        "candidates_per_target": len(groups[0]),
        "failed": int((~np.isfinite(distances)).sum()),
        "of_target": [float(g.mean()) for g in groups],
    }


# --- the run ----------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Report progress."""
    print(f"# {text}", file=sys.stderr, flush=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the result."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    if not given.reference.exists() and not (given.untrained_reference or given.quick):
        say(f"{given.reference} does not exist: training it, which takes hours; it goes on where it was stopped")
        reference.train(given.reference, given.dataset)
    ours, header = load_model(given.checkpoint, kind="denoiser")
    headers = {"denoiser": header}
    whole = given.reference.exists() and not given.untrained_reference
    if whole:
        other, headers["reference"] = load_model(given.reference, kind="denoiser")
        if any(headers["reference"].architecture.get(k) != v for k, v in reference.ARCHITECTURE.items()):
            raise ContentError(f"{given.reference} is not of the architecture of the reference, {reference.ARCHITECTURE}")
    else:
        say("without a trained reference the speed is measured alone; `python benchmarks/reference.py train` makes one")
        other = reference.untrained(ours)
    headers["predictor"] = load_model(given.predictor, kind="predictor")[1]
    crystals = chosen(held_out(given.dataset, headers), given.targets, given.max_atoms)
    targets = targets_of(crystals)
    judge = Judge(given.predictor, crystals)
    parameters = SampleParameters(steps=given.steps, guidance_scale=given.guidance_scale, precision="float32")
    turns = max(1, math.ceil(given.candidates / given.reference_candidates))

    compared = []
    for batch in batches_of(targets, given.reference_candidates, given.seed):
        say(f"{len(batch)} candidates of {batch.n_atoms} atoms, ours {turns} times and the reference")
        compared.append(compare(ours, other, batch, parameters, turns, whole))
    swept: dict[str, tuple[float, list[CrystalSet]]] = {}
    for steps in given.sweep:
        say(f"ours with {steps} steps")
        swept[f"ode, {steps} steps"] = again(ours, [c.batch for c in compared], parameters, turns, steps=steps)
    if not given.quick:
        say("our network with the reference's sampler")
        asked = reference.SAMPLING.model_dump(include={"sampler", "steps", "corrector_steps", "guidance_scale"})
        swept["ours, reference's sampler"] = again(ours, [c.batch for c in compared], parameters, 1, **asked)

    say("distances")
    judged = {"ours": judge([c.crystals[0] for c in compared]), "ours_all": judge([x for c in compared for x in c.crystals])}
    if whole:
        judged["reference"] = judge([c.crystals_reference for c in compared if c.crystals_reference is not None])
    judged |= {name: judge(crystals) for name, (_, crystals) in swept.items()}
    itself = crystals.replace(crystal_columns={"target": np.arange(len(crystals))}, atom_columns={})
    judged["held-out crystals themselves"] = judge([itself])
    worst = float(np.nanmax(np.concatenate([each.distances for each in judged.values()])))
    found = {name: summary(each, worst) for name, each in judged.items()}

    seconds = {
        "ours": sum(statistics.median(c.ours) for c in compared),
        "reference": sum(statistics.median(c.reference) for c in compared),
    }
    count = sum(len(c.batch) for c in compared)
    result: dict[str, Any] = {
        "ratio": seconds["reference"] / seconds["ours"],
        "dos_distance": found["ours"]["mean"],
        "dos_distance_reference": found["reference"]["mean"] if whole else None,
        "dos_distance_best": found["ours"]["best"],
        "dos_distance_reference_best": found["reference"]["best"] if whole else None,
        "dos_distance_all_turns": found["ours_all"]["mean"],
        "dos_distance_of_held_out_crystals": found["held-out crystals themselves"]["mean"],
        "difference": None,
        "difference_standard_error": None,
        "reference_trained": whole,
        "reference_extrapolated": not whole,
        "targets": len(targets),
        "candidates_per_target": given.reference_candidates,
        "failed": found["ours"]["failed"] / count,
        "failed_reference": found["reference"]["failed"] / count if whole else None,
        "worst_distance": worst,
        "composition": found["ours"]["composition"],
        "composition_reference": found["reference"]["composition"] if whole else None,
        "sound": found["ours"]["sound"],
        "sound_reference": found["reference"]["sound"] if whole else None,
        "core_seconds_per_candidate": seconds["ours"] / count,
        "core_seconds_per_candidate_reference": seconds["reference"] / count,
        "turns": turns,
        "seed": given.seed,
        "ours": {**parameters.model_dump(mode="json"), "architecture": header.architecture},
        "reference": {
            **reference.SAMPLING.model_dump(mode="json"),
            "architecture": reference.ARCHITECTURE,
            "network_calls": reference.CALLS,
            "training": reference.TRAINING.model_dump(mode="json"),
        },
        "by_n_atoms": [
            {
                "n_atoms": c.batch.n_atoms,
                "batch": len(c.batch),
                "targets": len(c.batch.targets),
                "ours_core_seconds": statistics.median(c.ours),
                "reference_core_seconds": statistics.median(c.reference),
                "ratio": statistics.median(c.reference) / statistics.median(c.ours),
                "ratio_least": min(c.reference) / max(c.ours),
                "ratio_most": max(c.reference) / min(c.ours),
            }
            for c in compared
        ],
        "sweep": [
            {
                "sampler": name,
                "ratio": seconds["reference"] / core,
                "candidates_per_core_second": count / core,
                **{
                    key: found[name][key] for key in ("mean", "best", "candidates_per_target", "failed", "composition", "sound")
                },
            }
            for name, (core, _) in swept.items()
        ],
    }
    if whole:
        difference = np.subtract(found["ours"]["of_target"], found["reference"]["of_target"])
        result["difference"] = float(difference.mean())
        result["difference_standard_error"] = (
            float(difference.std(ddof=1) / math.sqrt(len(difference))) if len(difference) > 1 else None
        )
    if not given.no_table:
        say("the table of candidates at a time")
        curve = targets[0].total
        sizes: tuple[int, ...] = throughput.SIZES
        at_once: tuple[int, ...] = throughput.AT_ONCE
        precisions: tuple[str, ...] = ("float32", "bfloat16")
        if given.quick:
            sizes, at_once, precisions = (2, 8), (1, 8, 64), ("float32",)
        result["table"] = throughput.table(
            given.checkpoint, curve, parameters, given.device, sizes=sizes, at_once=at_once, precisions=precisions
        )
        result["bounded_memory"] = throughput.bounded_memory(given.checkpoint, curve, parameters, given.device)
    result["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "table_device": torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "aiida-dosmatgen")},
        "checkpoint_sha256": sha256_of(given.checkpoint),
        "reference_sha256": sha256_of(given.reference) if whole else None,
        "predictor_sha256": sha256_of(given.predictor),
        "dataset_sha256": sha256_of(given.dataset),
    }
    result["seconds"] = time.perf_counter() - began
    return result


def again(
    model: Denoiser, batches: list[Batch], parameters: SampleParameters, turns: int, **changes: Any
) -> tuple[float, list[CrystalSet]]:
    """Return the median core-seconds of all batches with other parameters, and the candidates of all turns."""
    changed = parameters.model_copy(update=changes)
    runs = [[timed(model, batch, changed, turn) for turn in range(turns)] for batch in batches]
    return sum(statistics.median(s for s, _ in run) for run in runs), [crystals for run in runs for _, crystals in run]


def report(result: dict[str, Any]) -> None:
    """Print tables for people."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    print("| sampler | candidates per core-second | DOS distance, mean | best | failed | composition | sound |")
    print("|---|---|---|---|---|---|---|")
    keys = ("dos_distance", "failed", "composition", "sound")
    for name, of in (("ours", ""), ("reference", "_reference")):
        distance, *shares = (number(result[f"{key}{of}"]) for key in keys)
        best, rate = number(result[f"dos_distance{of}_best"]), 1 / result[f"core_seconds_per_candidate{of}"]
        print(f"| {name} | {rate:.3g} | {distance} | {best} | {' | '.join(shares)} |")
    for row in result["sweep"]:
        failed = row["failed"] / (row["candidates_per_target"] * result["targets"])
        values = (row["mean"], row["best"], failed, row["composition"], row["sound"])
        print(f"| {row['sampler']} | {row['candidates_per_core_second']:.3g} | {' | '.join(map(number, values))} |")
    print(f"ratio {result['ratio']:.0f}; the predictor's own distance for the held-out crystals", end=" ")
    print(number(result["dos_distance_of_held_out_crystals"]))
    rows = result.get("table", []) + result.get("bounded_memory", [])
    if rows:
        print("\n| precision | atoms | candidates | at a time | candidates a second | memory (MB) | share of matrix rate |")
        print("|---|---|---|---|---|---|---|")
    for row in rows:
        share = row.get("matrix_rate_fraction")
        cells = (row["precision"], row["n_atoms"], row["candidates"], row["batch"], f"{row['candidates_per_second']:.3g}")
        print(f"| {' | '.join(map(str, cells))} | {row['memory_MB']} | {'–' if share is None else f'{share:.0%}'} |")


def rounded(value: Any) -> Any:
    """Return JSON values with four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the result (progress goes to stderr)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller targets, one candidate each; at most 3 minutes")
    parser.add_argument("--reference", type=Path, default=reference.CHECKPOINT)
    parser.add_argument("--untrained-reference", action="store_true", help="measure the speed alone")
    parser.add_argument("--checkpoint", type=Path, default=MODELS / "denoiser.safetensors")
    parser.add_argument("--predictor", type=Path, default=MODELS / "predictor.safetensors")
    parser.add_argument("--dataset", type=Path, default=reference.DATASET)
    parser.add_argument("--targets", type=int, help="held-out crystals")
    parser.add_argument("--max-atoms", type=int, help="of the held-out crystals")
    parser.add_argument("--candidates", type=int, help="ours for each target, over all turns")
    parser.add_argument("--reference-candidates", type=int, help="of both for each target, in each turn")
    parser.add_argument("--steps", type=int, default=SampleParameters().steps, help="of ours")
    parser.add_argument("--guidance-scale", type=float, default=SampleParameters().guidance_scale, help="of ours")
    parser.add_argument("--sweep", type=int, nargs="*", default=SWEEP, help="numbers of steps")
    parser.add_argument("--no-table", action="store_true", help="leave out the table of candidates at a time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of that table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="also write the result here")
    given = parser.parse_args()
    for name, (quick, full) in {
        "targets": (8, 16),
        "max_atoms": (2, 8),
        "candidates": (4, 8),
        "reference_candidates": (1, 2),
    }.items():
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else full)
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    try:
        result = rounded(run(given))
    except ContentError as exception:
        sys.exit(f"{exception}")
    if not given.json:
        report(result)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
