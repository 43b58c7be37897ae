"""The page of the report, ``docs/quality.md``: made from ``quality.json`` alone, so that the two cannot differ.

The prose is in ``page.template.md``; here are the tables, and what depends on the result.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

from aiida_dosmatgen.core.errors import ContentError

from .likeness import MET
from .one_target import FIRST, LARGEST_HULL
from .summary import KEYS
from .ways import WINDOW

TEMPLATE = Path(__file__).with_name("page.template.md")
CAUSES = "quality-causes.json"
"""Beside ``quality.json``: {name of a figure: the likely cause why its bar is missed}, written by hand."""
_WARNING = "**The models were not trained on this very data set, so that some of these crystals may have been seen.** "


def write(results: Path, docs: Path) -> None:
    """Write the page below ``docs``.

    :raises ContentError: if there are no results, or they are not those of the report.
    """
    if not results.exists():
        raise ContentError(f"{results} does not exist; run benchmarks/quality.py first")
    result, causes = _read(results), {}
    if results.with_name(CAUSES).exists():
        causes = _read(results.with_name(CAUSES))
    if "surrogate" not in result or not set(KEYS) <= result.get("figures", {}).keys():
        raise ContentError(f"{results} is not a quality report of this version; run benchmarks/quality.py")
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "quality.md").write_text(text(result, causes), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as exception:
        raise ContentError(f"{path} is not JSON: {exception}") from None


def text(result: dict[str, Any], causes: dict[str, str]) -> str:
    """Return the page.

    :param causes: of missed bars, by the figure's name.
    """
    settings, data, machine, surrogate = (result[name] for name in ("settings", "data", "machine", "surrogate"))
    values = {
        "warning": "" if all(data["models_trained_on_this_set"].values()) else _WARNING,
        "command": settings["command"],
        "n_targets": settings["targets"],
        "n_asked": "" if settings["targets"] == settings["targets_asked_for"] else f" of {settings['targets_asked_for']}",
        "n_systems": data["systems_of_targets"],
        "n_elements": len(data["elements_of_targets"]),
        "split": data["split"],
        "n_split": data["crystals_of_split"],
        "n_train": data["train"],
        "n_candidates": settings["candidates"],
        "seed": settings["seed"],
        "steps": settings["sample"]["steps"],
        "sampler": settings["sample"]["sampler"],
        "attempts": settings["sample"]["attempts"],
        "min_contact": number(settings["sample"]["min_contact"]),
        "figures": _figures(result["figures"]),
        "missed": _missed(result["figures"], causes),
        "ways": _ways(result),
        "start_time": number(settings["template_start_time"]),
        "window": f"{WINDOW[0]:g} to {WINDOW[1]:g} eV",
        "met": number(MET),
        "first": FIRST,
        "hull": number(LARGEST_HULL),
        "surrogate": _surrogate(surrogate),
        "targets": _targets(result["targets"]),
        **{name: number(settings["relax"][name]) for name in ("fmax", "smax", "max_steps")},
        "dft": "" if settings["dft"] else "pw.x was left out of this run. ",
        "draws": settings["bootstrap_draws"],
        "cores": machine["cores"],
        "device": machine["device"],
        "seconds": "; ".join(f"{name} {value:.0f} s" for name, value in result.get("seconds", {}).items()),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits, a dash for none."""
    return "–" if value is None else f"{value:.{digits}g}"


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.3g} … {pair[1]:.3g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _figures(rows: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, row in rows.items():
        bar = "stated" if row["bar"] is None else f"{'≤' if row['better'] == 'below' else '≥'} {row['bar']:g}"
        outcome = {None: "", True: "met", False: "no value"}[row["met"]]
        if row["missed_by"]:
            outcome = f"missed by {number(row['missed_by'], 2)}"
        value = "not measured" if row["value"] is None else number(row["value"])
        lines.append([f"`{name}`", row["title"], value, _interval(row["interval_95"]), bar, outcome, f"{row['n']} {row['of']}"])
    return _table(["figure", "what", "value", "95 %", "bar", "", "of"], lines)


def _missed(rows: dict[str, dict[str, Any]], causes: dict[str, str]) -> str:
    lines = [
        f"- `{name}`: {'not measured' if row['value'] is None else number(row['value'])}, the bar is {number(row['bar'])}. "
        + causes.get(name, "The cause has not been looked into.")
        for name, row in rows.items()
        if row["met"] is False
    ]
    return "What is missed, and the likely cause:\n\n" + "\n".join(lines) + "\n" if lines else "All bars are met.\n"


def _ways(result: dict[str, Any]) -> str:
    head = ["asked for", "targets", "mean", "best", "mean ratio", "95 %", "best ratio", "valid", "composition", "elements",
            "no prediction"]  # fmt: skip
    rows, reasons = [], []
    for name, way in result["modes"].items():
        if not way["targets"]:
            reasons.append(f"Not asked for: {name}, because {way['reason']}.")
            continue
        title = f"**{name}**" if name == result["default_mode"] else name
        distances = [number(way["mean"]), number(way["best"]), number(way["mean_ratio"]), _interval(way["mean_ratio_95"])]
        shares = [share(way[key]) for key in ("valid", "composition", "recall")]
        rows.append(
            [title, str(way["targets"]), *distances, number(way["best_ratio"]), *shares, str(way["without_prediction"])]
        )
    return _table(head, rows) + "".join(f"\n{reason}\n" for reason in reasons)


def _surrogate(found: dict[str, Any]) -> str:
    if not found["n"]:
        return f"No crystal of the split `{found['split']}` has only elements that the predictor knows.\n"
    rows = [
        ["error of the curves, states/eV/atom", number(found["mae"]), _interval(found["mae_95"])],
        ["the same of the elements' mean curves", number(found["mae_mean_curves"]), "–"],
        ["R² of the totals, mean", number(found["r2"]), _interval(found["r2_95"])],
        ["R² of the totals, median", number(found["r2_median"]), "–"],
        ["Wasserstein distance of the totals, eV", number(found["wasserstein"]), _interval(found["wasserstein_95"])],
    ]
    for key, title in (("bins_within_std", "one stated deviation"), ("bins_within_two_std", "two stated deviations")):
        if key in found:
            rows.append([f"bins within {title}", share(found[key]), _interval(found[f"{key}_95"])])
    return _table([f"{found['n']} crystals of `{found['split']}`", "value", "95 %"], rows)


def _targets(records: list[dict[str, Any]]) -> str:
    rows = []
    for record in records:
        ours = [pick for pick in record["picks"] if pick["kind"] == "conditional"]
        known = [pick for pick in ours if pick.get("distance") is not None]
        best = min(known, key=lambda pick: pick["distance"]) if known else (ours[0] if ours else None)
        name = f"{record['formula']} ({record['prototype']})" if record["prototype"] else record["formula"]
        if best is None:
            rows.append([name, "none", "–", "–", "–"])
            continue
        values = [number(best["predicted_distance"]), number(best.get("distance")), number(best.get("hull_distance"))]
        rows.append([name, best["formula"], *values])
    return _table(["target", "best of the first three", "predicted", "DFT", "above hull, eV/atom"], rows)
