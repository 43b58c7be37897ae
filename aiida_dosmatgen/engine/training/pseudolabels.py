"""Crystals with predicted densities of states, for a denoiser to learn from.

Labels by DFT are few, and a denoiser that has seen an element in a dozen surroundings does not know it in others. A predictor
with tight binding below it carries over to chemistry without labels, so its curves of many new crystals teach the
denoiser what an element looks like elsewhere (self-training; Xie, Luong, Hovy & Le, arXiv:1911.04252, for classifiers).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ...core.contacts import closest_contacts
from ...core.crystals import CrystalSet
from ...core.job import Splits
from ...core.labelled.splits import assign, systems_of
from ...core.screening import ScreenCriteria

LABELLED_SHARE = 0.2
"""Labelled crystals are repeated until they are about this share of what is trained on."""

_LIMITS = ScreenCriteria()


def valid(crystals: CrystalSet) -> np.ndarray:
    """Tell which crystals the screening would take for crystals, shape (N,) bool."""
    per_atom = crystals.volumes / crystals.n_atoms
    with np.errstate(invalid="ignore"):
        inside = (per_atom >= _LIMITS.min_volume_per_atom) & (per_atom <= _LIMITS.max_volume_per_atom)
        return inside & (closest_contacts(crystals) >= _LIMITS.min_contact)


def thinned(crystals: CrystalSet, most_of_system: int, split: Splits | None) -> CrystalSet:
    """Leave out what is kept for tests, and what a chemical system has too much of.

    :param split: None keeps nothing for tests.
    """
    if split is not None:
        crystals = crystals[np.flatnonzero(assign(crystals, **split.model_dump()) == "train")]
    seen: Counter[str] = Counter()
    kept = []
    for index, system in enumerate(systems_of(crystals)):
        seen[system] += 1
        if seen[system] <= most_of_system:
            kept.append(index)
    return crystals[kept]


def most_certain(crystals: CrystalSet, left_out: float) -> CrystalSet:
    """Return the crystals that have a prediction, without the share of the least certain ones."""
    uncertainty = crystals.crystal_columns["predicted_dos_uncertainty"]
    there = np.flatnonzero(np.isfinite(crystals.crystal_columns["predicted_formation_energy"]))
    order = there[np.argsort(uncertainty[there], kind="stable")]  # NaN last: a predictor of one member says nothing
    return crystals[np.sort(order[: len(order) - int(left_out * len(order))])]


def joined(labelled: CrystalSet, pseudolabelled: CrystalSet, held_out: CrystalSet, seed: int) -> CrystalSet:
    """Return what a denoiser is trained on: labelled crystals, repeated, and those with predicted curves.

    Chemical systems that are held out are left out of the latter, too. A predicted curve is said to be known as far as
    some labelled one is, as the network is told of it, and no farther than it was predicted.

    :param labelled: with the columns ``dos`` and ``complete_below``.
    :param pseudolabelled: with the column ``dos``.
    """
    systems = np.array(systems_of(pseudolabelled))
    kept = pseudolabelled[np.flatnonzero(~np.isin(systems, sorted(set(systems_of(held_out)))))]
    rng = np.random.default_rng([seed, len(kept)])
    chosen = rng.choice(len(labelled), len(kept))
    highs = labelled.crystal_columns["complete_below"]
    lows = labelled.crystal_columns.get("low", np.full(len(labelled), -np.inf))
    from_, to = kept.crystal_columns.get("low"), kept.crystal_columns.get("complete_below")
    low = lows[chosen] if from_ is None else np.maximum(lows[chosen], from_)
    high = highs[chosen] if to is None else np.minimum(highs[chosen], to)
    repeats = max(1, round(LABELLED_SHARE / (1 - LABELLED_SHARE) * len(kept) / len(labelled)))

    shapes = {some.atom_columns["channels"].shape[1:] for some in (labelled, kept) if "channels" in some.atom_columns}

    def bare(crystals: CrystalSet, low: np.ndarray, high: np.ndarray) -> CrystalSet:
        columns = {"dos": crystals.atom_columns["dos"]}
        for shape in shapes:  # one, or none; NaN says that an atom has no channels
            without = np.full((len(crystals.numbers), *shape), np.nan, dtype=np.float32)
            columns["channels"] = crystals.atom_columns.get("channels", without)
        return crystals.replace(crystal_columns={"low": low, "complete_below": high}, atom_columns=columns)

    own = bare(labelled, lows, highs)
    return CrystalSet.concatenate([own] * repeats + [bare(kept, low, high)])
