"""A campaign's ranking, and a candidate's lineage, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from aiida import orm
from aiida.common import LinkType, NotExistent

from ..core.former_names import current_row
from ..core.screening.training_crystals import TrainingCrystals
from ..core.target.distances import in_short, in_words, rank_key
from ..data.conversion import StructureData
from .learnt import learnt_by
from .lineage import Lineage, UsedModel, UsedTemplate
from .text import pairs, table

_HEADINGS = (
    "rank",
    "candidate",
    "formula",
    "geometry",
    "E_form eV/atom",
    "predicted",
    "DFT",
    "DFT ±3 eV",
    "shift eV",
    "gap eV",
    "remark",
)
EXPLANATION = (
    "predicted, DFT: mean absolute difference from the target in states/eV/atom, by the predictor and by DFT\n"
    "geometry: relaxed or unrelaxed; E_form: formation energy of the relaxed one; shift: Wasserstein distance by DFT\n"
    "gap: band gap by DFT, 0 for a metal"
)


def ranking_of(campaign: orm.WorkChainNode) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each target of a campaign, best first.

    :raises ValueError: if the campaign has no ranking (yet).
    """
    return ranking_content(campaign)["targets"]


def ranking_content(campaign: orm.WorkChainNode) -> dict[str, Any]:
    """Return what the ranking of a campaign holds: the rows of ``targets``, and which ``failed``.

    Rows of computed candidates have ``validation`` and ``structure``, the uuids of the work chain and of the crystal as it was
    computed, from the links of the campaign; rankings before version 0.3 hold them.

    :raises ValueError: if the campaign has no ranking (yet).
    """
    content, links = ranking_node(campaign).get_dict(), _validations(campaign)
    content["targets"] = {
        name: [{**current_row(row), **links.get(f"validate_{name}_{row['candidate']}", {})} for row in rows]
        for name, rows in content["targets"].items()
    }
    return content


def _validations(campaign: orm.WorkChainNode) -> dict[str, dict[str, str]]:
    """Return the uuids of the validations that a campaign called, and of their crystals, by the labels of the calls.

    Of a validation that AiiDA failed with and that was begun again the last counts.
    """
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"uuid": campaign.uuid}, tag="campaign")
    called = {"type": LinkType.CALL_WORK.value, "label": {"like": "validate\\_%"}}
    query.append(
        orm.WorkChainNode, with_incoming="campaign", edge_filters=called, project="uuid", edge_project="label", tag="validation"
    )
    taken = {"type": LinkType.INPUT_WORK.value, "label": "structure"}
    query.append(StructureData, with_outgoing="validation", edge_filters=taken, project="uuid", tag="structure")
    query.order_by({"validation": "id"})
    found: dict[str, dict[str, str]] = {}
    for one in query.iterdict():
        validation = one["validation"]["uuid"]
        found[one["campaign--validation"]["label"]] = {"validation": validation, "structure": one["structure"]["uuid"]}
    if not found:
        return {}
    made = orm.QueryBuilder()
    chains = {"uuid": {"in": [links["validation"] for links in found.values()]}}
    made.append(orm.WorkChainNode, filters=chains, project="uuid", tag="validation")
    returned = {"type": LinkType.RETURN.value, "label": "structure"}
    made.append(StructureData, with_incoming="validation", edge_filters=returned, project="uuid")
    final = dict(made.all())
    return {label: {**links, "structure": final.get(links["validation"], links["structure"])} for label, links in found.items()}


def ranking_node(campaign: orm.WorkChainNode) -> orm.Dict:
    """Return the node with the ranking of a campaign.

    :raises ValueError: if the campaign has no ranking (yet).
    """
    try:
        links = campaign.base.links.get_outgoing(link_type=LinkType.RETURN)
        return cast(orm.Dict, links.get_node_by_label("ranking"))
    except NotExistent:
        state = campaign.process_state.value if campaign.process_state else "unknown"
        how = f"verdi process report {campaign.pk}" if campaign.is_terminated else f"aiida-dosmatgen status {campaign.pk}"
        raise ValueError(
            f"{campaign.process_label}<{campaign.pk}> has no ranking; its state is {state}: {how} says more"
        ) from None


def best_of(campaign: orm.WorkChainNode) -> dict[str, Any] | None:
    """Return the row with the smallest DFT distance among all targets, with its ``target``, or None if none has one.

    Of a target with wishes the distance counts them, too (:func:`..core.target.distances.distance_of`).
    """
    rows = [
        {**row, "target": name}
        for name, rows in ranking_of(campaign).items()
        for row in rows
        if row["status"] == "validated" and math.isfinite(rank_key(row["dft"]))
    ]
    return min(rows, key=lambda row: rank_key(row["dft"]), default=None)


def format_ranking(campaign: orm.WorkChainNode, limit: int | None = 20) -> str:
    """Return the ranking of a campaign as one table for each target.

    :param limit: rows of candidates that were not validated are left out beyond this many; None shows all.
    """
    lines: list[str] = []
    failed = campaign.outputs.ranking.get_dict()["failed"] if "ranking" in campaign.outputs else {}
    models = learnt_by(campaign)
    for name, rows in ranking_of(campaign).items():
        lines += ["", f"Target {name}"]
        if name in failed:
            lines.append(f"  no candidates: {failed[name]}")
            continue
        lines += funnel_line(campaign, name)
        shown = [row for i, row in enumerate(rows) if limit is None or i < limit or row["status"] != "not validated"]
        lines += [f"  {line}" for line in table(_HEADINGS, map(_cells, shown), right=_HEADINGS[:-1])]
        lines += [f"  {line}" for line in _wishes_of_best(rows)]
        lines += [f"  {line}" for line in _learnt_lines(campaign, name, shown, models)]
        if len(shown) < len(rows):
            lines.append(f"  … and {len(rows) - len(shown)} more that were not validated")
    return "\n".join([*lines, "", EXPLANATION]).lstrip("\n")


