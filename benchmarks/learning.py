"""Two loops with the same targets, seeds and budget, one of which learns: best DFT distance of each target, round by round.

python benchmarks/learning.py PK-LEARNING PK-WITHOUT --json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

DRAWS = 10_000


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
    figures = compared(*map(rounds_of, loops))
    if not given.json:
        for loop in loops:
            print(format_rounds(loop), end="\n\n")
    print(json.dumps(figures, indent=1))


def compared(learning: list[dict[str, Any]], without: list[dict[str, Any]], seed: int = 1) -> dict[str, Any]:
    """Return the best distances after each round, and the gain.

    :param learning: summaries of the rounds of the loop that learns.
    :param without: of the other.
    :return: ``targets``: for each ``learning`` and ``without``, the best distances so far after each round (states/eV/atom);
        ``rounds``: for each ``gain``, the mean over the targets of the relative difference at the same number of rounds, and
        its 95 % ``interval`` by drawing targets (bootstrap; None with fewer than two targets); ``spent`` of both.
    """
    names = sorted(set(learning[-1]["best"]) & set(without[-1]["best"]))
    rounds = []
    for one, other in zip(learning, without, strict=False):
        pairs = [(one["best"][name], other["best"][name]) for name in names]
        gains = np.array([(old - new) / old for new, old in pairs if new is not None and old])
        rng = np.random.default_rng(seed)
        drawn = rng.choice(gains, (DRAWS, len(gains))).mean(1) if len(gains) > 1 else None
        rounds.append(
            {
                "round": one["number"],
                "targets": len(gains),
                "gain": float(gains.mean()) if len(gains) else None,
                "interval": None if drawn is None else np.percentile(drawn, [2.5, 97.5]).round(4).tolist(),
                "spent": [one["spent"], other["spent"]],
                "entered": [one["entered"], other["entered"]],
            }
        )
    best = {name: {"learning": [one["best"][name] for one in learning], "without": [one["best"][name] for one in without]}
            for name in names}  # fmt: skip
    return {"targets": best, "rounds": rounds}


if __name__ == "__main__":
    main()
