"""``aiida-dosmatgen launch``: work chains from files and labels."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any, get_args

import click

from ..core.campaign import CampaignNumbers
from ..core.dft.pseudodojo import FAMILY as PSEUDO_FAMILY
from ..core.errors import ContentError
from ..core.kinds import ModelKind
from ..core.learning.settings import LearnSettings
from .group import Group
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
from .params import CHECKPOINT, CRYSTALS, DATASET, FORCE_FIELD, PARENT, STRUCTURE, TARGET, TRAINING_SET

checkpoint_option = click.option(
    "--checkpoint", type=CHECKPOINT, default="dosmatgen-denoiser", show_default=True, help="The denoiser."
)
predictor_option = click.option(
    "--predictor", type=CHECKPOINT, default="dosmatgen-predictor", show_default=True, help="Predicts the DOS of candidates."
)
force_field_option = click.option(
    "--force-field", type=FORCE_FIELD, default="dosmatgen-forcefield", show_default=True, help="Relaxes the candidates."
)
classifier_option = click.option("--classifier", type=CHECKPOINT, help="Guides the sampling by its gradient.")
template_option = click.option("--template", type=STRUCTURE, help="Crystals to start from, or to hold parts of.")
OF_PROTOCOL = "By default the protocol's."
candidates_option = option_from_field(CampaignNumbers, "n_candidates", "-n", "--n-candidates", note=OF_PROTOCOL)
jobs_option = option_from_field(CampaignNumbers, "n_jobs", default=None, note=OF_PROTOCOL)
phases_option = click.option("--phases", type=CRYSTALS, help="Known phases, for the hull.")
reserved_option = click.option(
    "--reserved",
    type=click.Path(exists=True, path_type=Path),
    help="A file of systems that are left out, as Ga-N, or of their digests.",
)
known_option = click.option("--known", type=CRYSTALS, help="Known crystals, for novelty.")
targets_option = click.option(
    "--target", "targets", multiple=True, required=True, type=TARGET, help="File, label or pk; may be repeated."
)
relax_option = click.option("--relax", is_flag=True, help="Let pw.x relax the candidates before it computes their DOS.")
concurrent_option = option_from_field(CampaignNumbers, "max_concurrent", default=None, note=OF_PROTOCOL)


@click.group("launch", cls=Group)
def launch() -> None:
    """Submit work chains to the daemon: one step, or a whole campaign.

    Jobs run on --computer with what its codes ask for (see setup computer); --option takes precedence. Targets, models and
    crystals are given as files, or by label, pk or uuid.

    \b
    Example:
      aiida-dosmatgen launch campaign --target my_dos --protocol fast --wait
    """


@launch.command("campaign")
@targets_option
@checkpoint_option
@predictor_option
@force_field_option
@classifier_option
@template_option
@phases_option
@known_option
@candidates_option
@jobs_option
@option_from_field(CampaignNumbers, "top_k", note=OF_PROTOCOL)
@concurrent_option
@relax_option
@seed_option
@protocol_options()
@where_jobs_run("dosmatgen", "pw", "projwfc")
@submit_options
def campaign(targets: tuple[Any, ...], where: Where, submitting: Submitting, top_k: int | None, **inputs: Any) -> int:
    """For each target: candidates, the best of them computed by DFT, and a ranking.

    \b
    Example:
      aiida-dosmatgen launch campaign --target my_dos --protocol fast -n 64 --top-k 3 --wait
    """
    from ..workflows.campaign import CampaignWorkChain

    named = _named(targets)
    needed = ("dosmatgen",) if top_k == 0 else ("dosmatgen", "pw", "projwfc")
    builder = CampaignWorkChain.get_builder_from_protocol(
        codes={name: where.code(name) for name in needed},
        targets=named,
        options=where.options,
        dft_options=where.dft_options,
        top_k=top_k,
        **inputs,
    )
    return submit(builder, f"campaign for {', '.join(named)}", submitting)


@launch.command("learn")
@click.argument("dataset", type=DATASET)
@targets_option
@click.option("--held-out", type=DATASET, help="Labelled crystals to judge checkpoints by; by default those kept for tests.")
@click.option("--pseudolabelled", type=DATASET, help="Crystals with predicted curves, which the denoiser rehearses too.")
@click.option("--reserved", type=click.Path(exists=True, path_type=Path), help="A file of systems that never enter, as Ga-N.")
@checkpoint_option
@predictor_option
@force_field_option
@classifier_option
@template_option
@phases_option
@known_option
@candidates_option
@jobs_option
@option_from_field(LearnSettings, "budget", note=OF_PROTOCOL)
@option_from_field(LearnSettings, "max_rounds", note=OF_PROTOCOL)
@option_from_field(LearnSettings, "top_k", note=OF_PROTOCOL)
@concurrent_option
@click.option("--no-learning", is_flag=True, help="The same rounds with the models as they are, to compare with.")
@relax_option
@seed_option
@protocol_options()
@where_jobs_run("dosmatgen", "pw", "projwfc")
@submit_options
def learn(
    targets: tuple[Any, ...],
    reserved: Path | None,
    budget: int | None,
    max_rounds: int | None,
    top_k: int | None,
    seed: int,
    no_learning: bool,
    where: Where,
    submitting: Submitting,
    **inputs: Any,
) -> int:
    """Rounds of campaigns whose DFT results teach the models: candidates, DFT, the gate, fine-tuning, and the next round.

    DATASET is what the models have learnt from; a part of it is rehearsed, and what the gate lets in is added to it.

    \b
    Example:
      aiida-dosmatgen launch learn my-dataset --target my_dos --protocol fast --budget 12 --wait
    """
    from ..workflows.learn import LearnWorkChain

    named = _named(targets)
    settings = {"budget": budget, "max_rounds": max_rounds, "top_k": top_k, "seed": seed}
    builder = LearnWorkChain.get_builder_from_protocol(
        codes={name: where.code(name) for name in ("dosmatgen", "pw", "projwfc")},
        targets=named,
        options=where.options,
        dft_options=where.dft_options,
        reserved=reserved.read_text(encoding="utf-8").split() if reserved is not None else None,
        settings={**settings, "models": [] if no_learning else None},
        **inputs,
    )
    return submit(builder, f"loop for {', '.join(named)}", submitting)


@launch.command("candidates")
@click.option("--target", type=TARGET, help="File, label or pk; without one, crystals are sampled freely.")
@checkpoint_option
@predictor_option
@force_field_option
@classifier_option
@template_option
@phases_option
@known_option
@candidates_option
@jobs_option
@seed_option
@protocol_options()
@where_jobs_run("dosmatgen")
@submit_options
def candidates(target: Any, where: Where, submitting: Submitting, **inputs: Any) -> int:
    """Sample, relax, predict and screen for one target, without DFT.

    \b
    Example:
      aiida-dosmatgen launch candidates --target my_dos --protocol fast -n 32
    """
    from ..workflows.candidates import CandidatesWorkChain

    builder = CandidatesWorkChain.get_builder_from_protocol(where.code("dosmatgen"), target, options=where.options, **inputs)
    return submit(builder, f"candidates for {target.label or target.pk}" if target else "free candidates", submitting)


@launch.command("sample")
@click.option("--target", type=TARGET, help="File, label or pk; without one, crystals are sampled freely.")
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
    return submit(_base(SampleBaseWorkChain, "sample", inputs, where), "sample", submitting)


@launch.command("relax")
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

    inputs = {"crystals": _as_crystals(crystals), "force_field": force_field, "parameters": Dict(parameters)}
    return submit(_base(RelaxBaseWorkChain, "relax", inputs, where), "relax", submitting)


@launch.command("validate")
@click.argument("structure", type=STRUCTURE)
@click.option("--target", type=TARGET, required=True, help="File, label or pk.")
@click.option("--candidate", type=click.IntRange(0), help="Of a set of crystals: the candidate's number.")
@click.option("--relax", is_flag=True, help="Let pw.x relax the structure before it computes its DOS.")
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
        structure=_one_structure(structure, candidate),
        target=target,
        protocol=protocol,
        overrides=overrides,
        options=where.dft_options,
        relax=relax,
    )
    return submit(builder, "validate", submitting)


@launch.command("train")
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
    return submit(_base(TrainBaseWorkChain, "train", inputs, where), f"train {model}", submitting)


@launch.command("crystals")
@click.option("--structures", multiple=True, type=CRYSTALS, help="Real crystals with source and id; may be repeated.")
@click.option("--pseudo-family", default=PSEUDO_FAMILY, show_default=True, help="Crystals of other elements are left out.")
@reserved_option
@seed_option
@parameters_option("CrystalsParameters")
@where_jobs_run("dosmatgen")
@submit_options
def crystals_(
    structures: tuple[Any, ...],
    pseudo_family: str,
    reserved: Path | None,
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
    inputs |= _reserved(reserved)
    return submit(_base(CrystalsBaseWorkChain, "crystals", inputs, where), "crystals", submitting)


@launch.command("pseudolabel")
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
    reserved: Path | None,
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

    inputs = {**nodes, "parameters": Dict(parameters), "seed": Int(seed), **_reserved(reserved)}
    if crystals is not None:
        inputs["crystals"] = crystals
    return submit(_base(PseudolabelBaseWorkChain, "pseudolabel", inputs, where), "pseudolabel", submitting)


@launch.command("frames")
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
    reserved: Path | None,
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
    return submit(_base(FramesBaseWorkChain, "frames", {**inputs, **_reserved(reserved)}, where), "frames", submitting)


@launch.command("label")
@click.argument("crystals", type=CRYSTALS)
@click.option("--max-concurrent", type=click.IntRange(1), help="How many crystals at a time; by default the protocol's.")
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


# --- helpers -----------------------------------------------------------------------------------------------------------------


def _reserved(file: Path | None) -> dict[str, Any]:
    """Return the input of reserved systems, as far as there is a file of them."""
    from aiida.orm import List

    return {} if file is None else {"reserved": List(file.read_text(encoding="utf-8").split())}


def _named(targets: tuple[Any, ...]) -> dict[str, Any]:
    """Return targets by names that a link can have: their labels, or their numbers.

    :raises ContentError: if two have one name.
    """
    named: dict[str, Any] = {}
    for node in targets:
        label = node.label or Path(node.base.attributes.get("label_source", None) or "").stem
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
        name = re.sub(r"_+", "_", re.sub(r"\W", "_", plain)).strip("_") or f"target_{node.pk}"
        name = f"target_{name}" if name[0].isdigit() else name
        if name in named:
            raise ContentError(
                f"two targets are called {name}; give one another label: aiida-dosmatgen target import … --label"
            )
        named[name] = node
    return named


def _base(work_chain: Any, kind: str, inputs: dict[str, Any], where: Where) -> Any:
    """Return the builder of one job that is submitted again until it is complete."""
    from ..workflows.protocols.utils import job_metadata

    code = where.code("dosmatgen")
    builder = work_chain.get_builder()
    builder[kind] = {**inputs, "code": code, "metadata": job_metadata({}, where.options, code)}
    return builder


def _as_crystals(node: Any) -> Any:
    """Return a structure as a set of one crystal, by a calcfunction; a set of crystals as it is."""
    from ..calculations.functions import crystals_from_structure
    from ..data.crystals import CrystalSetData

    return node if isinstance(node, CrystalSetData) else crystals_from_structure(node)


def _one_structure(node: Any, candidate: int | None) -> Any:
    """Return one crystal of a set as a structure, by a calcfunction; a structure as it is.

    :raises ContentError: if it is not said which one.
    """
    from aiida.orm import Int

    from ..calculations.functions import extract_candidate
    from ..data.crystals import CrystalSetData

    if not isinstance(node, CrystalSetData):
        if candidate is not None:
            raise ContentError("--candidate chooses from a set of crystals, but this is one structure; leave it out")
        return node
    count = node.base.attributes.get("n_crystals")
    if candidate is None and count != 1:
        raise ContentError(f"there are {count} crystals in {node.label or node.pk}; choose one: --candidate NUMBER")
    if candidate is None:
        crystals = node.crystals
        candidate = int(crystals.crystal_columns["candidate"][0]) if "candidate" in crystals.crystal_columns else 0
    structure, process = extract_candidate.run_get_node(crystals=node, candidate=Int(candidate))
    if not process.is_finished_ok:
        raise ContentError(process.exit_message)
    return structure
