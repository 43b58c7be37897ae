"""What a loop begins with: which inputs do not go together, and those that a protocol makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder, WorkChain
from aiida_quantumespresso.workflows.protocols.utils import recursive_merge

from ...core.job import TrainParameters
from ...core.learning.settings import GateCriteria, LearnSettings
from ...data.checkpoint import CheckpointData
from ...data.conversion import StructureData
from ...data.crystals import CrystalSetData
from ...data.forcefield import ForceFieldData
from ...data.labelled import LabelledCrystalSetData
from ...data.target import DosTargetData
from ..campaign import CampaignWorkChain
from ..protocols.utils import StrictProtocolMixin, checked, inputs_of, job_metadata, load

KINDS = {"denoiser": "checkpoint", "predictor": "predictor"}
"""The kinds of models that can learn, and the inputs that they are."""

OF_THE_LOOP = (
    *("targets", "top_k"),
    *(f"candidates.{name}" for name in ("checkpoint", "predictor", "seed", "known")),
)
"""Inputs of a campaign that each round fills in."""


def validate_inputs(inputs: Mapping, namespace: Any) -> str | None:
    """Refuse a loop without targets or DFT, a budget that is too small, and trainings of other models."""
    if "targets" in namespace and not inputs.get("targets"):
        return "there are no targets; give at least one DosTargetData in the namespace targets"
    if "settings" not in inputs or "targets" not in inputs:
        return None
    settings = LearnSettings.model_validate(inputs["settings"].get_dict())
    if settings.budget < len(inputs["targets"]):
        return f"settings: a budget of {settings.budget} DFT runs is too small for {len(inputs['targets'])} targets"
    if "campaign" in inputs and not inputs["campaign"].get("validate"):
        return "campaign.validate: nothing is learnt without DFT; give its inputs"
    for kind in settings.models:
        given = inputs.get(f"train_{kind}", {})
        if "parameters" not in given:
            return f"train_{kind}: settings.models says that the {kind} learns, but there are no inputs for its training"
        trained = given["parameters"].get_dict().get("model", TrainParameters().model)
        if trained != kind:
            return f"train_{kind}: its parameters train a {trained}"
    return None


class LearnProtocolMixin(StrictProtocolMixin, WorkChain):
    """The protocols of the loop."""

    _protocol_name = "learn"

    @classmethod
    def override_schema(cls) -> dict:
        return recursive_merge(super().override_schema(), {"campaign": CampaignWorkChain.override_schema()})

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode | str],
        targets: Mapping[str, DosTargetData],
        checkpoint: CheckpointData,
        predictor: CheckpointData,
        force_field: ForceFieldData,
        dataset: LabelledCrystalSetData,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        dft_options: Mapping | None = None,
        held_out: LabelledCrystalSetData | None = None,
        known: CrystalSetData | None = None,
        reserved: list[str] | None = None,
        pseudolabelled: LabelledCrystalSetData | None = None,
        settings: Mapping[str, Any] | None = None,
        n_candidates: int | None = None,
        n_jobs: int | None = None,
        max_concurrent: int | None = None,
        relax: bool = False,
        template: CrystalSetData | StructureData | None = None,
        classifier: CheckpointData | None = None,
        phases: CrystalSetData | None = None,
        **spin: Any,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        Other arguments are those of :meth:`.CampaignWorkChain.get_builder_from_protocol`.

        :param dataset: what the models have learnt from.
        :param held_out: see the inputs, as for ``known`` and ``reserved``.
        :param pseudolabelled: crystals with predicted curves, which the denoiser rehearses too.
        :param settings: take precedence over those of protocol and overrides; None counts as not given.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        given = {**inputs["settings"], **{key: value for key, value in (settings or {}).items() if value is not None}}
        chosen = LearnSettings.model_validate(checked(LearnSettings, given, "settings").get_dict())
        builder = cls.get_builder()
        builder.settings = orm.Dict(chosen.model_dump())  # in full: the graph says it, whatever the defaults of later are
        builder.gate = checked(GateCriteria, inputs["gate"], "gate")
        campaign = CampaignWorkChain.get_builder_from_protocol(
            codes=codes,
            targets=targets,
            checkpoint=checkpoint,
            predictor=predictor,
            force_field=force_field,
            protocol=protocol or cls.get_default_protocol(),
            overrides=inputs["campaign"],
            options=options,
            dft_options=dft_options,
            n_candidates=n_candidates,
            top_k=chosen.top_k,
            max_concurrent=max_concurrent,
            relax=relax,
            template=template,
            classifier=classifier,
            phases=phases,
            known=dataset,  # each round has its own
            n_jobs=n_jobs,
            **spin,
        )
        builder.campaign = _without(inputs_of(campaign), OF_THE_LOOP)
        builder.targets, builder.dataset = dict(targets), dataset
        builder.checkpoint, builder.predictor = checkpoint, predictor
        for name, node in (("held_out", held_out), ("known", known)):
            if node is not None:
                builder[name] = node
        if reserved:
            builder.reserved = orm.List(sorted(reserved))
        code = load(codes["dosmatgen"])
        for kind in KINDS:
            given = inputs[f"train_{kind}"]
            if kind not in chosen.models:
                builder.pop(f"train_{kind}", None)
                continue
            parameters = {**given["parameters"], "model": kind}
            builder[f"train_{kind}"] = {
                "code": code,
                "parameters": checked(TrainParameters, parameters, f"train_{kind}.parameters"),
                "metadata": job_metadata(given["metadata"], options, code),
            }
        if pseudolabelled is not None and "denoiser" in chosen.models:
            builder["train_denoiser"]["pseudolabelled"] = pseudolabelled
        builder["evaluate"].code = code
        builder["evaluate"].metadata = job_metadata(inputs["evaluate"]["metadata"], options, code)
        return builder


def _without(inputs: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return nested inputs without some of them."""
    left = {key: dict(value) if isinstance(value, Mapping) else value for key, value in inputs.items()}
    for name in names:
        *path, last = name.split(".")
        place: Any = left
        for key in path:
            place = place.get(key, {})
        place.pop(last, None)
    return left
