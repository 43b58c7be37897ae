"""Write the data card of the labelled crystals, their page and its plots from the shards: ``python docs/make_labels_page.py``.

First it adds to the manifest what shards of before lack: prototypes, splits, codes, reasons of failures. No shard is written.
Run it after a shard was added.

    python docs/make_labels_page.py --crystals crystals.npz --records labels/records
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from aiida_dosmatgen import __version__
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.former_names import current_card
from aiida_dosmatgen.core.job import Splits
from aiida_dosmatgen.core.labelled.card import data_card
from aiida_dosmatgen.core.labelled.shards import complete_manifest, load_shards, read_manifest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "datasets" / "pseudodojo-pbe"
CARD = "data_card.json"
PAGE = ROOT / "docs" / "labels.md"
TWIN = ROOT / "benchmarks" / "results" / "twin.json"
IMAGES = ROOT / "docs" / "images"
SPLITS = Splits(system_fraction=0.1, prototype_fraction=0.08, final_fraction=0.1, seed=0)

ROWS = (  # of the periodic table, with the column of the first element of each part
    (("H", 0), ("He", 17)),
    (("Li Be", 0), ("B C N O F Ne", 12)),
    (("Na Mg", 0), ("Al Si P S Cl Ar", 12)),
    (("K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr", 0),),
    (("Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe", 0),),
    (("Cs Ba La", 0), ("Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn", 3)),
)


TEMPLATE = """# Labelled crystals over the periodic table

Written by `python docs/make_labels_page.py` from the shards in
[datasets/pseudodojo-pbe](../datasets/pseudodojo-pbe/README.md); the tests compare it with the [data
card](../datasets/pseudodojo-pbe/data_card.json). The set grows: labels come as new shards, and no shard is written
again. How a label is computed is in [the DFT behind it](explanation/dft.md). The wheel does not carry the set.

**{n:,} crystals** of {n_elements} elements and {systems:,} chemical systems: {n_atoms:,} atoms, {megabytes:.1f} MB in
{n_shards} shards. Real crystals, unmodified: {real:,} ({real_share:.0%}). With 9 to 20 atoms: {large:,}. Magnetic (more
than 0.2 μB in the cell): {magnetic:,}. With a gap: {with_a_gap:,}. Crystals with the rarest element: {rarest}; with the
median element: {median}.

![How many crystals hold each element](images/labels-elements.png)

![Sizes, gaps, moments and splits](images/labels-counts.png)

## Sources

Structures are others', and the labels are this project's own. The columns `source` and `id` name the entry of each
crystal.

| `source` | what | licence | crystals |
|---|---|---|---|
{sources}

| `kind` | crystals |
|---|---|
{kinds}

## Settings

Computed by {codes}, in {hours:.0f} core hours (median {seconds:.0f} s a crystal). Pseudopotentials: {pseudopotentials}.

| setting | |
|---|---|
{recipe}

The projectors miss {lost_median:.1%} of the occupied states in the median and {lost_max:.0%} at most; sites are scaled
to the total. Curves are known up to {high:.1f} eV at least. Crystals that converged only in another way than the first:
{fallbacks:,}.

## Failures

Crystals that were tried and have no label: {failed:,} ({failed_share:.1%}).

{failures}
## What is held out

The manifest says what is kept for tests, and loading the shards adds the column `split`, so that no training sees it. A
hash of the name of a chemical system, or of a [prototype](../aiida_dosmatgen/core/labelled/prototypes.py), decides:
adding a shard moves no crystal from one split to another. Elements are never held out. A displaced crystal has the
prototype of the crystal that it was made from. Of the systems {final:.0%} are `test-final` and {system:.0%}
`test-system`; {prototype:.0%} of the prototypes are `test-prototype` (seed {seed}).

**Nothing is ever chosen by `test-final`**: no epoch, no width, no setting. It is looked at for the figures that are
reported; the other two are for models while they are made. Real crystals alone are a split of their own in each of
them, by the column `kind`: `chosen(crystals, ["test-final"], ["real"])` of
[splits.py](../aiida_dosmatgen/core/labelled/splits.py), or `select_labelled` in AiiDA.

| `split` | crystals | real alone | systems | prototypes |
|---|---|---|---|---|
{splits}

How near they are to what is learnt from. *Same structure*: pymatgen's `StructureMatcher` finds an equal of the same
composition. *Nearest curve*: √(mean square) of the difference of mean curves per atom, in states/eV/atom; *alike* is
the share below 0.05.

| `split` | system in training | prototype in training | same structure | nearest curve, median (5th percentile) | alike |
|---|---|---|---|---|---|
{leak}

The set has {n_prototypes:,} prototypes. Chemical systems that are reserved for an examination from outside never enter:
`reserved.txt` holds their digests, `add_shard` refuses them, and a test checks every shard.

## Precision

