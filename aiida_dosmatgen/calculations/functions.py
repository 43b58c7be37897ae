"""Calcfunctions: everything between the jobs that has a choice in it, so that the graph holds it.

Content that cannot be used ends a calcfunction with exit status 310 and the reason, never with a traceback.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic
from aiida.common.exceptions import ValidationError
from aiida.engine import ExitCode, calcfunction
from aiida.orm import BandsData, Dict, Int, List, ProjectionData

from ..core.crystals import CrystalSet
from ..core.elements import SYMBOLS
from ..core.errors import ContentError
from ..core.forms import stacked
from ..core.screening import ScreenCriteria
from ..core.screening import screen as screen_crystals
from ..core.selection import SelectionWeights, select
from ..core.strict import explain
from ..core.target import DosTarget
from ..data.base import storable
from ..data.conversion import StructureData, crystal_of, structure_of
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from ..data.pdos import electrons_problem, projected_crystal, target_of
from ..data.target import DosTargetData
from .labels import labels_of
from .ranking import ranked

BAD_CONTENT = 310
ELECTRONS_MISSING = 320


def content_function(function: Callable) -> Callable:
    """Make a calcfunction whose ``ContentError`` or ``ValidationError`` is an exit code with the same line."""
    errors, refusal = (ContentError, ValidationError), functools.partial(ExitCode, BAD_CONTENT)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except errors as exception:
            return refusal(str(exception))

    # AiiDA stores the module and the source file of what it wraps: they must be those of the function, not of this guard
    code = guarded.__code__.replace(co_filename=function.__code__.co_filename)
    there = types.FunctionType(code, function.__globals__, function.__name__, None, guarded.__closure__)
    return calcfunction(functools.wraps(function)(there))


@content_function
def join_crystals(**parts: CrystalSetData) -> CrystalSetData:
    """Put the crystals of several jobs into one set, in the order of their candidates.

    :param parts: with the column ``candidate``; any names.
    """
    crystals = CrystalSet.concatenate([part.crystals for part in parts.values()])
    if "candidate" not in crystals.crystal_columns:
        raise ContentError("the crystals have no column 'candidate', by which they are put in order")
    return CrystalSetData(crystals[np.argsort(crystals.crystal_columns["candidate"], kind="stable")], check=False)


@content_function
def stack_forms(relaxed: CrystalSetData, sampled: CrystalSetData) -> CrystalSetData:
    """Put candidates as they were relaxed and as they were sampled into one set.

    :param relaxed: with the columns of a relaxation; both with the column ``candidate``.
    :return: first all relaxed ones, then the same as sampled, with the column ``form``; see :func:`.forms.stacked`.
    """
    return CrystalSetData(stacked(relaxed.crystals, sampled.crystals), check=False)


@content_function
def collect_crystals(elements: List | None = None, **parts: CrystalSetData) -> CrystalSetData:
    """Put crystals of any origin into one set, without their columns.

    :param elements: crystals with other elements are left out.
    :param parts: any names.
    """
    crystals = CrystalSet.concatenate(
        part.crystals.replace(crystal_columns={}, atom_columns={}) for _, part in sorted(parts.items())
    )
    if elements is not None:
        allowed = np.array([SYMBOLS.index(symbol) for symbol in elements.get_list()])
        foreign = np.unique(crystals.crystal_of_atom[~np.isin(crystals.numbers, allowed)])
        crystals = crystals[np.setdiff1d(np.arange(len(crystals)), foreign)]
    return CrystalSetData(crystals)


@content_function
def screen(
    crystals: CrystalSetData,
    references: Dict,
    criteria: Dict,
    target: DosTargetData | None = None,
    phases: CrystalSetData | None = None,
    known: CrystalSetData | None = None,
) -> dict:
    """Keep the candidates that meet the criteria, best first, each in the form that is nearer to the target.

    :param crystals: with energies and predictions; relaxed, or in both forms (:func:`stack_forms`).
    :param references: ``energies`` of the elements in eV/atom, with the force field of the crystals' energies.
    :param target: what they are ranked by; without one it is their formation energy.
    :param criteria: as in :class:`~aiida_dosmatgen.core.screening.ScreenCriteria`.
    :param phases: known phases relaxed with the same force field, for the hull.
    :param known: crystals that are known already.
    :return: ``crystals``, the survivors, and ``report``: the funnel, the rejected by reason, the ranking.
    """
    given = crystals.crystals
    screened = screen_crystals(
        given,
        {symbol: energy for symbol, energy in references.get_dict()["energies"].items() if energy is not None},
        None if target is None else target.target,
        checked(ScreenCriteria, criteria, "criteria"),
        None if phases is None else phases.crystals,
        None if known is None else known.crystals,
    )
    ranking = screened.ranking
    survivors = given[[row["index"] for row in ranking]].with_columns(
        crystal={
            "rank": np.array([row["rank"] for row in ranking], dtype=np.int64),
            **{
                name: np.array([np.nan if row[name] is None else row[name] for row in ranking], dtype=np.float64)
                for name in (
                    "formation_energy",
                    "relaxation_energy",
                    "hull_distance",
                    "predicted_distance",
                    "predicted_distance_total",
                    "wasserstein",
                    "score",
                )
            },
        }
    )
    return {"crystals": CrystalSetData(survivors), "report": Dict(storable(dataclasses.asdict(screened)))}


@content_function
def select_candidates(crystals: CrystalSetData, report: Dict, count: Int, weights: Dict) -> Dict:
    """Choose which of the ranked candidates are computed by DFT.

    :param crystals: the survivors of :func:`screen`, in the order of its report.
    :param weights: as in :class:`~aiida_dosmatgen.core.selection.SelectionWeights`.
    :return: ``selected``: {``candidate``, ``reason``} in the order in which they were taken.
    """
    rows, survivors = report.get_dict()["ranking"], crystals.crystals
    if len(rows) != len(survivors):
        raise ContentError(f"the report ranks {len(rows)} candidates, but there are {len(survivors)} crystals")
    curves = None
    if "predicted_dos" in survivors.atom_columns and len(survivors):
        sums = np.add.reduceat(survivors.atom_columns["predicted_dos"], survivors.offsets[:-1], axis=0)
        curves = sums / survivors.n_atoms[:, None]
    taken = select(
        np.array([np.inf if row["score"] is None else row["score"] for row in rows]),
        np.array([np.nan if row.get("uncertainty") is None else row["uncertainty"] for row in rows]),
        curves,
        count.value,
        checked(SelectionWeights, weights, "weights"),
    )
    return Dict({"selected": [{"candidate": rows[one.place]["candidate"], "reason": one.reason} for one in taken]})


@content_function
def extract_candidate(crystals: CrystalSetData, candidate: Int) -> StructureData:
    """Return one crystal as a structure, with its formula as the label.

    :param candidate: its number in the column ``candidate``, or its row where crystals have no such column.
    """
    return structure_of(crystals.crystals[row_of(crystals.crystals, candidate.value)])


@content_function
def crystals_from_structure(structure: StructureData) -> CrystalSetData:
    """Return a structure as a set of one crystal."""
    return CrystalSetData(crystal_of(structure))


@content_function
def projected_dos(structure: StructureData, bands: BandsData, projections: ProjectionData, parameters: Dict) -> CrystalSetData:
    """Return the crystal with its per-atom DOS from the outputs of pw.x and projwfc.x.

    The electrons are counted and stored with the DOS; :func:`score_dos` checks them.

    :param bands: ``output_band`` of pw.x (nscf).
    :param projections: of projwfc.x.
    :param parameters: ``output_parameters`` of pw.x.
    """
    return CrystalSetData(projected_crystal(structure, bands, projections, parameters))


@content_function
def score_dos(dos: CrystalSetData, target: DosTargetData) -> Dict | ExitCode:
    """Compare the DOS of one crystal with the target; a DOS that does not hold the electrons gets no score.

    :param dos: one crystal from :func:`projected_dos`.
    :return: ``mae``, ``mae_window`` (±3 eV) and ``mae_total`` in states/eV/atom, ``wasserstein`` in eV, ``compared_below`` in
        eV (None: the whole grid), ``n_electrons`` and ``projected_electrons``.
    """
    crystal, wanted = dos.crystals, target.target
    if len(crystal) != 1 or "dos" not in crystal.atom_columns:
        raise ContentError(
            f"{len(crystal)} crystals with columns {sorted(crystal.atom_columns)}; give one crystal with its dos"
        )
    problem = electrons_problem(crystal)
    if problem:
        return ExitCode(ELECTRONS_MISSING, problem)
    values = {name: column[0] for name, column in crystal.crystal_columns.items()}
    return Dict(
        storable(
            {
                **wanted.distances(crystal.atom_columns["dos"], float(values["complete_below"])),
                "compared_below": min(float(values["complete_below"]), wanted.complete_below),
                "n_electrons": values["n_electrons"],
                "projected_electrons": values["projected_electrons"],
                "n_atoms": len(crystal.numbers),
                "formula": crystal.formulas[0],
            }
        )
    )


@content_function
def target_from_pdos(
    structure: StructureData, bands: BandsData, projections: ProjectionData, parameters: Dict
) -> DosTargetData:
    """Return the per-site target that a structure's own DOS makes; arguments as in :func:`projected_dos`."""
    return DosTargetData(target_of(structure, bands, projections, parameters), label_source="pw.x and projwfc.x")


