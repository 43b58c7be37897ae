"""From the records of the targets to the figures of the report, each with its interval and its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import figures
from .figures import Figure
from .likeness import MET
from .one_target import LARGEST_HULL, met_by_dft
from .ways import HELD, HELD_ALONE, NOTHING

KEYS = (
    "dft_best_ratio", "dft_success", "relaxed_by_dft", "exact_composition", "element_recall", "surrogate_over_baseline",
    "surrogate_r2", "surrogate_wasserstein", "surrogate_dft_rank_correlation", "valid", "unique", "novel", "diversity",
    "coverage", "structure_match", "allotropes",
)  # fmt: skip
"""The figures that every run states, if only by saying that they were not measured."""

Record = dict[str, Any]


def summed_up(
    records: list[Record],
    surrogate: dict[str, Any],
    allotropes: dict[str, Any] | None,
    relaxed: dict[str, Any] | None,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return the figures by their names, as JSON.

    :param surrogate: the accuracy of the predictor, of :func:`.accuracy.accuracy`.
    :param allotropes: of :func:`.accuracy.allotropes`; None if there were none.
    :param relaxed: of relaxations by pw.x: ``n`` and the mean ``distance`` after them; None if there were none.
    """
    found: list[Figure] = []

    def add(name: str, title: str, pair: tuple[float | None, Any], n: int, of: str, **more: Any) -> None:
        found.append(Figure(name, title, pair[0], n, of, interval=pair[1], **more))

    n = len(records)
    ours, theirs = _paired_by_dft(records)
    add("dft_best_ratio", "DFT distance of the first of the ranking, relaxed, over that of the first unconditional one",
        figures.ratio(ours, theirs, seed), len(ours), "targets with both", bar=0.6)  # fmt: skip
    computed = records if any("distance" in p for r in records for p in r["picks"]) else []
    success = [any(met_by_dft(p) for p in r["picks"] if p["kind"] == "conditional") for r in computed]
    what = f"one of the first three, relaxed, within {MET:g} states/eV/atom by DFT and {LARGEST_HULL:g} eV/atom of the hull"
    share = figures.mean(np.array(success, dtype=float), seed)
    add("dft_success", what, share, len(computed), "targets", bar=0.4, below=False)
    pair = (None, None) if relaxed is None else (relaxed["distance"], relaxed.get("distance_95"))
    add("relaxed_by_dft", "DFT distance of those after pw.x relaxed them", pair, 0 if relaxed is None else relaxed["n"],
        "crystals")  # fmt: skip
    add("exact_composition", "exact composition, of all unrelaxed candidates", _of_main(records, _exact, seed), n, "targets",
        bar=0.5, below=False)  # fmt: skip
    add("element_recall", "atoms whose element the candidate has", _of_main(records, lambda row: np.mean(row["recall"]), seed),
        n, "targets")  # fmt: skip
    crystals = f"crystals of {surrogate.get('split', 'the split')}"
    for name, key, title, bar in (
        ("surrogate_over_baseline", "ratio", "predictor's DOS error over that of the elements' mean curves", 0.5),
        ("surrogate_r2", "r2", "R² of the predicted totals", None),
        ("surrogate_wasserstein", "wasserstein", "Wasserstein distance of the predicted totals, eV", None),
        ("surrogate_bins_within_std", "bins_within_std", "bins within the stated deviation (0.68 of normal errors)", None),
        ("surrogate_bins_within_two_std", "bins_within_two_std", "bins within two stated deviations (0.95)", None),
    ):  # fmt: skip
        add(name, title, (surrogate.get(key), surrogate.get(f"{key}_95")), surrogate["n"], crystals, bar=bar)
    picks = [(r["number"], p) for r in records for p in r["picks"] if _has_distance(p)]
    predicted, by_dft = (np.array([p[key] for _, p in picks]) for key in ("predicted_distance", "distance"))
    groups = np.array([number for number, _ in picks])
    add("surrogate_dft_rank_correlation", "rank correlation of the distances by the predictor and by DFT",
        figures.rank_correlation(predicted, by_dft, groups, seed), len(picks), "crystals", bar=0.8, below=False)  # fmt: skip
    add("valid", "valid, of all unrelaxed candidates", _of_main(records, lambda row: np.mean(row["valid"]), seed), n,
        "targets", bar=0.97, below=False)  # fmt: skip
    for name, title, over, bar in (
        ("unique", "different crystals, of the valid relaxed candidates of a target", ("unique", "relaxed_valid"), 0.9),
        ("novel", "not in the training set, of the valid relaxed candidates", ("novel", "relaxed_valid"), None),
        ("diversity", "different crystals, of those that meet the target", ("meeting_different", "meeting"), None),
    ):  # fmt: skip
        values = [r["relaxed"][over[0]] / r["relaxed"][over[1]] for r in records if r["relaxed"][over[1]]]
        add(name, title, figures.mean(np.array(values), seed), len(values), "targets with any", bar=bar, below=False)
    add("coverage", f"targets that a candidate meets by the predictor, within {MET:g} states/eV/atom",
        figures.mean(np.array([float(r["relaxed"]["meeting"] > 0) for r in records]), seed), n, "targets")  # fmt: skip
    for name, way, key, title in (
        ("structure_match", HELD, "matches", "the target's crystal among the candidates, composition held"),
        ("structure_match_without_curves", HELD_ALONE, "matches", "the same without curves"),
        ("structure_match_by_default", HELD, "matches_by_default", "with curves, by pymatgen's default tolerances"),
    ):
        values = [float(any(r["ways"][way][key])) for r in records if key in r["ways"].get(way, {})]
        add(name, title, figures.mean(np.array(values), seed), len(values), "targets")
    converged = [r["relaxed"]["statuses"].get("converged", 0) / r["relaxed"]["n"] for r in records]
    add("converged", "relaxations that converge", figures.mean(np.array(converged), seed), n, "targets", bar=0.95, below=False)
    pair = (None, None) if allotropes is None else (allotropes["rank"], allotropes["rank_95"])
    of = "allotropes" if allotropes is None else f"allotropes; {allotropes['by_chance']:g} by chance"
    add("allotropes", "rank of the right allotrope by the predictor", pair, 0 if allotropes is None else allotropes["n"], of)
    return {figure.name: figure.row(seed) for figure in found}


