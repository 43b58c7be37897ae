"""How long the recipes of docs/queries.md take on a large database.

    python benchmarks/lineage.py --json     # 100 campaigns, 100,000 candidates, 5,000 validated crystals: a few minutes

A temporary AiiDA profile (sqlite) is filled by ``synthetic_campaigns.py``, and each recipe is called three times:
the first call counts, as one who asks waits for it (``fastest_s`` has the fastest). The last line is JSON with ``slowest_s``,
the seconds of the slowest recipe by the clock. Other work on the machine lengthens these; ``slowest_cpu_s`` are seconds of the
processor, which sqlite spends in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ATTEMPTS = 3


def main() -> None:
    """Fill a profile, and time the recipes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--campaigns", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=1000, help="of each campaign")
    parser.add_argument("--validated", type=int, default=50, help="of each campaign")
    parser.add_argument("--targets", type=int, default=20, help="that the campaigns have among them")
    given = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory(prefix="lineage-aiida-", ignore_cleanup_errors=True) as folder:
        os.environ["AIIDA_PATH"] = folder  # before AiiDA is imported
        figures = measure(given.campaigns, given.candidates, given.validated, given.targets, Path(folder))
    if not given.json:
        for name, row in figures["recipes"].items():
            print(f"{name:28s} {row['seconds']:7.3f} s   fastest {row['fastest_s']:7.3f} s   {row['found']} found")
    print(json.dumps(figures))


def measure(campaigns: int, candidates: int, validated: int, targets: int, folder: Path) -> dict[str, Any]:
    """Return the figures of a database of that size.

    :param folder: empty, for what is made on the way.
    """
    import pandas  # noqa: F401  its import is no part of a query
    from aiida import orm
    from recipes import recipes
    from synthetic_campaigns import shared_nodes

    from aiida_dosmatgen import setup

    setup.ensure_profile("lineage")
    begin = time.perf_counter()
    shared = shared_nodes(folder)
    uuid = fill(shared, campaigns, candidates, validated, targets)
    built = time.perf_counter() - begin

    found = recipes()
    campaign = orm.load_node(uuid)
    often = Counter(orm.QueryBuilder().append(orm.StructureData, project="label").all(flat=True)).most_common(1)[0][0]
    structure = orm.QueryBuilder().append(orm.StructureData, filters={"label": often}).first(flat=True)
    dos = next(node for node in campaign.called if node.process_label == "ValidateWorkChain").outputs.dos
    asked: dict[str, Callable[[], Any]] = {
        "validated_crystals_of": lambda: found["validated_crystals_of"](shared["checkpoint"]),
        "targets_served_by": lambda: found["targets_served_by"](structure),
        "best_by_element": found["best_by_element"],
        "candidates_left_out": found["candidates_left_out"],
        "validations_without_score": found["validations_without_score"],
        "with_a_gap": lambda: found["with_a_gap"](0.5),
        "sets_with": lambda: found["sets_with"](structure.label, 2),
        "crystals_learnt_from": lambda: found["crystals_learnt_from"](shared["checkpoint"], "Si"),
        "learnt_by_models_behind": lambda: found["learnt_by_models_behind"](structure),
        "structures_behind_the_labels_of": lambda: found["structures_behind_the_labels_of"](campaign.outputs.ranking),
        "results_learnt_from": lambda: found["results_learnt_from"](shared["checkpoint"]),
        "crystals_that_came_of": lambda: found["crystals_that_came_of"](dos),
        "tools.lineage": campaign.tools.lineage,
        "tools.ranking": campaign.tools.ranking,
        "tools.to_dataframe": campaign.tools.to_dataframe,
    }
    assert set(found) <= set(asked), "the page has a recipe that is not timed"
    rows = {name: timed(ask) for name, ask in asked.items()}
    return {
        "slowest_s": max(row["seconds"] for row in rows.values()),
        "slowest_cpu_s": max(row["cpu_s"] for row in rows.values()),
        "slowest": max(rows, key=lambda name: rows[name]["seconds"]),
        "recipes": rows,
        "campaigns": campaigns,
        "candidates": campaigns * candidates,
        "validated_crystals": campaigns * validated,
        "nodes": orm.QueryBuilder().append(orm.Node).count(),
        "filled_in_s": round(built, 1),
    }


def fill(shared: dict[str, Any], campaigns: int, candidates: int, validated: int, targets: int) -> str:
    """Store the campaigns, a fifth of their candidates ranked, and return the uuid of the last one."""
    import numpy as np
    from synthetic_campaigns import Graph, campaign, made_up, target

    graph = Graph(shared, seed=1)
    places = [target(graph, f"target_{i}.csv") for i in range(targets)]
    uuids = [graph.uuid(place) for place in places]
    graph.store()
    uuid = ""
    for i in range(campaigns):
        stored = graph.stored(uuids[i % targets])
        ranked = max(validated + 2, candidates // 5)
        # no query reads curves
        crystals = made_up(np.random.default_rng(i), ranked, with_curves=False)
        uuid = campaign(graph, -stored, "asked", candidates, ranked, validated, crystals=crystals)
        graph.store()
    return uuid


def timed(ask: Callable[[], Any]) -> dict[str, Any]:
    """Return the seconds of the first call, by the clock and of the processor, those of the fastest, and how much it found."""
    seconds, used = [], []
    for _ in range(ATTEMPTS):
        begin, cpu = time.perf_counter(), time.process_time()
        answer = ask()
        seconds.append(time.perf_counter() - begin)
        used.append(time.process_time() - cpu)
    return {
        "seconds": round(seconds[0], 4),
        "cpu_s": round(used[0], 4),
        "fastest_s": round(min(seconds), 4),
        "found": len(answer) if hasattr(answer, "__len__") else 1,
    }


if __name__ == "__main__":
    main()
