"""The content of the page of a loop that learns, as plain values. :mod:`.page` formats it."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import LinkType

from ..tools.learning import rounds_of
from .settings import reproduction

_STEPS = {"candidates": "sampled", "unique": "unique", "novel": "novel"}
_WIDTH, _HEIGHT, _MARGIN = 640, 200, 34  # of the plot


def content_of_loop(loop: orm.WorkChainNode) -> dict[str, Any]:
    """Return all that the page of a loop says.

    :raises ValueError: in one line, if the node is no loop, or no round is done yet.
    """
    summaries = rounds_of(loop)
    if not summaries:
        raise ValueError(f"{loop.process_label}<{loop.pk}> has done no round yet; wait for the first")
    gates = _gates(loop)
    last = summaries[-1]
    return {
        "title": loop.label or f"Loop of {loop.ctime:%d %B %Y}",
        "description": loop.description,
        "uuid": loop.uuid,
        "begun": f"{loop.ctime:%Y-%m-%d %H:%M} UTC",
        "state": _state(loop, last),
        "targets": sorted(last["best"]),
        "rounds": [_round(summary) for summary in summaries],
        "totals": {
            "rounds": len(summaries),
            "spent": last["spent"],
            "entered": sum(one["entered"] for one in summaries),
            "accepted": sum(verdict["accepted"] for one in summaries for verdict in one["verdicts"].values()),
            "rejected": sum(not verdict["accepted"] for one in summaries for verdict in one["verdicts"].values()),
        },
        "results": [
            {"round": number, "name": name, **one}
            for number, report in sorted(gates.items())
            for name, one in sorted(report["results"].items())
        ],
        "verdicts": [
            {"round": one["number"], "kind": kind, **verdict}
            for one in summaries
            for kind, verdict in sorted(one["verdicts"].items())
        ],
        "plot": _plot(summaries),
        "reproduction": reproduction(loop),
    }


def _state(loop: orm.WorkChainNode, last: dict[str, Any]) -> str:
    if loop.is_finished_ok:
        return f"finished: {last['stop']}"
    if not loop.is_terminated:
        return "running"
    return f"ended with exit status {loop.exit_status}: {loop.exit_message or loop.exception or ''}".rstrip(": ")


def _gates(loop: orm.WorkChainNode) -> dict[int, dict[str, Any]]:
    """Return the reports of the gate by the number of the round."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"uuid": loop.uuid}, tag="loop")
    function = {"attributes.process_label": "gate"}
    edge = {"type": LinkType.CALL_CALC.value}
    query.append(orm.CalcFunctionNode, filters=function, with_incoming="loop", edge_filters=edge, edge_project="label",
                 tag="gate")  # fmt: skip
    query.append(orm.Dict, with_incoming="gate", project="attributes", tag="report")
    rows = query.order_by({"report": {"id": "asc"}}).all()
    return {int(label.removeprefix("gate_")): report for report, label in rows}


def _round(summary: dict[str, Any]) -> dict[str, Any]:
    funnel: dict[str, int] = {}
    for one in summary["funnels"].values():
        for step, left in one.items():
            funnel[step] = funnel.get(step, 0) + left
    steps = [(_STEPS.get(step, step), left) for step, left in funnel.items()]
    steps += [("computed by DFT", summary["computed"]), ("entered the training set", summary["entered"])]
    first = max([left for _, left in steps[:1]] + [1])
    return {
        **{name: summary[name] for name in ("number", "seed", "distances", "best", "computed", "repeated", "entered", "spent")},
        "steps": [{"name": name, "left": left, "share": min(1.0, left / first)} for name, left in steps],
        "refused": sorted(summary["refused"].items()),
        "failures": sorted(summary["failures"].items()),
        "held_out": sorted((kind, name, value) for kind, f in summary["held_out"].items() for name, value in f.items()),
    }


def _plot(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the best DFT distance of each target after each round as lines in the units of the drawing."""
    names = sorted(summaries[-1]["best"])
    values = {name: [one["best"].get(name) for one in summaries] for name in names}
    known = [value for row in values.values() for value in row if value is not None]
    top = max(known, default=1.0) or 1.0
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN

    def place(index: int, value: float) -> tuple[float, float]:
        x = _MARGIN + (width * index / (len(summaries) - 1) if len(summaries) > 1 else width / 2)
        return round(x, 1), round(_MARGIN + height * (1 - value / top), 1)

    lines = []
    for name, row in values.items():
        points = [place(index, value) for index, value in enumerate(row) if value is not None]
        lines.append({"target": name, "points": points, "path": " ".join(f"{x},{y}" for x, y in points)})
    ticks = [{"x": place(index, 0)[0], "label": str(one["number"])} for index, one in enumerate(summaries)]
    return {"width": _WIDTH, "height": _HEIGHT, "lines": lines, "ticks": ticks, "top": top, "zero": _HEIGHT - _MARGIN}