Curves are stored as {precision}. That changes a site's curve by {bound:.1e} states/eV on average and by
{largest_bound:.1e} at most, and the electrons of a crystal by {electrons:.2g} at most: bounds from the stored values,
the largest of which is {largest_value:.0f} states/eV. The recipe's mesh of k-points leaves 0.014
([figures](explanation/dft.md)). Labels computed in double precision and rounded, of Be₂C, AlPd and H₂, differ by 3e-05
states/eV on average and by 9e-04 at most, their electrons by 1e-04; single precision would give 1e-07
(`python benchmarks/half_precision.py --pseudos pseudodojo`).

## Twin

The `label` work chain computes the same labels with provenance. Of {twin_n} crystals drawn at random{twin_among}, it gave
the energies of the shards within {twin_energy:.0e} meV/atom, the zero of energy within {twin_zero:.0e} eV, and curves that
differ by {twin_dos:.1e} states/eV at most before they are rounded, {twin_rounded:.1g} after
(`python benchmarks/twin.py --count 50 -o benchmarks/results/twin.json`).

## Use

```bash
aiida-dosmatgen dataset import datasets/pseudodojo-pbe --label labels
dosmatgen import datasets/pseudodojo-pbe -o labelled.npz
```
"""


def page(card: dict[str, Any]) -> str:
    """Return the page that a card makes."""
    counts = sorted(card["elements"].values())
    rule, rounding = card["splits"]["rule"], card["rounding"]
    failed = sum(card["failures"].values())
    twin = json.loads(TWIN.read_text(encoding="utf-8"))
    failures = ["| reason | crystals |", "|---|---|", *_rows(card["failures"]), ""] if failed else []
    return TEMPLATE.format(
        n=card["n_crystals"],
        n_elements=len(counts),
        systems=card["systems"],
        n_atoms=card["n_atoms"],
        megabytes=card["bytes"] / 1e6,
        n_shards=len(card["shards"]),
        real=card["kinds"].get("real", 0),
        real_share=card["kinds"].get("real", 0) / card["n_crystals"],
        large=sum(count for n, count in card["sizes"].items() if 9 <= int(n) <= 20),
        magnetic=card["moment"]["magnetic"],
        with_a_gap=card["gap"]["with_a_gap"],
        rarest=counts[0],
        median=counts[len(counts) // 2],
        sources="\n".join(
            f"| `{name}` | {row['what']} | {row['licence']} | {row['crystals']:,} |" for name, row in card["sources"].items()
        ),
        kinds="\n".join(_rows(card["kinds"])),
        codes=", ".join(f"{name} {version}" for name, version in card["codes"].items()),
        hours=card["seconds"]["sum"] / 3600,
        seconds=card["seconds"]["median"],
        pseudopotentials=card["pseudopotentials"],
        recipe="\n".join(f"| `{name}` | {_value(v)} |" for name, v in card["recipe"].items() if v not in ({}, [], None)),
        lost_median=card["charge_lost_in_projection"]["median"],
        lost_max=card["charge_lost_in_projection"]["max"],
        high=card["known_up_to"]["min"],
        fallbacks=sum(count for number, count in current_card(card)["fallbacks"].items() if number != "0"),
        failed=failed,
        failed_share=failed / (failed + card["n_crystals"]),
        failures="\n".join([*failures, ""]) if failures else "",
        final=rule["final_fraction"],
        system=rule["system_fraction"],
        prototype=rule["prototype_fraction"],
        seed=rule["seed"],
        splits="\n".join(
            f"| `{name}` | {row['crystals']:,} | {row['real']:,} | {row['systems']:,} | {row['prototypes']:,} |"
            for name, row in card["splits"]["table"].items()
        ),
        leak="\n".join(_leak_rows(card["leak"])),
        n_prototypes=card["prototypes"]["different"],
        precision=rounding["precision"],
        bound=rounding["mean_bound"],
        largest_bound=rounding["largest_bound"],
        electrons=rounding["largest_bound_of_electrons"],
        largest_value=rounding["largest_value"],
        twin_n=twin["compared"],
        twin_among=f" among those labelled in {twin['most_seconds']:.0f} s" if twin["most_seconds"] else "",
        twin_energy=twin["largest"]["energy_meV_per_atom"],
        twin_zero=twin["largest"]["zero_eV"],
        twin_dos=twin["largest"]["dos_largest"],
        twin_rounded=twin["largest"]["rounded_largest"],
    )


def _rows(counts: dict[str, int]) -> list[str]:
    return [f"| {name} | {count:,} |" for name, count in counts.items()]


def _leak_rows(leak: dict[str, dict[str, Any]]) -> list[str]:
    rows = []
    for name, row in leak.items():
        counts = (row[key] for key in ("system_in_training", "prototype_in_training", "same_structure"))
        shares = " | ".join(f"{count:,} of {row['n_crystals']:,}" for count in counts)
        nearest = row["nearest_curve"]
        rows.append(f"| `{name}` | {shares} | {nearest['median']:.2f} ({nearest['percentile_5']:.2f}) | {row['alike']:.0%} |")
    return rows


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def draw(crystals: CrystalSet, card: dict[str, Any]) -> None:
    """Draw the plots of the page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    with plt.rc_context(style):
        for name, figure in (("elements", _table(plt, card["elements"])), ("counts", _counts(plt, crystals))):
            figure.savefig(IMAGES / f"labels-{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
            plt.close(figure)


def _table(plt: Any, elements: dict[str, int]) -> Any:
    figure, axes = plt.subplots(figsize=(9, 3.4))
    colours = plt.get_cmap("YlGnBu")
    largest = np.log(max(elements.values()))
    for row, parts in enumerate(ROWS):
        for symbols, first in parts:
            for column, symbol in enumerate(symbols.split(), first):
                count = elements.get(symbol, 0)
                shade = 0.1 + 0.8 * np.log(count) / largest if count else None
                face = "#f4f4f4" if shade is None else colours(shade)
                axes.add_patch(plt.Rectangle((column, -row), 0.95, 0.95, facecolor=face, edgecolor="none"))
                ink = "#999999" if not count else "white" if shade > 0.55 else "black"
                axes.text(column + 0.47, -row + 0.6, symbol, ha="center", va="center", color=ink, fontsize=9)
                axes.text(column + 0.47, -row + 0.22, count or "", ha="center", va="center", color=ink, fontsize=6)
    axes.set(xlim=(0, 18), ylim=(-5.1, 1), aspect="equal")
    axes.axis("off")
    return figure


def _counts(plt: Any, crystals: CrystalSet) -> Any:
    columns, blue = crystals.crystal_columns, "#2b5c8a"
    figure, ((size, gap), (moment, split)) = plt.subplots(2, 2, figsize=(9, 5))
    size.hist(crystals.n_atoms, np.arange(0.5, 21.5), color=blue)
    size.set(xlabel="atoms of the cell", ylabel="crystals")
    gap.hist(columns["gap"][columns["gap"] > 0], np.arange(0, 10.1, 0.25), color=blue)
    gap.set(xlabel="gap (eV), of those that have one", ylabel="crystals")
    absolute = np.abs(columns["magnetization"][:, 1]) / crystals.n_atoms
    moment.hist(absolute[absolute > 0.01], np.arange(0, 3.1, 0.1), color=blue)
    moment.set(xlabel="absolute moment (μB/atom), above 0.01", ylabel="crystals")
    names = ["train", "test-system", "test-prototype", "test-final"]
    real = columns.get("kind", np.full(len(crystals), "real")) == "real"
    for offset, chosen, colour, label in ((-0.2, real, blue, "real"), (0.2, ~real, "#c8702a", "others")):
        counts = [int((chosen & (columns["split"] == name)).sum()) for name in names]
        split.bar(np.arange(4) + offset, counts, 0.38, color=colour, label=label)
    split.set(xticks=range(4), xticklabels=names, ylabel="crystals")
    split.legend()
    figure.tight_layout()
    return figure


def failures_of(records: Path) -> dict[str, int]:
    """Return how often each reason occurs among the records of a labelling, the commonest first."""
    statuses: Counter[str] = Counter()
    for path in sorted(records.glob("*.npz")):
        statuses[str(CrystalSet.load(path).crystal_columns["status"][0])] += 1
    return {reason: count for reason, count in statuses.most_common() if reason != "ok"}


def codes() -> dict[str, str]:
    """Return the version of pw.x, as it says itself, and that of this package."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            said = subprocess.run(["pw.x"], input="", capture_output=True, text=True, cwd=folder, timeout=60).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
    version = re.search(r"Program PWSCF v\.(\S+)", said)
    found = {"Quantum ESPRESSO": version[1]} if version else {}
    return {**found, "aiida-dosmatgen": __version__}


def main() -> None:
    """Complete the manifest, and write card, page and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--crystals", type=Path, help="all crystals of the labelling, where parents of displaced ones are found"
    )
    parser.add_argument("--records", type=Path, help="records of the labelling, whose failures are counted")
    arguments = parser.parse_args()
    parents = [] if arguments.crystals is None else [CrystalSet.load(arguments.crystals)]
    more: dict[str, Any] = {}
    if "codes" not in read_manifest(FOLDER):
        more["codes"] = codes()
    if arguments.records is not None:
        more["failures"] = failures_of(arguments.records)
    manifest = complete_manifest(FOLDER, parents, SPLITS, more)
    crystals = load_shards(FOLDER)
    card = data_card(crystals, manifest, FOLDER)
    (FOLDER / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(card), encoding="utf-8")
    draw(crystals, card)
    print("\n".join(["| `split` | system | prototype | same structure | nearest curve | alike |", *_leak_rows(card["leak"])]))
    print(f"{card['n_crystals']} crystals: {FOLDER.name}/{CARD}, docs/{PAGE.name}, docs/images/labels-*.png")


if __name__ == "__main__":
    main()
