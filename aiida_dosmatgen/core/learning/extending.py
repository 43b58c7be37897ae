"""What entered joins the training set, in the form that the set has; and what a round trains on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..curve_columns import curves_of, meaning_of, with_curves
from ..dos import DEFAULT_SIGMA, EnergyGrid
from ..errors import ContentError
from ..labelled.splits import systems_of, without_test

FOUND = "campaign"
"""The ``source`` of crystals that a loop found; their ``id`` is the hash of their structure."""


def extended(
    dataset: CrystalSet, grid: EnergyGrid, entries: Mapping[str, CrystalSet], passages: Mapping[str, Mapping[str, Any]]
) -> CrystalSet:
    """Return a labelled set with what entered at its end.

    Curves are brought to the energies, the broadening, the resolution and the meaning of the set's. Columns that a DFT result
    does not have, such as stresses, are left out of the whole set. Each crystal has a ``source`` and an ``id``; those that
    entered have the split ``train``, if the set is split, and the kind ``found`` or ``off-equilibrium``.

    :param grid: the energies of the set's curves.
    :param entries: one crystal each, as :func:`.gate.check_results` took them.
    :param passages: what the gate said of them, by the same names.
    :raises ContentError: if one did not pass the gate, or its curves cannot be brought to those of the set.
    """
    if not entries:
        raise ContentError("nothing entered, so there is nothing to add")
    refused = [name for name in sorted(entries) if not passages.get(name, {}).get("entered")]
    if refused:
        raise ContentError(f"{refused[0]} did not pass the gate")
    n, columns = len(dataset), dataset.crystal_columns
    given = {"source": columns.get("source", np.full(n, "given")), "id": columns.get("id", np.arange(n).astype(str))}
    given["low"] = columns.get("low", np.full(n, -math.inf))
    if "kind" not in columns:
        given["kind"] = np.full(n, "given")
    base = dataset.with_columns(crystal=given)
    return CrystalSet.concatenate([base, *(_in_form(entries[k], dataset, grid, passages[k]) for k in sorted(entries))])


def rehearsed(dataset: CrystalSet, share: float, seed: int) -> CrystalSet:
    """Return what a round trains on: the crystals that loops found, and a sample of all others.

    Crystals kept for tests are left out; crystals of one element are always there, for they anchor the energies.

    :param share: how many other crystals for each that was found.
    :raises ContentError: if no crystal was found by a loop.
    """
    crystals, _ = without_test(dataset)
    source = crystals.crystal_columns.get("source", np.full(len(crystals), ""))
    found = source == FOUND
    if not found.any():
        raise ContentError("no crystal of the set was found by a loop, so there is nothing to learn")
    elements = np.array(["-" not in system for system in systems_of(crystals)])
    others = np.flatnonzero(~found & ~elements)
    wanted = min(len(others), round(share * int(found.sum())))
    sample = np.random.default_rng(seed).choice(others, wanted, replace=False)
    chosen = found | elements
    chosen[sample] = True
    return crystals[np.flatnonzero(chosen)]


def _in_form(entry: CrystalSet, dataset: CrystalSet, grid: EnergyGrid, passage: Mapping[str, Any]) -> CrystalSet:
    """Return a DFT result with its curves as the set has them."""
    resolved = dataset.atom_columns["dos"].ndim == 4
    sigma = float(dataset.crystal_columns["sigma"][0]) if "sigma" in dataset.crystal_columns else DEFAULT_SIGMA
    meaning = meaning_of(dataset)
    column = "dos" if meaning == "partition" else meaning
    curves = curves_of(entry, column=column).broadened(sigma).on(grid.points)
    if not resolved:
        curves = curves.summed()
    plain = CrystalSet(entry.n_atoms, entry.numbers, np.mod(entry.fractional, 1.0), entry.lattices)
    plain = plain.with_columns(
        crystal={name: v for name, v in entry.crystal_columns.items() if name not in ("dos_low", "dos_high")},
        atom={name: v for name, v in entry.atom_columns.items() if name not in ("dos", "projections")},
    )
    formed = with_curves(plain, curves, dtype=dataset.atom_columns["dos"].dtype.type)
    if resolved != (formed.atom_columns["dos"].ndim == 4):
        raise ContentError("its curves are not resolved by spin and channel as those of the set are")
    one = {
        "source": FOUND,
        "id": str(passage["hash"]),
        "kind": "off-equilibrium" if passage.get("off_equilibrium") else "found",
        "prototype": "generated",
        "split": "train",
        "status": "ok",
        "complete_below": curves.high,
    }
    columns = {name: np.array([value]) for name, value in one.items()}
    if "projections" in dataset.atom_columns:
        sums = curves_of(entry, column="projections").summed().broadened(sigma).on(grid.points).sites
        formed = formed.with_columns(atom={"projections": sums.astype(dataset.atom_columns["projections"].dtype)})
    return formed.with_columns(crystal=columns)
