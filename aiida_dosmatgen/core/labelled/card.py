"""The data card of a set of shards: whose the crystals are, how they were labelled, and what is in the set, by counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..curve_columns import on_energies
from ..dos import DEFAULT_GRID, DEFAULT_SIGMA
from ..elements import SYMBOLS
from .leak import leak
from .splits import SPLIT_NAMES, systems_of

SOURCES: dict[str, tuple[str, str]] = {
    "mp": ("Materials Project", "CC-BY-4.0"),
    "mp-phonons": ("Materials Project, by matbench_phonons", "CC-BY-4.0, MIT"),
    "oqmd": ("OQMD", "CC-BY-4.0"),
    "alexandria": ("Alexandria", "CC-BY-4.0"),
    "jarvis": ("JARVIS-DFT, NIST", "free"),
    "elements": ("ground states of the elements, tabulated in this package", "MIT"),
    "aflow": ("prototypes of the AFLOW library as pymatgen carries them, with other elements", "MIT"),
}
"""What each value of the column ``source`` stands for, and its licence."""

MAGNETIC = 0.2
"""μB of the cell, as a sum of absolute values, above which a crystal counts as magnetic."""


def data_card(crystals: CrystalSet, manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the card of a set of shards.

    :param crystals: of all shards, as :func:`.shards.load_shards` returns them.
    :param manifest: of the folder.
    """
    columns = crystals.crystal_columns
    kinds = columns.get("kind", np.full(len(crystals), "real"))
    absolute = np.abs(columns["magnetization"][:, 1])
    sizes = {shard["file"]: (folder / shard["file"]).stat().st_size for shard in manifest["shards"]}
    recipe = manifest.get("settings", {}).get("recipe", {})
    return {
        "n_crystals": len(crystals),
        "n_atoms": int(crystals.n_atoms.sum()),
        "bytes": sum(sizes.values()),
        "shards": {
            shard["file"]: {"sha256": shard["sha256"], "n_crystals": shard["n_crystals"], "bytes": sizes[shard["file"]]}
            for shard in manifest["shards"]
        },
        "sources": {
            name: {"crystals": count, "what": SOURCES[name][0], "licence": SOURCES[name][1]}
            for name, count in Counter(_texts(columns["source"])).most_common()
        },
        "kinds": dict(Counter(_texts(kinds)).most_common()),
        "codes": manifest.get("codes", {}),
        "recipe": recipe,
        "pseudopotentials": "PseudoDojo 0.4 PBE standard, scalar relativistic; their sha256 are in the manifest",
        "failures": manifest.get("failures", {}),
        "elements": _elements(crystals),
        "sizes": {str(n): count for n, count in sorted(Counter(crystals.n_atoms.tolist()).items())},
        "gap": {
            "metals": int((columns["gap"] == 0).sum()),
            "with_a_gap": int((columns["gap"] > 0).sum()),
            "percentiles": _percentiles(columns["gap"][columns["gap"] > 0]),
        },
        "moment": {
            "magnetic": int((absolute > MAGNETIC).sum()),
            "percentiles_per_atom": _percentiles((absolute / crystals.n_atoms)[absolute > MAGNETIC]),
        },
        "fallbacks": {str(n): count for n, count in sorted(Counter(columns["fallback"].tolist()).items())},
        "charge_lost_in_projection": _percentiles(1 - columns["projected"]),
        "known_up_to": _percentiles(columns["high"]),
        "seconds": {"sum": float(columns["seconds"].sum()), "median": float(np.median(columns["seconds"]))},
        "prototypes": {
            "different": len(set(_texts(columns["prototype"]))),
            "commonest": dict(Counter(_texts(columns["prototype"])).most_common(10)),
        },
        "systems": len(set(systems_of(crystals))),
        "splits": splits_table(crystals, manifest),
        "leak": leak_of_shards(crystals),
        "rounding": rounding(crystals),
    }


def splits_table(crystals: CrystalSet, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each split has: crystals, real crystals alone, systems, prototypes."""
    columns, systems = crystals.crystal_columns, np.array(systems_of(crystals))
    real = columns.get("kind", np.full(len(crystals), "real")) == "real"
    table = {}
    for name in SPLIT_NAMES:
        chosen = columns["split"] == name
        table[name] = {
            "crystals": int(chosen.sum()),
            "real": int((chosen & real).sum()),
            "systems": len(set(systems[chosen].tolist())),
            "prototypes": len(set(_texts(columns["prototype"][chosen]))),
        }
    return {"rule": manifest.get("splits", {}), "table": table}


def leak_of_shards(crystals: CrystalSet) -> dict[str, dict]:
    """Return how near the crystals kept for tests are to those learnt from (:func:`.leak.leak`), on the energies of models."""
    return leak(on_energies(crystals, DEFAULT_GRID, DEFAULT_SIGMA), anonymous=False)


def rounding(crystals: CrystalSet) -> dict[str, Any]:
    """Return the most by which half precision can have changed the curves.

    A stored value lies within half of the distance to the next number of its precision from what was computed. Summed over the
    spins and channels of each site, that is a bound for its curve.

    :return: mean and largest bound in states/eV for a site, and the largest for the number of electrons of a crystal.
    """
    dos, spacing = crystals.atom_columns["dos"], float(_spacing(crystals))
    largest, total, count, electrons = 0.0, 0.0, 0, np.zeros(len(crystals))
    for row, (first, last) in enumerate(itertools.pairwise(crystals.offsets.tolist())):
        bound = np.spacing(np.abs(dos[first:last])).astype(np.float64) / 2
        sites = bound.reshape(last - first, -1, bound.shape[-1]).sum(1)
        largest, total, count = max(largest, float(sites.max())), total + float(sites.sum()), count + sites.size
        electrons[row] = sites.sum() * spacing
    return {
        "precision": str(dos.dtype),
        "mean_bound": total / max(count, 1),
        "largest_bound": largest,
        "largest_value": float(dos.max()),
        "largest_bound_of_electrons": float(electrons.max()),
    }


def _spacing(crystals: CrystalSet) -> float:
    columns = crystals.crystal_columns
    return (columns["dos_high"][0] - columns["dos_low"][0]) / (crystals.atom_columns["dos"].shape[-1] - 1)


def _elements(crystals: CrystalSet) -> dict[str, int]:
    """Return in how many crystals each element is, by atomic number."""
    held = Counter(z for a, b in itertools.pairwise(crystals.offsets.tolist()) for z in set(crystals.numbers[a:b].tolist()))
    return {SYMBOLS[z]: held[z] for z in sorted(held)}


def _percentiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return dict(zip(("min", "median", "max"), np.round(np.percentile(values, [0, 50, 100]), 4).tolist(), strict=True))


def _texts(column: np.ndarray) -> list[str]:
    return [str(value).strip() for value in column.tolist()]