@content_function
def target_from_labelled(crystals: CrystalSetData, index: Int) -> DosTargetData:
    """Return the per-site target that one labelled crystal makes.

    :param index: its row.
    """
    return DosTargetData.from_labelled(crystals, index.value)


@content_function
def combine_targets(sites: Dict, n_atoms: Int | None = None, **targets: DosTargetData) -> DosTargetData:
    """Join targets for different sites of a crystal into one.

    :param sites: {name: [indices of atoms]} of the targets, by the names under which they are given; one that is for chosen
        sites already may be left out. One curve, total or not, may go to several sites.
    :param n_atoms: atoms of a candidate, if that is known; it may be more than the sites that have a target.
    """
    places = sites.get_dict()
    stray = sorted(set(places) - set(targets))
    if stray:
        raise ContentError(f"sites are given for {stray[0]!r}, but there is no target of this name")
    names = sorted(targets)
    target = DosTarget.combine(
        [(targets[name].target, places.get(name)) for name in names],
        None if n_atoms is None else n_atoms.value,
        names=names,
    )
    return DosTargetData(target, label_source=f"the targets {', '.join(names)}")


@content_function
def assemble_labelled(
    crystals: CrystalSetData, settings: Dict | None = None, failures: Dict | None = None, **runs: Any
) -> LabelledCrystalSetData:
    """Collect the labels of many crystals into one set.

    :param crystals: the crystals that were given to pw.x.
    :param settings: how the labels were computed; kept in the card.
    :param failures: {row: reason} of crystals that have no label; kept in the card.
    :param runs: for each labelled crystal, by its row i: ``bands_i``, ``parameters_i`` and ``trajectory_i`` of pw.x,
        ``projections_i`` of projwfc.x. Labels that cannot be used (a DOS that does not
        hold the electrons, a stress of 1000 GPa) are left out with the reason.
    """
    labelled, left_out = labels_of(crystals.crystals, runs, {} if settings is None else settings.get_dict())
    reasons = {**({} if failures is None else failures.get_dict()), **left_out}
    card = {
        "origin": "pw.x and projwfc.x through AiiDA",
        "crystals_sha256": crystals.sha256,
        "settings": {} if settings is None else settings.get_dict(),
        "given": len(crystals.crystals),
        "failed": reasons,
    }
    if not len(labelled):
        raise ContentError(f"no crystal has labels; the first reason: {next(iter(reasons.values()), 'none was given')}")
    return LabelledCrystalSetData(labelled, card=storable(card))


