"""The commands of ``launch`` that search for crystals: candidates for one target, a campaign, and a loop that learns."""

from __future__ import annotations

from typing import Any

import click

from ..core.campaign import CampaignNumbers
from ..core.learning.settings import LearnSettings
from .group import Command
from .launch_inputs import named_targets
from .launch_options import (
    OF_PROTOCOL,
    concurrent_option,
    relax_option,
    reserved_option,
    search_options,
    target_option,
    targets_option,
)
from .launching import Submitting, Where, protocol_options, seed_option, submit, submit_options, where_jobs_run
from .options import option_from_field
from .params import DATASET


@click.command("candidates", cls=Command)
@target_option
@search_options
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


@click.command("campaign", cls=Command)
@targets_option
@search_options
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

    named = named_targets(targets)
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


@click.command("learn", cls=Command)
@click.argument("dataset", type=DATASET)
@targets_option
@click.option("--held-out", type=DATASET, help="Labelled crystals to evaluate checkpoints on; by default those kept for tests.")
@click.option("--pseudolabelled", type=DATASET, help="Crystals with predicted curves, which the denoiser rehearses too.")
@reserved_option
@search_options
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

    DATASET is what the models have learnt from; a part of it is rehearsed, and what the gate accepts is added to it.

    \b
    Example:
      aiida-dosmatgen launch learn my-dataset --target my_dos --protocol fast --budget 12 --wait
    """
    from ..workflows.learn import LearnWorkChain

    named = named_targets(targets)
    settings = {"budget": budget, "max_rounds": max_rounds, "top_k": top_k, "seed": seed}
    builder = LearnWorkChain.get_builder_from_protocol(
        codes={name: where.code(name) for name in ("dosmatgen", "pw", "projwfc")},
        targets=named,
        options=where.options,
        dft_options=where.dft_options,
        settings={**settings, "models": [] if no_learning else None},
        **inputs,
    )
    return submit(builder, f"loop for {', '.join(named)}", submitting)
