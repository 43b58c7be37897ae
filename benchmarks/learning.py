"""Two loops with the same targets, seeds and budget, one of which learns: DFT distances of each target, round by round.

The best so far is what a user gets; the mean of a round's DFT runs tells more about the models where the best is found early.

python benchmarks/learning.py PK-LEARNING PK-WITHOUT --json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

DRAWS = 10_000
NEAR = 0.1  # states/eV/atom
LOOPS = ("learning", "without")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learning", help="pk or uuid of the loop that learns")
    parser.add_argument("without", help="pk or uuid of the loop with --no-learning")
    parser.add_argument("--profile", help="of AiiDA")
    parser.add_argument("--json", action="store_true", help="print nothing but JSON")
    given = parser.parse_args()
    from aiida import load_profile, orm

    from aiida_dosmatgen.tools.learning import format_rounds, rounds_of

    load_profile(given.profile)
    loops = [orm.load_node(identifier) for identifier in (given.learning, given.without)]
    found = [(rounds_of(loop), runs_of(loop)) for loop in loops]
    figures = compared(*([{**one, "runs": runs.get(one["number"], {})} for one in rounds] for rounds, runs in found))
    if not given.json:
        for loop in loops:
            print(format_rounds(loop), end="\n\n")
    print(json.dumps(figures, indent=1))


def runs_of(loop: Any) -> dict[int, dict[str, list[float]]]:
    """Return for each round of a loop, by its number, {target: DFT distances of what was validated, in states/eV/atom}."""
    from aiida import orm

    from aiida_dosmatgen.core.target.distances import rank_key
    from aiida_dosmatgen.tools.campaign import CAMPAIGN
    from aiida_dosmatgen.tools.ranking import ranking_of

    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"uuid": loop.uuid}, tag="loop")
    query.append(
        orm.WorkChainNode,
        filters={"process_type": CAMPAIGN},
        with_incoming="loop",
        tag="campaign",
        project="*",
        edge_project="label",
    )
    runs: dict[int, dict[str, list[float]]] = {}
    for found in query.order_by({"campaign": "id"}).iterdict():  # of one that AiiDA failed with, the last counts
        campaign, label = found["campaign"]["*"], found["loop--campaign"]["label"]
        if "ranking" in campaign.outputs:
            ranking = ranking_of(campaign)
            number = int(label.removeprefix("campaign_"))
            runs[number] = {
                name: [rank_key(row["dft"]) for row in rows if row["status"] == "validated"] for name, rows in ranking.items()
            }
    return runs


def compared(learning: list[dict[str, Any]], without: list[dict[str, Any]], seed: int = 1) -> dict[str, Any]:
    """Return the best distances after each round, the means of its DFT runs, and the gains.

    :param learning: summaries of the rounds of the loop that learns, each with its ``runs``.
    :param without: of the other.
    :return: ``targets``: for each, of ``learning`` and ``without``, the ``best`` distances so far after each round and the
        ``mean`` distances of its runs (states/eV/atom; None if nothing was validated); ``rounds``: for each ``best`` and
        ``mean`` with ``gain``, the mean over the targets of the relative difference at the same number of rounds, its 95 %
        ``interval`` by drawing targets (bootstrap; None with fewer than two targets), and the number of ``targets`` that have
        both; ``spent``, ``entered``, ``runs`` and ``near``, the share of runs within 0.1 states/eV/atom, of both.
    """
    names = sorted(set(learning[-1]["best"]) & set(without[-1]["best"]))
    both = learning, without
    best = [[[one["best"][name] for one in loop] for loop in both] for name in names]
    mean = [[[_mean(one["runs"].get(name, [])) for one in loop] for loop in both] for name in names]
    rounds = []
    for i, pair in enumerate(zip(learning, without, strict=False)):
        runs = [[distance for name in names for distance in one["runs"].get(name, [])] for one in pair]
        rounds.append(
            {
                "round": pair[0]["number"],
                "best": _gain([(one[i], other[i]) for one, other in best], seed),
                "mean": _gain([(one[i], other[i]) for one, other in mean], seed),
                "spent": [one["spent"] for one in pair],
                "entered": [one["entered"] for one in pair],
                "runs": [len(one) for one in runs],
                "near": [_mean([distance <= NEAR for distance in one]) for one in runs],
            }
        )
    targets = {
        name: {"best": dict(zip(LOOPS, best[i], strict=True)), "mean": dict(zip(LOOPS, mean[i], strict=True))}
        for i, name in enumerate(names)
    }
    return {"targets": targets, "rounds": rounds}


def _gain(pairs: list[tuple[float | None, float | None]], seed: int) -> dict[str, Any]:
    """Return the mean relative gain over the targets with both distances, with and without learning, and its interval."""
    gains = np.array([(old - new) / old for new, old in pairs if new is not None and old])
    drawn = np.random.default_rng(seed).choice(gains, (DRAWS, len(gains))).mean(1) if len(gains) > 1 else None
    return {
        "targets": len(gains),
        "gain": float(gains.mean()) if len(gains) else None,
        "interval": None if drawn is None else np.percentile(drawn, [2.5, 97.5]).round(4).tolist(),
    }


def _mean(values: list[Any]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


if __name__ == "__main__":
    main()