@content_function
def rank(report: Dict, failures: Dict | None = None, selection: Dict | None = None, **scores: Dict) -> Dict:
    """Put candidates in their final order: by DFT distance where there is one, then as the screening ranked them.

    :param report: of :func:`screen`.
    :param failures: {candidate: reason} of those whose validation failed; they come last.
    :param selection: of :func:`select_candidates`.
    :param scores: of :func:`score_dos`, as ``candidate_<number>``.
    :return: ``ranking``: the rows of the report with ``rank``, ``status`` (``validated``, ``not validated``, ``failed``), and
        ``dft`` (the score) or ``reason``, and ``selected`` (why it was computed by DFT).
    """
    by_candidate = {int(name.removeprefix("candidate_")): score.get_dict() for name, score in scores.items()}
    reasons = {} if failures is None else {int(k): v for k, v in failures.get_dict().items()}
    rows = report.get_dict()["ranking"]
    if selection is not None:
        chosen = {one["candidate"]: one["reason"] for one in selection.get_dict()["selected"]}
        rows = [{**row, "selected": chosen.get(row["candidate"])} for row in rows]
    return Dict(storable({"ranking": ranked(rows, by_candidate, reasons)}))


def checked(model: type[pydantic.BaseModel], node: Dict, name: str) -> Any:
    """Return the content of a node as a pydantic model.

    :raises ContentError: naming the key that is wrong.
    """
    try:
        return model.model_validate(node.get_dict())
    except pydantic.ValidationError as exception:
        raise ContentError(f"{name}: {explain(exception)}") from None


def row_of(crystals: Any, candidate: int) -> int:
    """Return the row of a candidate.

    :raises ContentError: if there is none, or more than one (sets of several seeds).
    """
    if "candidate" not in crystals.crystal_columns:
        rows = np.arange(len(crystals))[candidate : candidate + 1] if candidate >= 0 else np.array([], int)
    else:
        rows = np.flatnonzero(crystals.crystal_columns["candidate"] == candidate)
    if len(rows) != 1:
        raise ContentError(f"{len(rows)} of the {len(crystals)} crystals have the number {candidate}; one is needed")
    return int(rows[0])
