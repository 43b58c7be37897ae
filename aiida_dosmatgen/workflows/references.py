"""Relaxation parameters of the elements, and their energies in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiida import orm

from ..core.job import RelaxParameters
from ..data.forcefield import ForceFieldData


def reference_parameters(parameters: Mapping) -> dict:
    """Return the relaxation parameters of elements and known phases: those of the candidates, but never without steps.

    :param parameters: of the candidates, as in :class:`~aiida_dosmatgen.core.job.RelaxParameters`.
    """
    return {key: value for key, value in parameters.items() if key != "max_steps" or value > 0}


def stored_references(force_field: ForceFieldData, parameters: Mapping, elements: Iterable[str]) -> orm.Dict | None:
    """Return energies of the elements that an earlier job computed with the same force field and settings, or None.

    A force field that is a file is known by its hash, one that is a name by its node.

    :param parameters: as in :class:`~aiida_dosmatgen.core.job.RelaxParameters`.
    :param elements: which the energies must have been asked for.
    """
    same = {"uuid": force_field.uuid} if force_field.sha256 is None else {"attributes.sha256": force_field.sha256}
    builder = (
        orm.QueryBuilder()
        .append(ForceFieldData, filters=same, tag="force_field")
        .append(
            orm.CalcJobNode,
            with_incoming="force_field",
            filters={"process_type": "aiida.calculations:dosmatgen.references", "attributes.exit_status": 0},
            tag="job",
        )
        .append(orm.Dict, with_outgoing="job", edge_filters={"label": "parameters"}, project="attributes")
        .append(orm.Dict, with_incoming="job", edge_filters={"label": "references"}, tag="references", project="*")
        .order_by({"references": {"ctime": "desc"}})
    )
    wanted, needed = RelaxParameters.model_validate(dict(parameters)), set(elements)
    for used, references in builder.iterall():
        if RelaxParameters.model_validate(used) == wanted and needed <= set(references.base.attributes.get("elements")):
            return references
    return None