def table_of_ways(records: list[Record], seed: int) -> dict[str, dict[str, Any]]:
    """Return what each way to ask gives, over the targets that could be asked so."""
    table = {}
    for name in dict.fromkeys(way for r in records for way in r["ways"]):
        rows = [(r["ways"][name], r["ways"][NOTHING]) for r in records if "mae" in r["ways"].get(name, {})]
        if not rows:
            table[name] = {"targets": 0, "reason": next(r["ways"][name]["left_out"] for r in records if name in r["ways"])}
            continue
        which = "mae_total" if name == "total" else "mae"
        both = [[_reduced(row[which], np.mean), _reduced(row[which], np.min)] for pair in rows for row in pair]
        values = np.array(both).reshape(len(rows), 2, 2)
        mean_ratio, mean_95 = figures.ratio(values[:, 0, 0], values[:, 1, 0], seed)
        best_ratio, best_95 = figures.ratio(values[:, 0, 1], values[:, 1, 1], seed)
        table[name] = {
            "targets": len(rows),
            "mean": float(np.nanmean(values[:, 0, 0])),
            "best": float(np.nanmean(values[:, 0, 1])),
            "mean_ratio": mean_ratio,
            "mean_ratio_95": mean_95,
            "best_ratio": best_ratio,
            "best_ratio_95": best_95,
            "valid": float(np.mean([np.mean(row["valid"]) for row, _ in rows])),
            "composition": float(np.mean([_exact(row) for row, _ in rows])),
            "recall": float(np.mean([np.mean(row["recall"]) for row, _ in rows])),
            "without_prediction": sum(value is None for row, _ in rows for value in row["mae"]),
        }
    return table


def _exact(row: dict[str, Any]) -> float:
    return float(np.mean(np.array(row["recall"]) == 1))


def _of_main(records: list[Record], value: Callable[[dict[str, Any]], float], seed: int) -> tuple[float | None, Any]:
    return figures.mean(np.array([value(r["ways"][r["main"]]) for r in records]), seed)


def _reduced(values: Iterable[float | None], how: Callable[..., float]) -> float:
    """Return the mean or the least of what is known; NaN of nothing."""
    known = [value for value in values if value is not None]
    return float(how(known)) if known else float("nan")


def _has_distance(pick: dict[str, Any]) -> bool:
    return pick.get("distance") is not None and pick.get("predicted_distance") is not None


def _paired_by_dft(records: list[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Return the DFT distances of the first conditional and the first unconditional crystal of the targets that have both."""
    both = []
    for record in records:
        first: dict[str, float] = {}
        for pick in record["picks"]:  # in the order of the ranking
            if _has_distance(pick):
                first.setdefault(pick["kind"], pick["distance"])
            elif pick["kind"] == "conditional" and "conditional" not in first:
                break  # the first one failed, and no other stands for it
        if {"conditional", NOTHING} <= first.keys():
            both.append((first["conditional"], first[NOTHING]))
    values = np.array(both, dtype=float).reshape(-1, 2)
    return values[:, 0], values[:, 1]
