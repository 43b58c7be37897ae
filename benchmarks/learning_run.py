"""Submit two loops for targets of unseen chemical systems, one of which learns; ``learning.py`` compares them in the end.

    python benchmarks/learning_run.py --profile dosmatgen --targets 5 --rounds 3 --top-k 6
    python benchmarks/learning_run.py --atoms 2 --leave-out Lu --protocol fast --override train_denoiser.parameters.epochs=20

The targets are crystals of the split ``test-final`` of the data set, each of another chemical system, drawn by the seed:
neither model nor setting was chosen by them, and the gate lets none of them into the training set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

SHARDS = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"


def main() -> None:
    """Submit both, and print how to compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", help="of AiiDA")
    parser.add_argument("--dataset", type=Path, default=SHARDS, help="shards, or an npz file of labelled crystals")
    parser.add_argument("--denoiser", default="dosmatgen-denoiser", help="label or file")
    parser.add_argument("--predictor", default="dosmatgen-predictor", help="label or file")
    parser.add_argument("--force-field", default="dosmatgen-forcefield", help="label or file")
    parser.add_argument("--computer", default="localhost")
    parser.add_argument("--targets", type=int, default=5)
    parser.add_argument("--atoms", type=int, help="of a target's cell; default: any number")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="ELEMENT", help="elements that no target has")
    parser.add_argument("--only", choices=["learning", "without"], help="submit one of the two")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--top-k", type=int, default=6, help="DFT runs for each target in a round")
    parser.add_argument("--candidates", type=int, default=200, help="for each target in a round")
    parser.add_argument("--protocol", default="balanced")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="of the protocol; may be repeated")
    parser.add_argument("--pseudo-family", help="by default the protocol's")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    from aiida import load_profile, orm
    from aiida.engine import submit
    from aiida_quantumespresso.workflows.protocols.utils import recursive_merge

    from aiida_dosmatgen.calculations.functions import target_from_labelled
    from aiida_dosmatgen.cmdline.params import Setting, nested
    from aiida_dosmatgen.tools import nodes
    from aiida_dosmatgen.workflows.learn import LearnWorkChain

    load_profile(given.profile)
    dataset = nodes.dataset([given.dataset])
    models = {
        "checkpoint": nodes.checkpoint(given.denoiser),
        "predictor": nodes.checkpoint(given.predictor),
        "force_field": nodes.force_field(given.force_field),
    }
    known = models["checkpoint"].base.attributes.get("elements")
    rows = chosen(dataset.crystals, known, given.targets, given.seed, given.atoms, given.leave_out)
    targets = {name: target_from_labelled(crystals=dataset, index=orm.Int(row)) for name, row in rows.items()}
    overrides = nested(Setting().convert(text, None, None) for text in given.override)
    if given.pseudo_family:
        overrides = recursive_merge({"campaign": {"validate": {"pseudo_family": given.pseudo_family}}}, overrides)
    loops: dict[str, Any] = {}
    for name, kinds in (("learning", ["denoiser", "predictor"]), ("without", [])):
        if given.only not in (None, name):
            continue
        builder = LearnWorkChain.get_builder_from_protocol(
            codes={code: f"{code}@{given.computer}" for code in ("dosmatgen", "pw", "projwfc")},
            targets=targets,
            dataset=dataset,
            **models,
            protocol=given.protocol,
            overrides=overrides,
            n_candidates=given.candidates,
            settings={
                "budget": given.rounds * (given.targets * given.top_k + 1),
                "max_rounds": given.rounds,
                "top_k": given.top_k,
                "repeats": 1,
                "patience": given.rounds,
                "models": kinds,
                "seed": given.seed,
            },
        )
        loops[name] = submit(builder)
        loops[name].label = f"loop, {name}"
    print(json.dumps({"targets": rows, **{name: node.pk for name, node in loops.items()}}, indent=1))
    if not given.only:
        print(f"python benchmarks/learning.py {loops['learning'].pk} {loops['without'].pk} --json")


def chosen(
    crystals: Any, elements: list[str], count: int, seed: int, n_atoms: int | None = None, left_out: Collection[str] = ()
) -> dict[str, int]:
    """Return rows of crystals of the split ``test-final`` with known elements, each of another system, by their formulas.

    :param n_atoms: of each; None takes any.
    :param left_out: elements that none has, as their DFT runs would take too long; the others are drawn as without them.
    """
    from aiida_dosmatgen.core.labelled.splits import systems_of

    columns, systems = crystals.crystal_columns, np.array(systems_of(crystals))
    real = columns["kind"] == "real" if "kind" in columns else np.ones(len(crystals), bool)
    final = columns["split"] == ("test-final" if "test-final" in columns["split"] else "test-system")
    fits = np.array([set(system.split("-")) <= set(elements) for system in systems])
    sizes = np.ones(len(crystals), bool) if n_atoms is None else crystals.n_atoms == n_atoms
    order = np.random.default_rng(seed).permutation(np.flatnonzero(real & final & fits & sizes))
    rows: dict[str, int] = {}
    seen: set[str] = set()
    for row in order.tolist():
        if systems[row] not in seen and len(rows) < count and not set(systems[row].split("-")) & set(left_out):
            seen.add(systems[row])
            rows[crystals[row].formulas[0]] = row
    if len(rows) < count:
        raise SystemExit(f"only {len(rows)} chemical systems of this size, with elements of the denoiser, are kept for tests")
    return dict(sorted(rows.items()))


if __name__ == "__main__":
    main()
