"""The results of a campaign, one object for each ranked crystal, read in a constant number of queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import LinkType

from ..calculations.functions.scoring import scored_curves
from ..core.crystals import CrystalSet
from ..core.curve_columns import curves_of
from ..core.target import DosTarget
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData
from .ranking import ranking_content, ranking_node

CAMPAIGN = "aiida.workflows:dosmatgen.campaign"


@dataclasses.dataclass(frozen=True)
class RankedCrystal:
    """One crystal of a campaign's ranking.

    :param target: the name of the target that it was made for.
    :param row: its row of the ranking, with ``status``, distances and energies.
    :param crystal: a set of this one crystal: as DFT computed it if it was validated, in the geometry in
        which it was ranked otherwise.
    :param predicted: predicted DOS in states/eV for each atom on the energies of the target, shape (n_atoms, n); None if there
        is none.
    :param dft: the same by DFT; None if it was not validated.
    :param complete_below: energy in eV up to which the bands behind ``dft`` are complete.
    :param energy: of the force field, in eV per atom; None if unknown.
    :param low: energy in eV from which ``dft`` is known.
    :param predicted_window: energies in eV from and up to which ``predicted`` is known.
    """

    target: str
    row: Mapping[str, Any]
    crystal: CrystalSet
    predicted: np.ndarray | None
    dft: np.ndarray | None
    complete_below: float
    energy: float | None
    low: float = -np.inf
    predicted_window: tuple[float, float] = (-np.inf, np.inf)

    @property
    def validated(self) -> bool:
        """Whether DFT has computed it."""
        return self.row["status"] == "validated"


@dataclasses.dataclass(frozen=True)
class CampaignResults:
    """The results of a campaign.

    :param targets: by their names; those that are sharper than the curves of crystals are broadened as these are.
    :param crystals: of all targets, each target's best first.
    :param funnels: for each target how many candidates were left after each criterion, in order.
    :param rejected: for each target, by reason, how many candidates fell to it.
    :param failed: why targets have no candidates.
    """

    targets: dict[str, DosTarget]
    crystals: list[RankedCrystal]
    funnels: dict[str, dict[str, int]]
    rejected: dict[str, dict[str, int]]
    failed: dict[str, str]


def check_campaign(node: orm.Node) -> None:
    """Refuse what is no campaign with a ranking.

    :raises ValueError: in one line.
    """
    if not isinstance(node, orm.WorkChainNode) or node.process_type != CAMPAIGN:
        kind = getattr(node, "process_label", None) or type(node).__name__
        raise ValueError(f"{kind}<{node.pk}> is no campaign; give a CampaignWorkChain")
    ranking_node(node)


def results_of(campaign: orm.WorkChainNode) -> CampaignResults:
    """Read what came out of a campaign.

    :raises ValueError: if the node is no campaign, or has no ranking (yet).
    """
    check_campaign(campaign)
    ranking = ranking_content(campaign)
    targets = {name: node.target.beside() for name, node in _of_namespace(campaign, LinkType.INPUT_WORK, "targets").items()}
    survivors = _of_namespace(campaign, LinkType.RETURN, "candidates")
    reports = {name: node.get_dict() for name, node in _of_namespace(campaign, LinkType.RETURN, "reports").items()}
    rows = [row for rows in ranking["targets"].values() for row in rows]
    computed = _computed([row["validation"] for row in rows if row["status"] == "validated" and "validation" in row])
    crystals = [
        crystal
        for name, rows in ranking["targets"].items()
        if name in survivors
        for crystal in _ranked(name, targets[name], rows, survivors[name].crystals, computed)
    ]
    return CampaignResults(
        targets=targets,
        crystals=crystals,
        funnels={name: report.get("funnel", {}) for name, report in reports.items()},
        rejected={
            name: {reason: len(candidates) for reason, candidates in report.get("rejected", {}).items()}
            for name, report in reports.items()
        },
        failed=ranking.get("failed", {}),
    )


def compared(target: DosTarget, crystal: RankedCrystal, dos: np.ndarray) -> np.ndarray:
    """Return the DOS of the atoms that are compared with the target's curves.

    :param dos: of all atoms of the crystal, shape (n_atoms, n).
    :return: in the order of the target's curves if each has its atom, shape (n_curves, n); of all atoms otherwise.
    """
    fits = len(dos) == len(target.curves) if target.sites is None else len(dos) >= len(target.curves)
    if target.kind != "sites" or not fits:
        return dos
    return dos[target.match(dos, crystal.complete_below)]


def _of_namespace(node: orm.Node, link: LinkType, namespace: str) -> dict[str, Any]:
    """Return the nodes of a namespace of ports by their names in it."""
    entries = (node.base.links.get_incoming if link is LinkType.INPUT_WORK else node.base.links.get_outgoing)(link_type=link)
    prefix = f"{namespace}__"
    found = {entry.link_label.removeprefix(prefix): entry.node for entry in entries if entry.link_label.startswith(prefix)}
    return dict(sorted(found.items()))


def _computed(validations: list[str]) -> dict[str, CrystalSet]:
    """Return by the uuid of each validation the crystal that DFT computed, with its DOS."""
    if not validations:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={"uuid": {"in": validations}}, project="uuid", tag="validation")
    edge = {"type": LinkType.RETURN.value, "label": "dos"}
    query.append(CrystalSetData, with_incoming="validation", edge_filters=edge, project="*")
    return {uuid: node.crystals for uuid, node in query.all()}


def _ranked(
    target: str, wanted: DosTarget, rows: list[dict[str, Any]], survivors: CrystalSet, computed: Mapping[str, CrystalSet]
) -> list[RankedCrystal]:
    columns = survivors.crystal_columns
    place = {int(candidate): i for i, candidate in enumerate(columns.get("candidate", range(len(survivors))))}
    crystals = []
    for row in rows:
        crystal, dft, low, complete_below = survivors[place[row["candidate"]]], None, -np.inf, np.inf
        predicted, window = crystal.atom_columns.get("predicted_dos"), (-np.inf, np.inf)
        if predicted is not None and np.isfinite(predicted).all():
            foreseen = curves_of(crystal, column="predicted_dos")
            predicted, window = foreseen.on(wanted.dos.energies).sites, (foreseen.low, foreseen.high)
        else:
            predicted = None
        energy = float(crystal.crystal_columns["energy"][0]) / len(crystal.numbers) if "energy" in columns else np.nan
        if row.get("validation") in computed:
            crystal = computed[row["validation"]]  # pw.x may have relaxed it
            curves = scored_curves(crystal, wanted)
            dft, low, complete_below = curves.on(wanted.dos.energies).sites, curves.low, curves.high
            if "dos_low" not in crystal.crystal_columns:
                complete_below = float(crystal.crystal_columns["complete_below"][0])
        crystals.append(
            RankedCrystal(
                target=target,
                row=row,
                crystal=CrystalSet(crystal.n_atoms, crystal.numbers, crystal.fractional, crystal.lattices),
                predicted=predicted,
                dft=dft,
                low=low,
                predicted_window=window,
                complete_below=complete_below,
                energy=energy if np.isfinite(energy) else None,
            )
        )
    return crystals


def target_nodes(campaign: orm.WorkChainNode) -> dict[str, DosTargetData]:
    """Return the nodes of a campaign's targets by their names."""
    return _of_namespace(campaign, LinkType.INPUT_WORK, "targets")


def scores_of(validations: list[str]) -> dict[str, str]:
    """Return the uuid of the score of each validation, in the given order, by the validation's uuid."""
    if not validations:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={"uuid": {"in": validations}}, project="uuid", tag="validation")
    edge = {"type": LinkType.RETURN.value, "label": "score"}
    query.append(orm.Dict, with_incoming="validation", edge_filters=edge, project="uuid")
    found = dict(query.all())
    return {uuid: found[uuid] for uuid in validations if uuid in found}
