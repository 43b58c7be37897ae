"""The result for people, and progress."""

from __future__ import annotations

import sys
from typing import Any


def say(text: str) -> None:
    """Report progress."""
    print(f"# {text}", file=sys.stderr, flush=True)


def report(result: dict[str, Any]) -> None:
    """Print tables for people."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    print("| sampler | candidates per core-second | DOS distance, mean | best | failed | composition | valid |")
    print("|---|---|---|---|---|---|---|")
    keys = ("dos_distance", "failed", "composition", "valid")
    for name, of in (("ours", ""), ("reference", "_reference")):
        distance, *shares = (number(result[f"{key}{of}"]) for key in keys)
        best, rate = number(result[f"dos_distance{of}_best"]), 1 / result[f"core_seconds_per_candidate{of}"]
        print(f"| {name} | {rate:.3g} | {distance} | {best} | {' | '.join(shares)} |")
    for row in result["sweep"]:
        failed = row["failed"] / (row["candidates_per_target"] * result["targets"])
        values = (row["mean"], row["best"], failed, row["composition"], row["valid"])
        print(f"| {row['sampler']} | {row['candidates_per_core_second']:.3g} | {' | '.join(map(number, values))} |")
    print(f"ratio {result['ratio']:.0f}; the predictor's own distance for the held-out crystals", end=" ")
    print(number(result["dos_distance_of_held_out_crystals"]))
    rows = result.get("table", []) + result.get("bounded_memory", [])
    if rows:
        print("\n| precision | atoms | candidates | at a time | candidates a second | memory (MB) | share of matrix rate |")
        print("|---|---|---|---|---|---|---|")
    for row in rows:
        share = row.get("matrix_rate_fraction")
        cells = (row["precision"], row["n_atoms"], row["candidates"], row["batch"], f"{row['candidates_per_second']:.3g}")
        print(f"| {' | '.join(map(str, cells))} | {row['memory_MB']} | {'–' if share is None else f'{share:.0%}'} |")


def rounded(value: Any) -> Any:
    """Return JSON values with four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
