"""A small loop that learns, and what the tests that disturb one share."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import systems_of
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.learn import LearnWorkChain

from .campaigns import N_CANDIDATES, TARGET, TARGET_NAME, overrides, what_failed
from .shards import SHARDS

SETTINGS = {"budget": 4, "max_rounds": 2, "top_k": 1, "repeats": 1, "rehearsal": 5.0, "patience": 2}


def known_crystals() -> CrystalSet:
    """Return small crystals of the shards, those of the target's system left out: some to learn from, 8 kept for tests."""
    labels = load_shards(SHARDS)
    systems = np.array(systems_of(labels))
    small, split = (labels.n_atoms <= 2) & (systems != "C-Si"), labels.crystal_columns["split"]
    elements = small & np.isin(systems, ["C", "Si"]) & (split == "train")
    learnt = np.flatnonzero(small & (split == "train") & ~elements)[::4][:30]
    held_out = np.flatnonzero(small & (split == "test-system"))[:8]
    return labels[np.sort(np.concatenate([learnt, np.flatnonzero(elements)[:10], held_out]))]


def builder_of(parts: dict[str, Any], **settings: Any) -> ProcessBuilder:
    """Return a loop of two rounds, a candidate each, and a second run of it.

    :param parts: codes and models, as ``campaigns.prepare`` returns them.
    """
    quick = {"parameters": {"epochs": 1}}
    return LearnWorkChain.get_builder_from_protocol(
        **parts,
        targets={TARGET_NAME: DosTargetData.from_file(TARGET)},
        dataset=LabelledCrystalSetData(known_crystals()).store(),
        protocol="fast",
        overrides={"campaign": overrides(25), "train_denoiser": quick, "train_predictor": quick},
        options={"threads": 1},
        dft_options={"withmpi": False},
        n_candidates=N_CANDIDATES,
        settings={**SETTINGS, **settings},
    )


def ids_of(dataset: orm.Node) -> list[str]:
    """Return the ids of the crystals of a set that a loop has found."""
    columns = dataset.crystals.crystal_columns
    return columns["id"][columns["source"] == "campaign"].tolist()


def compare(loop: orm.WorkChainNode, reference: orm.WorkChainNode) -> tuple[str | None, str | None]:
    """Return what a loop lost against an undisturbed one, and what is wrong with it, or None and None."""
    if not loop.is_finished_ok:
        return f"it did not end well: {what_failed(loop)}", None
    ours, theirs = ([one.get_dict() for _, one in sorted(node.outputs.rounds.items())] for node in (loop, reference))
    if len(ours) != len(theirs):
        return f"{len(ours)} rounds, the undisturbed one has {len(theirs)}", None
    for one, other in zip(ours, theirs, strict=True):
        if (one["computed"], one["entered"]) != (other["computed"], other["entered"]) or one["failures"]:
            said = {name: (one[name], other[name]) for name in ("computed", "entered", "failures")}
            return f"round {one['number']}: {said}", None
    found = ids_of(loop.outputs.dataset)
    if len(set(found)) != len(found):
        return None, f"learnt twice: {found}"
    if sorted(loop.outputs.dataset.crystals.formulas) != sorted(reference.outputs.dataset.crystals.formulas):
        return None, "other crystals entered"
    return None, None
