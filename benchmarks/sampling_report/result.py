"""The run: all that is measured, as one JSON object."""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import reference
import throughput
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters, sha256_of
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.training.dataset import hash_of

from .comparison import again, compare
from .distances import Surrogate, summary
from .tables import say
from .targets import batches_of, chosen, held_out, targets_of


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the result."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    if not given.reference.exists() and not (given.untrained_reference or given.quick):
        say(f"{given.reference} does not exist: training it, which takes hours; it continues where it was stopped")
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
    crystals = chosen(held_out(given.dataset, headers), given.targets, given.max_atoms)
    targets = targets_of(crystals)
    surrogate = Surrogate(given.predictor, crystals)
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
    evaluated = {
        "ours": surrogate([c.crystals[0] for c in compared]),
        "ours_all": surrogate([x for c in compared for x in c.crystals]),
    }
    if whole:
        evaluated["reference"] = surrogate([c.crystals_reference for c in compared if c.crystals_reference is not None])
    evaluated |= {name: surrogate(crystals) for name, (_, crystals) in swept.items()}
    itself = crystals.replace(crystal_columns={"target": np.arange(len(crystals))}, atom_columns={})
    evaluated["held-out crystals themselves"] = surrogate([itself])
    worst = float(np.nanmax(np.concatenate([each.distances for each in evaluated.values()])))
    found = {name: summary(each, worst) for name, each in evaluated.items()}

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
        "valid": found["ours"]["valid"],
        "valid_reference": found["reference"]["valid"] if whole else None,
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
                    key: found[name][key] for key in ("mean", "best", "candidates_per_target", "failed", "composition", "valid")
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
        "dataset_sha256": hash_of(given.dataset, "data set"),
    }
    result["seconds"] = time.perf_counter() - began
    return result
