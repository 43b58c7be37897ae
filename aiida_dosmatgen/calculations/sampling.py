"""Checks across the inputs of sampling, before a job is submitted.

The executable checks all of this and more again, where it knows the model; here it costs no job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..core.constraints.constraints import own_size, resolve
from ..core.crystals import CrystalSet
from ..core.errors import ContentError
from ..core.job import SampleParameters, SizeRange
from ..core.strict import explain
from ..data.checkpoint import CheckpointData
from ..data.conversion import StructureData, crystal_of
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData


def problem_of_sampling(
    inputs: Mapping[str, Any],
    checkpoint: CheckpointData | None,
    target: DosTargetData | None,
    target_follows: bool = False,
) -> str | None:
    """Say what does not fit together, or None.

    :param inputs: with ``parameters``, and ``classifier`` and ``template`` if they are given. Without ``parameters`` an outer
        work chain has excluded them, and nothing is checked.
    :param target_follows: the target is not known yet; what depends on it is not checked.
    """
    if inputs.get("parameters") is None:
        return None
    try:
        parameters = SampleParameters.model_validate(inputs["parameters"].get_dict())
    except ValidationError as exception:
        return f"parameters: {explain(exception)}"
    return (
        _problem_of_guidance(parameters, checkpoint, inputs.get("classifier"), target is not None or target_follows)
        or _problem_of_template(parameters, checkpoint, inputs.get("template"))
        or (None if target is None else _problem_of_size(parameters, target))
        or _problem_of_constraints(parameters, checkpoint, inputs.get("template"), target)
        or _problem_of_compositions(parameters, checkpoint)
    )


def _problem_of_guidance(
    parameters: SampleParameters, checkpoint: CheckpointData | None, classifier: CheckpointData | None, has_target: bool
) -> str | None:
    if parameters.guidance != "classifier":
        if classifier is None:
            return None
        return f"a classifier is given, but guidance is {parameters.guidance!r}; set guidance to 'classifier', or leave it out"
    if classifier is None:
        return "guidance is 'classifier', but none is given; give a checkpoint of kind classifier as the input classifier"
    if not has_target:
        return "guidance is 'classifier', but there is no target to guide to; give one, or set guidance to 'none'"
    if checkpoint is None:
        return None
    unknown = sorted(set(_elements(checkpoint)) - set(_elements(classifier)))
    if unknown:
        return f"the classifier does not know {', '.join(unknown)}, which the denoiser makes; train it on the same elements"
    if checkpoint.base.attributes.get("grid") != classifier.base.attributes.get("grid"):
        return "the classifier has another energy grid than the denoiser; train both on the same data"
    return None


def _problem_of_template(
    parameters: SampleParameters, checkpoint: CheckpointData | None, template: CrystalSetData | StructureData | None
) -> str | None:
    users = _users_of_template(parameters)
    if template is None:
        return f"{users[0]} needs a template; give structures as the input template" if users else None
    if not users:
        return "a template is given, but nothing uses it; set start_time, or take something from it in constraints"
    if checkpoint is not None and any(user == "start_time" or user.endswith(".element") for user in users):
        symbols = (
            template.base.attributes.get("elements") if isinstance(template, CrystalSetData) else template.get_symbols_set()
        )
        unknown = sorted(set(symbols) - set(_elements(checkpoint)))
        if unknown:
            return f"the template has {', '.join(unknown)}, which the denoiser does not know; {users[0]} cannot use it"
    return None


def _problem_of_constraints(
    parameters: SampleParameters,
    checkpoint: CheckpointData | None,
    template: CrystalSetData | StructureData | None,
    target: DosTargetData | None,
) -> str | None:
    """Resolve the constraints of all templates, where one number of atoms is known beforehand."""
    if checkpoint is None or (parameters.constraints is None and parameters.start_time is None):
        return None
    wanted = parameters.n_atoms
    if wanted is None and target is not None:
        wanted = target.base.attributes.get("n_atoms", None) if target.base.attributes.get("kind", None) == "sites" else None
    if isinstance(wanted, list | SizeRange):
        return None
    start = parameters.start_time is not None
    try:
        for crystal in [None] if template is None else crystals_of(template):
            n_template = None if crystal is None else int(crystal.n_atoms[0])
            size = wanted or (n_template if start else own_size(parameters.constraints, n_template))
            if size is not None:
                resolve(parameters.constraints, size, _elements(checkpoint), crystal, start=start)
    except ContentError as exception:
        return str(exception)
    return None


def _problem_of_compositions(parameters: SampleParameters, checkpoint: CheckpointData | None) -> str | None:
    if parameters.compositions is None or checkpoint is None:
        return None
    if checkpoint.base.attributes.get("architecture", {}).get("composition"):
        return None
    return "compositions are asked for, but the denoiser proposes none; leave compositions out, or train one that does"


def crystals_of(template: CrystalSetData | StructureData) -> CrystalSet:
    """Return the crystals of a template.

    :raises ContentError: for a structure that is no crystal.
    """
    return crystal_of(template) if isinstance(template, StructureData) else template.crystals


def _users_of_template(parameters: SampleParameters) -> list[str]:
    """Return the keys of the parameters that take something from a template."""
    start = ["start_time"] if parameters.start_time is not None else []
    held = parameters.constraints
    return start + ([] if held is None else [f"constraints.{name}" for name in held.from_template])


def _problem_of_size(parameters: SampleParameters, target: DosTargetData) -> str | None:
    """Compare the sizes asked for, where they are listed, with the sites of the target."""
    get = target.base.attributes.get
    wanted = parameters.n_atoms
    if get("kind", None) != "sites" or not isinstance(wanted, int | list):
        return None
    wanted = [wanted] if isinstance(wanted, int) else wanted
    exact, sites = get("n_atoms", None), get("sites", None)
    if exact is not None and exact not in wanted:
        return f"the target is for crystals of {exact} atoms, but n_atoms is {parameters.n_atoms}; leave n_atoms out"
    if sites is not None and wanted and max(wanted) <= max(sites):
        return (
            f"the target has a curve for atom {max(sites)}, counted from 0, but n_atoms is {parameters.n_atoms}; ask for more"
        )
    return None


def _elements(checkpoint: CheckpointData) -> list[str]:
    return checkpoint.base.attributes.get("elements", [])
