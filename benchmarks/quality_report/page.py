"""The page of the report, ``docs/quality.md``: made from ``quality.json`` alone, so that the two cannot differ.

The prose is in ``page.template.md``; here are the tables, and what depends on the result.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

from aiida_dosmatgen.core.errors import ContentError

from .plots import plot

TEMPLATE = Path(__file__).with_name("page.template.md")
CAUSES = "quality-causes.json"
"""Beside ``quality.json``: {name of a figure: the likely cause why its bar is missed}, written by hand."""
_WARNING = "**The models were not trained on this very data set, so that some of these crystals may have been seen.** "


def write(results: Path, docs: Path) -> None:
    """Write the page and the plots below ``docs``.

    :raises ContentError: if there are no results, or they are not those of the report.
    """
    if not results.exists():
        raise ContentError(f"{results} does not exist; run benchmarks/quality.py first")
    result, causes = _read(results), {}
    if results.with_name(CAUSES).exists():
        causes = _read(results.with_name(CAUSES))
    if "figures" not in result or "modes" not in result:
        raise ContentError(f"{results} is not a quality report; run benchmarks/quality.py")
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    plotted = plot(result, images)
    (docs / "quality.md").write_text(text(result, causes, plotted), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as exception:
        raise ContentError(f"{path} is not JSON: {exception}") from None


def text(result: dict[str, Any], causes: dict[str, str], plotted: dict[str, str]) -> str:
    """Return the page.

    :param causes: of missed bars, by the figure's name.
    :param plotted: file names of the plots, by what they show.
    """
    settings, data, machine = result["settings"], result["data"], result["machine"]
    values = {
        "warning": "" if data["models_trained_on_this_set"] else _WARNING,
        "command": settings["command"],
        "n_targets": settings["targets"],
        "n_systems": data["chemical_systems_of_targets"],
        "split": data["split"],
        "n_split": data[data["split"]],
        "n_train": data["train"],
        "split_by": data["split_by"],
        "n_candidates": settings["candidates"],
        "seed": settings["seed"],
        "steps": settings["sample"]["steps"],
        "sampler": settings["sample"]["sampler"],
        "attempts": settings["sample"]["attempts"],
        "min_contact": number(settings["sample"]["min_contact"]),
        "n_near": sum(row["near_equilibrium"] for row in result["targets"]),
        "formulas": ", ".join(
            f"{row['formula']} ({row['prototype']})" if row["prototype"] else row["formula"] for row in result["targets"]
        ),
        "figures": _figures(result["figures"]),
        "missed": _missed(result["figures"], causes),
        "itself": number(result["distance_of_targets_themselves"]),
        "modes": _modes(result),
        "start_time": number(settings["template_start_time"]),
        "guidance_plot": _image(plotted, "guidance", "Distance against the scale of guidance"),
        "surrogate": _surrogate(result["surrogate_errors"]),
        "force_field": _force_field(result["force_field_errors"]),
        **{name: number(settings["relax"][name]) for name in ("fmax", "smax", "max_steps")},
        "relaxed_ratio": number(result["relaxation"][result["default_mode"]].get("surrogate_mean_ratio")),
        "relaxation": _relaxation(result["relaxation"]),
        "at_rest": _at_rest(result.get("at_rest")),
        "n_sampled": result["route"]["picked_unrelaxed"],
        "dft": _dft(result, plotted) if result.get("dft") else "Not run.\n",
        "draws": settings["bootstrap_draws"],
        "cores": machine["cores"],
        "device": machine["device"],
        "seconds": "; ".join(f"{name} {value:.0f} s" for name, value in result.get("seconds", {}).items()),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


# --- tables -----------------------------------------------------------------------------------------------------------------


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
        value = number(row["value"])
        lines.append([f"`{name}`", row["title"], value, _interval(row["interval_95"]), bar, outcome, f"{row['n']} {row['of']}"])
    return _table(["figure", "what", "value", "95 %", "bar", "", "of"], lines)


def _missed(rows: dict[str, dict[str, Any]], causes: dict[str, str]) -> str:
    lines = [
        f"- `{name}`: {'not measured' if row['value'] is None else number(row['value'])}, the bar is {number(row['bar'])}. "
        + causes.get(name, "The cause has not been looked into.")
        for name, row in rows.items()
        if row["met"] is False
    ]
    return "What is missed, and the likely cause:\n\n" + "\n".join(lines) if lines else "All bars are met."


def _modes(result: dict[str, Any]) -> str:
    head = [
        "asked for",
        "mean",
        "best",
        "mean ratio",
        "95 %",
        "best ratio",
        "valid",
        "strictly",
        "composition",
        "no prediction",
    ]
    rows = []
    for name, mode in result["modes"].items():
        title = f"**{mode['title']}**" if name == result["default_mode"] else mode["title"]
        distances = [number(mode["mean"]), number(mode["best"]), number(mode["mean_ratio"]), _interval(mode["mean_ratio_95"])]
        shares = [share(mode[key]) for key in ("valid", "strict", "composition")]
        rows.append([title, *distances, number(mode["best_ratio"]), *shares, str(mode["without_prediction"])])
    return _table(head, rows)


def _surrogate(errors: dict[str, dict[str, Any]]) -> str:
    head = [
        "held-out crystals",
        "n",
        "DOS error",
        "mean curves",
        "ratio",
        "tight binding alone",
        "E_f, eV/atom",
        "DOS within 1σ",
        "E_f within 1σ",
    ]
    rows = []
    for name, found in errors.items():
        keys = ("dos_mae", "dos_mae_baseline", "over_baseline", "tight_binding_over_baseline", "formation_energy_mae")
        values = [number(found.get(key)) for key in keys]
        shares = [share(found.get(k)) for k in ("dos_within_std", "formation_energy_within_std")]
        rows.append([f"`{name}`", str(found["n"]), *values, *shares])
    return _table(head, rows)


def _force_field(errors: dict[str, dict[str, dict[str, Any]]]) -> str:
    keys = {
        "energy_mae_meV": "energy, meV/atom",
        "energy_median_meV": "median",
        "energy_mae_shifted_meV": "less a constant for each element",
        "force_mae": "forces, eV/Å",
        "stress_mae_GPa": "stress, GPa",
    }
    rows = [
        [f"`{name}`, {which.replace('_', ' ')}", str(found["n"]), *(number(found.get(key)) for key in keys)]
        for name, both in errors.items()
        for which, found in both.items()
    ]
    return _table(["held-out crystals", "n", *keys.values()], rows)


def _relaxation(summaries: dict[str, dict[str, Any]]) -> str:
    head = ["candidates", "n", "converged", "RMSD, Å", "median", "volume ratio", "steps", "composition", "how they ended"]
    rows = []
    for name, found in summaries.items():
        values = [number(found[key]) for key in ("rmsd_mean", "rmsd_median", "volume_ratio_median", "steps_median")]
        ends = ", ".join(f"{status} {n}" for status, n in found["statuses"].items())
        rows.append([f"`{name}`", str(found["n"]), share(found["converged"]), *values, share(found["composition"]), ends])
    return _table(head, rows)


def _at_rest(kept: dict[str, Any] | None) -> str:
    if kept is None:
        return ""
    stay, swell = share(kept["within_10_percent"]), share(kept["swollen"])
    before, after = number(kept["dos_distance_before"]), number(kept["dos_distance_after"])
    return (
        f"Of {kept['n']} held-out crystals that are at rest by pw.x (below 3 GPa and 0.3 eV/Å), {stay} keep their volume "
        f"within 10 %, and {swell} swell by more than 30 %; the distance of their predicted DOS from that of pw.x is {before} "
        f"states/eV/atom before the relaxation and {after} after it (`python benchmarks/equilibrium.py`).\n"
    )


_ROUTES = {"campaign": "**the closer geometry**", "relaxed": "relaxed", "unrelaxed": "unrelaxed"}


def _dft(result: dict[str, Any], plotted: dict[str, str]) -> str:
    route, summary = result["route"], result["dft_summary"]
    failed = {
        row["run"]: f"- {row['formula']} for {row['of']} ({row['kind']}): {row['reason']}"
        for row in result["dft"]
        if row["reason"]
    }
    rows = [
        [
            title,
            number(route["predicted_distance_of_the_best"][name]),
            *(str(s["targets"]), number(s["conditional"]), number(s["unconditional"]), number(s["ratio"])),
        ]
        for name, title in _ROUTES.items()
        if (s := summary.get(name))
    ]
    lenient = [f"{route['lenient_picks'][f'{who}, campaign']} ({who})" for who in ("conditional", "unconditional")]
    lines = [
        f"{summary['runs']} crystals, of which {summary['failed'] or 'none'} failed" + (":\n" if failed else ".\n"),
        *failed.values(),
        *([""] if failed else []),
        _table(["candidates", "predicted", "targets", "best by the ranking", "best unconditional", "ratio"], rows),
        "*Predicted* is what the predictor says of the best; the rest is by DFT, over targets where both could be computed. "
        "The training crystal of the same size that is nearest to a target by DFT "
        f"is at {number(summary['nearest_training_crystal'])} states/eV/atom on average.",
        f"No candidate passed the campaign's criteria, so that the first of the valid ones was taken: {', '.join(lenient)}.",
        _image(plotted, "surrogate", "Distances from the target by the surrogate and by DFT"),
        _image(
            plotted,
            "panels",
            "Targets and what was obtained, from the nearest to the farthest by DFT; where it is shaded, nothing is compared",
        ),
    ]
    return "\n".join(lines)


def _image(plotted: dict[str, str], which: str, caption: str) -> str:
    return f"\n![{caption}](images/{plotted[which]})\n" if which in plotted else ""
