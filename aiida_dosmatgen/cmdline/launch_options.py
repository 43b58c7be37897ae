"""The options that several commands of ``launch`` have: models, targets, crystals and numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ..core.campaign import CampaignNumbers
from .options import option_from_field
from .params import CHECKPOINT, CRYSTALS, FORCE_FIELD, STRUCTURE, TARGET

OF_PROTOCOL = "By default the protocol's."

checkpoint_option = click.option(
    "--checkpoint", type=CHECKPOINT, default="dosmatgen-denoiser", show_default=True, help="The denoiser."
)
predictor_option = click.option(
    "--predictor", type=CHECKPOINT, default="dosmatgen-predictor", show_default=True, help="Predicts the DOS of crystals."
)
force_field_option = click.option(
    "--force-field", type=FORCE_FIELD, default="dosmatgen-forcefield", show_default=True, help="The force field."
)
classifier_option = click.option("--classifier", type=CHECKPOINT, help="Guides the sampling by its gradient.")
template_option = click.option("--template", type=STRUCTURE, help="Crystals to start from, or to hold parts of.")
candidates_option = option_from_field(CampaignNumbers, "n_candidates", "-n", "--n-candidates", note=OF_PROTOCOL)
jobs_option = option_from_field(CampaignNumbers, "n_jobs", default=None, note=OF_PROTOCOL)
phases_option = click.option("--phases", type=CRYSTALS, help="Known phases, for the hull.")
reserved_option = click.option(
    "--reserved",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=lambda _ctx, _param, file: None if file is None else file.read_text(encoding="utf-8").split(),
    help="A file of systems that are left out, as Ga-N, or of their digests.",
)
known_option = click.option("--known", type=CRYSTALS, help="Known crystals, for novelty.")
target_option = click.option("--target", type=TARGET, help="File, label or pk; without one, crystals are sampled freely.")
targets_option = click.option(
    "--target", "targets", multiple=True, required=True, type=TARGET, help="File, label or pk; may be repeated."
)
relax_option = click.option("--relax", is_flag=True, help="Let pw.x relax a crystal before it computes its DOS.")
concurrent_option = option_from_field(CampaignNumbers, "max_concurrent", default=None, note=OF_PROTOCOL)


def search_options(command: Callable) -> Callable:
    """Give a command the models, crystals and numbers of every search: a decorator."""
    options = (
        checkpoint_option, predictor_option, force_field_option, classifier_option, template_option, phases_option,
        known_option, candidates_option, jobs_option,
    )  # fmt: skip
    for option in reversed(options):  # the help has them in this order
        command = option(command)
    return command
