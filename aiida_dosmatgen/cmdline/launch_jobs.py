"""The commands of ``launch`` that take one step: a job of ``dosmatgen``, or the DFT of given crystals."""

from __future__ import annotations

from typing import Any, get_args

import click

from ..core.campaign import CampaignNumbers, LabelNumbers
from ..core.dft.pseudodojo import FAMILY
from ..core.kinds import ModelKind
from .group import Command
from .launch_inputs import as_crystals, job_builder, one_structure, reserved_input
from .launch_options import (
    OF_PROTOCOL,
    checkpoint_option,
    classifier_option,
    force_field_option,
    predictor_option,
    relax_option,
    reserved_option,
    target_option,
    template_option,
)
from .launching import (
    Submitting,
    Where,
    parameters_option,
    protocol_options,
    seed_option,
    submit,
    submit_options,
    where_jobs_run,
)
from .options import option_from_field
from .params import CRYSTALS, PARENT, STRUCTURE, TARGET, TRAINING_SET


@click.command("sample", cls=Command)
@target_option
@checkpoint_option
@classifier_option
@template_option
@option_from_field(CampaignNumbers, "n_candidates", "-n", "--n-candidates", default=16)
@seed_option
@parameters_option("SampleParameters")
@where_jobs_run("dosmatgen")
@submit_options
def sample(n_candidates: int, seed: int, parameters: dict[str, Any], where: Where, submitting: Submitting, **nodes: Any) -> int:
    """Sample crystals, and do nothing else with them.

    \b
    Example:
      aiida-dosmatgen launch sample --target my_dos -n 16 -P steps=20 -P constraints.formula=GaAs
    """
    from aiida.orm import Dict, Int, List

    from ..workflows.base import SampleBaseWorkChain

    if nodes["classifier"] is not None:
        parameters.setdefault("guidance", "classifier")
    inputs = {
        **{name: node for name, node in nodes.items() if node is not None},
        "seed": Int(seed),
        "candidates": List([0, n_candidates]),
        "parameters": Dict(parameters),
    }
    return submit(job_builder(SampleBaseWorkChain, "sample", inputs, where), "sample", submitting)


@click.command("relax", cls=Command)
@click.argument("crystals", type=STRUCTURE)
@force_field_option
@parameters_option("RelaxParameters")
@where_jobs_run("dosmatgen")
@submit_options
def relax(crystals: Any, force_field: Any, parameters: dict[str, Any], where: Where, submitting: Submitting) -> int:
    """Relax crystals with a force field: a file (npz, extxyz, cif, POSCAR, …), a set of crystals, or a structure.

    \b
    Example:
      aiida-dosmatgen launch relax crystals.extxyz -P fmax=0.02
    """
    from aiida.orm import Dict

    from ..workflows.base import RelaxBaseWorkChain

    inputs = {"crystals": as_crystals(crystals), "force_field": force_field, "parameters": Dict(parameters)}
    return submit(job_builder(RelaxBaseWorkChain, "relax", inputs, where), "relax", submitting)


@click.command("train", cls=Command)
@click.argument("dataset", type=TRAINING_SET)
@click.option("--model", type=click.Choice(get_args(ModelKind)), default="denoiser", show_default=True, help="What is trained.")
@click.option("--parent", type=PARENT, help="A checkpoint or force field to continue from.")
@click.option(
    "--pseudolabelled",
    type=TRAINING_SET,
    help="Crystals with predicted curves, which a denoiser sees besides; for a force field frames of a teacher.",
)
@seed_option
@parameters_option("TrainParameters")
@where_jobs_run("dosmatgen")
@submit_options
def train(
    dataset: Any, model: str, seed: int, parameters: dict[str, Any], where: Where, submitting: Submitting, **optional: Any
) -> int:
    """Train a model on labelled crystals, or a force field on frames of another, until all epochs are done.

    \b
    Examples:
      aiida-dosmatgen launch train my-dataset --model predictor -P epochs=40
      aiida-dosmatgen launch train frames.npz --model forcefield -P batched.at_rest=true
    """
    from aiida.orm import Dict, Int

    from ..workflows.base import TrainBaseWorkChain

    inputs = {"dataset": dataset, "parameters": Dict({"model": model, **parameters}), "seed": Int(seed)}
    inputs |= {name: node for name, node in optional.items() if node is not None}
    return submit(job_builder(TrainBaseWorkChain, "train", inputs, where), f"train {model}", submitting)


