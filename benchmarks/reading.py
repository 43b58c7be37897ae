"""How well files are read that leave something open: ``python benchmarks/reading.py [--json FILE]``, minutes on one core.

Labels of the split ``train`` are written as a table of the total that says its Fermi energy, with and without its broadening.
The first table says how far the valence band maximum and the gap that are read are from those of the calculation. The
second says what ``compare`` does where one of two files does not say its zero, its scale or its broadening: a crystal with
itself has to be refused or recognised; two crystals are refused as well if another reading would bring their curves together.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.curve_files.found import ReadCurves
from aiida_dosmatgen.core.curve_files.likeness import compare_files
from aiida_dosmatgen.core.curve_files.read import read_content
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.shards import load_shards

LABELS = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"
OFFSET = 3.7  # eV, by which the energies of the files are off; any number
ALIKE = 0.02  # states/eV/atom; a comparison that comes out below says that the curves are the same


@dataclasses.dataclass
class Label:
    """A labelled crystal."""

    curves: Curves
    n_atoms: int
    gap: float
    system: str


def labels_of(crystals: CrystalSet) -> list[Label]:
    """Return the labels of the split ``train``."""
    rows = np.flatnonzero(np.asarray(crystals.crystal_columns["split"]) == "train")
    return [
        Label(
            curves_of(crystals, row).summed(sites=True),
            int(crystals.n_atoms[row]),
            float(crystals.crystal_columns["gap"][row]),
            " ".join(map(str, sorted(set(crystals.numbers[crystals.offsets[row] : crystals.offsets[row + 1]])))),
        )
        for row in rows
    ]


def written(label: Label, zero: float | None, sigma: bool, scale: float = 1.0) -> str:
    """Return the text of a file.

    :param zero: Fermi energy in eV above the valence band maximum that it states; None for a file that states none.
    :param sigma: whether it states its broadening.
    :param scale: of all values; a file of another scale does not say of how many atoms it is.
    """
    curves = label.curves
    lines = [f"# Fermi energy: {zero + OFFSET:.4f} eV"] if zero is not None else []
    lines += [f"# sigma: {curves.sigma:g}"] if sigma else []
    lines += ["energy (eV), total"]
    lines += [f"{e + OFFSET:.4f}, {scale * d:.6e}" for e, d in zip(curves.energies, curves.total, strict=True)]
    return "\n".join(lines)


def edges(labels: list[Label]) -> list[dict[str, float | int | str]]:
    """Return what is read of the edges of bands, by kind of crystal."""
    kinds = {
        "metals": lambda gap: gap == 0,
        "gap up to 0.6 eV": lambda gap: 0 < gap <= 0.6,
        "gap of 0.6 to 1.5 eV": lambda gap: 0.6 < gap <= 1.5,
        "gap above 1.5 eV": lambda gap: gap > 1.5,
    }
    rows = []
    for kind, belongs in kinds.items():
        these = [label for label in labels if belongs(label.gap)]
        for sigma in (True, False) if these else ():
            zeros, gaps, found = [], [], 0
            for label in these:
                read = read_content(written(label, label.gap / 2, sigma)).curves
                found += read.zero == "vbm"
                zeros.append(abs(_zero(label, read)))
                if read.zero == "vbm" and read.gap is not None:
                    gaps.append(abs(read.gap - label.gap))
            rows.append(
                {
                    "crystals": kind,
                    "broadening": "stated" if sigma else "not stated",
                    "number": len(these),
                    "with_gap": found,
                    "zero_off_median": round(float(np.median(zeros)), 3),
                    "zero_off_p90": round(float(np.quantile(zeros, 0.9)), 3),
                    "gap_off_median": round(float(np.median(gaps)), 3) if gaps else None,
                }
            )
    return rows


def _zero(label: Label, read: Curves) -> float:
    """Return how far the zero of what was read is above that of the label in eV."""
    return float(label.curves.energies[0] - read.energies[0])


def comparisons(labels: list[Label], count: int, seed: int) -> list[dict[str, float | int | str]]:
    """Return what becomes of comparisons of crystals with themselves and with others.

    :param count: crystals, and pairs of each kind.
    """
    rng = np.random.default_rng(seed)
    chosen = [labels[k] for k in rng.permutation(len(labels))[:count]]
    random = [(chosen[k], chosen[k - 1]) for k in range(len(chosen))]
    systems = Counter(label.system for label in labels)
    family = [label for label in labels if systems[label.system] > 1]
    pairs = [(a, b) for k, a in enumerate(family) for b in family[k + 1 :] if a.system == b.system]
    related = [pairs[k] for k in rng.permutation(len(pairs))[:count]]
    opens = {
        "zero": lambda label: written(label, None, True),
        "scale": lambda label: written(label, label.gap / 2, True, 0.43),
        "zero and scale": lambda label: written(label, None, True, 0.43),
        "broadening": lambda label: written(label, label.gap / 2, False),
    }
    rows = []
    for what, write in opens.items():
        for kind, them in (("itself", [(a, a) for a in chosen]), ("another", random), ("another of its system", related)):
            outcomes = Counter(_outcome(write(a), b, None if "scale" in what else a.n_atoms) for a, b in them)
            rows.append({"open": what, "compared_with": kind, "number": len(them), **outcomes})
    return rows


def _outcome(content: str, other: Label, n_atoms: int | None) -> str:
    try:
        distance, _ = compare_files(_read(content, n_atoms), _read(written(other, other.gap / 2, True), other.n_atoms))
    except ContentError:
        return "refused"
    return "alike" if distance.mae_total < ALIKE else "distance"


def _read(content: str, n_atoms: int | None) -> ReadCurves:
    read = read_content(content)
    unknown = read.unknown | {"scale"} if n_atoms is None else read.unknown
    return dataclasses.replace(read, n_atoms=n_atoms or 1, unknown=unknown)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150, help="crystals, and pairs of each kind, that are compared")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    labels = labels_of(load_shards(LABELS))
    tables = {"edges": edges(labels)}
    _show(tables["edges"])
    tables["comparisons"] = comparisons(labels, options.count, options.seed)
    _show(tables["comparisons"])
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1) + "\n")


def _show(rows: list[dict[str, float | int | str]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "")) for name in names) + " |", flush=True)


if __name__ == "__main__":
    main()