def _learnt_lines(
    campaign: orm.WorkChainNode, target: str, rows: list[dict[str, Any]], models: dict[str, TrainingCrystals]
) -> list[str]:
    """Return a line for each model that says which of the candidates shown are among the crystals that it learnt from."""
    if not models or "candidates" not in campaign.outputs or target not in campaign.outputs.candidates:
        return []
    crystals = campaign.outputs.candidates[target].crystals
    numbers = crystals.crystal_columns.get("candidate", np.arange(len(crystals)))
    places = {int(number): i for i, number in enumerate(numbers)}
    chosen = [row["candidate"] for row in rows if row["candidate"] in places]
    lines = []
    for kind, known in models.items():
        has = known.has(crystals, [places[candidate] for candidate in chosen])
        found = [str(candidate) for candidate, one in zip(chosen, has, strict=True) if one]
        if found:
            lines.append(f"candidates that the {kind} learnt from, by their fingerprints: {', '.join(found)}")
    return lines


def funnel_line(campaign: orm.WorkChainNode, target: str) -> list[str]:
    """Return one line that tells how many candidates of a target were left after each criterion, or none if it is unknown."""
    reports = campaign.outputs.reports if "reports" in campaign.outputs else {}
    if target not in reports:
        return []
    funnel = reports[target].get_dict()["funnel"]
    return ["  " + " → ".join(f"{left} {criterion}" for criterion, left in funnel.items())]


def wishes_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what became of the wishes for a candidate: by DFT if it was validated, else by the predictor."""
    return (row.get("dft") or {}).get("wishes") or row.get("wishes") or []


def _wishes_of_best(rows: list[dict[str, Any]]) -> list[str]:
    """Return what became of the wishes for the best candidate, a line each; nothing without wishes."""
    found = wishes_of(rows[0]) if rows else []
    by = "by DFT" if rows and (rows[0].get("dft") or {}).get("wishes") else "as predicted"
    heading = [f"wishes, candidate {rows[0]['candidate']} {by}:"] if found else []
    return heading + [f"  {one['wish']}: {in_words(one)}" for one in found]


def _cells(row: Mapping[str, Any]) -> list[str]:
    dft = row.get("dft") or {}
    remark = {"validated": "", "not validated": "not validated"}.get(row["status"], f"failed: {row.get('reason', '')}")
    if wishes := wishes_of(row):
        missed = (row.get("dft") or row).get("missed", 0.0)
        met = f"meets {in_short(wishes, 'wishes')}" + (f", misses {missed:.1f} tolerances" if missed else "")
        remark = "; ".join(filter(None, [met, remark]))
    return [
        str(row["rank"]),
        str(row["candidate"]),
        str(row["formula"]),
        str(row.get("geometry", "–")),
        _number(row.get("formation_energy"), 3),
        _number(row.get("predicted_distance"), 4),
        _number(dft.get("mae"), 4),
        _number(dft.get("mae_window"), 4),
        _number(dft.get("wasserstein"), 3),
        _number(dft.get("gap"), 2),
        remark,
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def format_lineage(lineage: Lineage) -> str:
    """Return a lineage as text, one thing a line."""
    sampling = ", ".join(f"{key} {value}" for key, value in sorted(lineage.sampling.items()))
    lines = [
        ("structure", f"{lineage.formula}, {lineage.structure}"),
        (
            "candidate",
            f"{lineage.candidate} of seed {lineage.seed}, {lineage.geometry}" + (f" ({sampling})" if sampling else ""),
        ),
        ("target", f"{lineage.target}, sha256 {lineage.target_sha256}" if lineage.target else "none, sampled freely"),
        *_model_lines("checkpoint", lineage.checkpoint),
        *(_model_lines("classifier", lineage.classifier) if lineage.classifier else []),
        *_template_lines(lineage.template),
        *(_model_lines("predictor", lineage.predictor) if lineage.predictor else []),
        *_model_lines("force field", lineage.force_field),
        *([("validation", lineage.validation)] if lineage.validation else []),
        *(("pseudopotential", f"{element}: {p.name}, md5 {p.md5}") for element, p in lineage.pseudos.items()),
        *(("code", f"{name}: {c.label}, {c.executable} on {c.computer}") for name, c in lineage.codes.items()),
    ]
    return "\n".join(f"  {line}" for line in pairs(lines))


def _model_lines(name: str, model: UsedModel) -> list[tuple[str, str]]:
    identity = f"sha256 {model.sha256}" if model.sha256 else "no file, known by its name"
    lines = [(name, f"{model.label or model.kind}, {identity}")]
    if model.dataset_sha256:
        where = f"node {model.dataset}" if model.dataset else "not in this profile"
        lines.append(("  training set", f"sha256 {model.dataset_sha256}, {where}"))
    if model.training_run:
        lines.append(("  training run", model.training_run))
    if model.parent_sha256:
        lines.append(("  parent", f"sha256 {model.parent_sha256}"))
    return lines


def _template_lines(template: UsedTemplate | None) -> list[tuple[str, str]]:
    if template is None:
        return []
    name = template.formula or template.label or "crystals"
    return [("template", f"{name}, {template.uuid}" + (f", sha256 {template.sha256}" if template.sha256 else ""))]