@click.command("crystals", cls=Command)
@click.option("--structures", multiple=True, type=CRYSTALS, help="Real crystals with source and id; may be repeated.")
@click.option("--pseudo-family", default=FAMILY, show_default=True, help="Crystals of other elements are left out.")
@reserved_option
@seed_option
@parameters_option("CrystalsParameters")
@where_jobs_run("dosmatgen")
@submit_options
def crystals_(
    structures: tuple[Any, ...],
    pseudo_family: str,
    reserved: list[str] | None,
    seed: int,
    parameters: dict[str, Any],
    where: Where,
    submitting: Submitting,
) -> int:
    """Make the crystals of a data set, in the order in which to label them: the elements, then cheap ones first, balanced.

    \b
    Example:
      aiida-dosmatgen launch crystals -P elements="[Ti, O, N]" -P substituted=50
    """
    from aiida.orm import Dict, Int

    from ..workflows.base import CrystalsBaseWorkChain
    from ..workflows.pseudos import pseudos_of

    pseudos = pseudos_of(pseudo_family, parameters.get("elements"))
    inputs: dict[str, Any] = {"pseudos": pseudos, "parameters": Dict(parameters), "seed": Int(seed)}
    inputs["structures"] = {f"set_{number}": node for number, node in enumerate(structures)}
    inputs |= reserved_input(reserved)
    return submit(job_builder(CrystalsBaseWorkChain, "crystals", inputs, where), "crystals", submitting)


@click.command("pseudolabel", cls=Command)
@predictor_option
@force_field_option
@click.option("--crystals", type=CRYSTALS, help="Further crystals, as `launch crystals` makes them of real ones.")
@reserved_option
@seed_option
@parameters_option("PseudolabelParameters")
@where_jobs_run("dosmatgen")
@submit_options
def pseudolabel(
    crystals: Any,
    reserved: list[str] | None,
    seed: int,
    parameters: dict[str, Any],
    where: Where,
    submitting: Submitting,
    **nodes: Any,
) -> int:
    """Predict the DOS of many crystals, new and given ones, for a denoiser to learn from besides labelled ones.

    \b
    Example:
      aiida-dosmatgen launch pseudolabel -P elements="[Si, C]" -P count=1000
    """
    from aiida.orm import Dict, Int

    from ..workflows.base import PseudolabelBaseWorkChain

    inputs = {**nodes, "parameters": Dict(parameters), "seed": Int(seed), **reserved_input(reserved)}
    if crystals is not None:
        inputs["crystals"] = crystals
    return submit(job_builder(PseudolabelBaseWorkChain, "pseudolabel", inputs, where), "pseudolabel", submitting)


@click.command("frames", cls=Command)
@click.argument("crystals", type=CRYSTALS)
@force_field_option
@reserved_option
@seed_option
@parameters_option("FramesParameters")
@where_jobs_run("dosmatgen")
@submit_options
def frames(
    crystals: Any,
    force_field: Any,
    reserved: list[str] | None,
    seed: int,
    parameters: dict[str, Any],
    where: Where,
    submitting: Submitting,
) -> int:
    """Compute energies, forces and stresses of many frames with a force field, for a smaller one to learn from.

    \b
    Example:
      aiida-dosmatgen launch frames crystals.npz --force-field my-teacher -P count=1000
    """
    from aiida.orm import Dict, Int

    from ..workflows.base import FramesBaseWorkChain

    inputs = {"crystals": crystals, "force_field": force_field, "parameters": Dict(parameters), "seed": Int(seed)}
    return submit(
        job_builder(FramesBaseWorkChain, "frames", {**inputs, **reserved_input(reserved)}, where), "frames", submitting
    )


@click.command("label", cls=Command)
@click.argument("crystals", type=CRYSTALS)
@option_from_field(LabelNumbers, "max_concurrent", default=None, note=OF_PROTOCOL)
@protocol_options("fast")
@where_jobs_run("pw", "projwfc")
@submit_options
def label(crystals: Any, where: Where, submitting: Submitting, **inputs: Any) -> int:
    """Compute energy, forces and the DOS of each atom of many crystals: a data set with provenance.

    \b
    Example:
      aiida-dosmatgen launch label crystals.extxyz
    """
    from ..workflows.label import LabelWorkChain

    builder = LabelWorkChain.get_builder_from_protocol(
        where.code("pw"), where.code("projwfc"), crystals, options=where.dft_options, **inputs
    )
    return submit(builder, "label", submitting)


@click.command("validate", cls=Command)
@click.argument("structure", type=STRUCTURE)
@click.option("--target", type=TARGET, required=True, help="File, label or pk.")
@click.option("--candidate", type=click.IntRange(0), help="Of a set of crystals: the candidate's number.")
@relax_option
@protocol_options()
@where_jobs_run("pw", "projwfc")
@submit_options
def validate(
    structure: Any,
    target: Any,
    candidate: int | None,
    where: Where,
    submitting: Submitting,
    protocol: str,
    overrides: dict,
    relax: bool,
) -> int:
    """Compute the DOS of one crystal by DFT, and its distance from a target.

    STRUCTURE is a file (cif, POSCAR, …), a structure, or a set of crystals of which --candidate chooses one.

    \b
    Example:
      aiida-dosmatgen launch validate my_crystal.cif --target my_dos --protocol fast
    """
    from ..workflows.validate import ValidateWorkChain

    builder = ValidateWorkChain.get_builder_from_protocol(
        where.code("pw"),
        where.code("projwfc"),
        structure=one_structure(structure, candidate),
        target=target,
        protocol=protocol,
        overrides=overrides,
        options=where.dft_options,
        relax=relax,
    )
    return submit(builder, "validate", submitting)
