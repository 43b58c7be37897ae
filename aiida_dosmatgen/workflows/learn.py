"""The closed loop: what DFT finds teaches the models that look for the next crystals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict, LinkType
from aiida.engine import ExitCode, ProcessBuilder, WorkChain
from aiida_quantumespresso.workflows.protocols.utils import recursive_merge

from ..calculations.evaluate import EvaluateCalculation
from ..calculations.functions import (
    add_known,
    choose_repeats,
    collect_crystals,
    extend_labelled,
    gate,
    judge_checkpoint,
    moved_in_cell,
    part_for_learning,
    plan_round,
    rehearse,
    sum_up_round,
)
from ..calculations.ports import port_from_model
from ..calculations.sample import validate_kind
from ..calculations.train import TrainCalculation
from ..core.job import TrainParameters
from ..core.learning.settings import GateCriteria, LearnSettings
from ..data.base import pk_of
from ..data.checkpoint import CheckpointData
from ..data.conversion import StructureData
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from ..data.labelled import LabelledCrystalSetData
from ..data.target import DosTargetData
from .base import EvaluateBaseWorkChain, TrainBaseWorkChain
from .campaign import CampaignWorkChain
from .dos import DosWorkChain
from .failures import failure, failure_of, noted
from .outline import while_
from .protocols.utils import StrictProtocolMixin, checked, inputs_of, job_metadata, load
from .resuming import ResumingMixin
from .retries import RetryMixin, ended_from_outside

KINDS = {"denoiser": "checkpoint", "predictor": "predictor"}
"""The kinds of models that can learn, and the inputs that they are."""

_OF_THE_LOOP = (
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


class LearnWorkChain(StrictProtocolMixin, RetryMixin, ResumingMixin, WorkChain):
    """Rounds of campaign, gate, training and verdict: each begins with the models that the one before has left.

    A round is a campaign for all targets; a few of its DFT results are computed once more; the gate says which results enter
    the training set, and why the others do not; the models are fine-tuned on what the loop has found and a sample of what was
    known; a checkpoint that got worse on held-out crystals is rejected, and the next round has the last one that was accepted.

    What fails is noted, and the loop goes on with what there is. Candidates that equal a known crystal, or one that was
    computed already, are left out if the criteria say ``novel``.
    """

    _protocol_name = "learn"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace("targets", valid_type=DosTargetData, dynamic=True, help="The targets, by names of your choice.")
        spec.input(
            "checkpoint",
            valid_type=CheckpointData,
            validator=validate_kind("denoiser"),
            help="The denoiser of the first round.",
        )
        spec.input(
            "predictor",
            valid_type=CheckpointData,
            validator=validate_kind("predictor"),
            help="The predictor of the first round.",
        )
        spec.input(
            "dataset",
            valid_type=LabelledCrystalSetData,
            help="What the models have learnt from. What is found is added to it, and a part of it is rehearsed.",
        )
        spec.input(
            "held_out",
            valid_type=LabelledCrystalSetData,
            required=False,
            help="Crystals by which checkpoints are judged; by default those that the data set keeps for tests.",
        )
        spec.input(
            "known",
            valid_type=CrystalSetData,
            required=False,
            help="Further known crystals, for `novel` of the criteria; those that are learnt from and those that the loop has "
            "computed are known in any case.",
        )
        spec.input(
            "reserved",
            valid_type=orm.List,
            required=False,
            serializer=orm.to_aiida_type,
            help="Chemical systems, e.g. `Ga-N`, that never enter the training set.",
        )
        spec.input("settings", **port_from_model(LearnSettings, "settings", required=True))
        spec.input("gate", **port_from_model(GateCriteria, "gate"))
        spec.expose_inputs(CampaignWorkChain, namespace="campaign", exclude=_OF_THE_LOOP)
        for kind in KINDS:
            spec.expose_inputs(
                TrainCalculation,
                namespace=f"train_{kind}",
                exclude=("dataset", "parent", "seed", "parent_folder"),
                namespace_options={"required": False, "populate_defaults": False},
            )
        spec.expose_inputs(
            EvaluateCalculation, namespace="evaluate", exclude=("checkpoint", "crystals", "dataset", "parent_folder")
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.is_left)(cls.run_children, cls.inspect_children),  # the models as they are given
            cls.take_figures,
            while_(cls.is_round_left)(
                cls.begin_round,
                while_(cls.is_left)(cls.run_children, cls.inspect_children),  # the campaign
                cls.begin_repeats,
                while_(cls.is_left)(cls.run_children, cls.inspect_children),
                cls.run_gate,
                cls.begin_trainings,
                while_(cls.is_left)(cls.run_children, cls.inspect_children),
                cls.begin_evaluations,
                while_(cls.is_left)(cls.run_children, cls.inspect_children),
                cls.judge,
                cls.sum_up,
            ),
            cls.finish,
        )
        spec.output("checkpoint", valid_type=CheckpointData, required=False, help="The last denoiser that was accepted.")
        spec.output("predictor", valid_type=CheckpointData, required=False, help="The last predictor that was accepted.")
        spec.output("dataset", valid_type=LabelledCrystalSetData, required=False, help="The training set with what entered.")
        spec.output_namespace("rounds", valid_type=orm.Dict, dynamic=True, help="The summary of each round.")
        spec.output_namespace("gates", valid_type=orm.Dict, dynamic=True, help="What became of each DFT result, by round.")
        spec.output_namespace("verdicts", valid_type=orm.Dict, dynamic=True, help="The verdict on each checkpoint.")
        spec.exit_code(201, "ERROR_DATASET_REFUSED", message="the data set cannot be learnt from: {reason}")
        spec.exit_code(
            202,
            "ERROR_NO_HELD_OUT",
            message="there is nothing to judge checkpoints by; give held_out, or a data set that is split",
        )
        spec.exit_code(301, "ERROR_EVALUATION_FAILED", message="the given models could not be evaluated: {reason}")
        spec.exit_code(302, "ERROR_NOTHING_COMPUTED", message="no round brought a DFT result: {reason}")
        spec.exit_code(303, "ERROR_NOTHING_TRAINED", message="results entered, but no training succeeded: {reason}")

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
        chosen = {**inputs["settings"], **{key: value for key, value in (settings or {}).items() if value is not None}}
        builder = cls.get_builder()
        builder.settings = checked(LearnSettings, chosen, "settings")
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
            top_k=chosen["top_k"],
            max_concurrent=max_concurrent,
            relax=relax,
            template=template,
            classifier=classifier,
            phases=phases,
            known=dataset,  # each round has its own
            n_jobs=n_jobs,
            **spin,
        )
        builder.campaign = _without(inputs_of(campaign), _OF_THE_LOOP)
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
            if kind not in chosen["models"]:
                builder.pop(f"train_{kind}", None)
                continue
            parameters = {**given["parameters"], "model": kind}
            builder[f"train_{kind}"] = {
                "code": code,
                "parameters": checked(TrainParameters, parameters, f"train_{kind}.parameters"),
                "metadata": job_metadata(given["metadata"], options, code),
            }
        if pseudolabelled is not None and "denoiser" in chosen["models"]:
            builder["train_denoiser"]["pseudolabelled"] = pseudolabelled
        builder["evaluate"].code = code
        builder["evaluate"].metadata = job_metadata(inputs["evaluate"]["metadata"], options, code)
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> ExitCode | None:
        """Begin with the given models. The context holds names, numbers and stored nodes: it survives the daemon."""
        parted = self.once("part_for_learning", part_for_learning, dataset=self.inputs.dataset)
        if not parted.is_finished_ok:
            return self.exit_codes.ERROR_DATASET_REFUSED.format(reason=parted.exit_message)
        self.ctx.dataset = parted.outputs.learnt
        self.ctx.held_out = self.inputs.get("held_out", parted.outputs.held_out if "held_out" in parted.outputs else None)
        self.ctx.kept = parted.outputs.kept if "kept" in parted.outputs else None
        if self.ctx.held_out is None and self._settings.models:
            return self.exit_codes.ERROR_NO_HELD_OUT
        self.ctx.known = self.ctx.dataset
        if "known" in self.inputs:
            parts = {"learnt": self.ctx.dataset, "known": self.inputs.known}
            self.ctx.known = self.once("collect_known", collect_crystals, **parts).outputs.result
        self.ctx.models = {kind: self.inputs[port] for kind, port in KINDS.items()}
        self.ctx.figures = {}  # of the models on held-out crystals
        self.ctx.number = 0
        self.ctx.summaries, self.ctx.gates, self.ctx.all_verdicts = [], {}, {}
        self.ctx.failed = []  # reasons, for the exit code
        self.ctx.any_result, self.ctx.any_entered, self.ctx.any_trained = False, False, False
        self.ctx.stop = None
        self.ctx.wanted = [f"evaluate_0_{kind}" for kind in self._settings.models]
        return None

    def is_left(self) -> bool:
        """Say whether there are children to submit."""
        return bool(self.ctx.wanted)

    def run_children(self) -> None:
        """Submit the children of this step, or wait for those that it has submitted before the daemon was stopped."""
        for label in self.ctx.wanted:
            self.to_context(**{label: self.submitted(label) or self._submit(label)})

    def inspect_children(self) -> None:
        """Repeat those that AiiDA failed with; what became of the others is looked at in the next step."""
        ended = {label: self.ctx[label] for label in self.ctx.wanted}
        self.ctx.wanted = [label for label, node in ended.items() if ended_from_outside(node) and self.repeat(label, node)]

    def take_figures(self) -> ExitCode | None:
        """Take the figures of the given models, by which the first checkpoints are judged."""
        for kind in self._settings.models:
            node = self.ctx[f"evaluate_0_{kind}"]
            if not node.is_finished_ok:
                return self.exit_codes.ERROR_EVALUATION_FAILED.format(reason=failure(node))
            self.ctx.figures[kind] = node.outputs.metrics
        return None

    def is_round_left(self) -> bool:
        """Say whether there is to be another round."""
        return self.ctx.stop is None

    def begin_round(self) -> None:
        """Plan a round; its first step is a campaign with the models that were accepted last."""
        self.ctx.number += 1
        previous = {"previous": self.ctx.summaries[-1]} if self.ctx.summaries else {}
        planned = self.once(
            f"plan_{self.ctx.number}",
            plan_round,
            settings=self.inputs.settings,
            number=orm.Int(self.ctx.number),
            **previous,
            **self.inputs.targets,
        )
        self.ctx.seed, self.ctx.top_k = planned.outputs.seed, planned.outputs.top_k
        self.ctx.before = dict(self.ctx.figures)
        self.ctx.results, self.ctx.without, self.ctx.failures, self.ctx.verdicts = {}, {}, {}, {}
        self.ctx.report = None
        self.ctx.wanted = [f"campaign_{self.ctx.number}"]
        self.report(f"round {self.ctx.number}: the best {self.ctx.top_k.value} of each target, seed {self.ctx.seed.value}")

    def begin_repeats(self) -> None:
        """Take the DFT results of the campaign, and choose which are computed once more."""
        campaign = self.ctx[f"campaign_{self.ctx.number}"]
        if not campaign.is_finished_ok:
            self._note("campaign", noted(self.ctx.dataset, failure(campaign)))
        structures = {}
        for name, node in validations_of(campaign).items():
            if node.is_finished_ok:
                self.ctx.results[name] = node.outputs.dos
                structures[name] = node.outputs.structure
            elif node.is_terminated:
                self.ctx.without[name] = failure_of(node, node.inputs.structure)
                structures[name] = node.inputs.structure
        self.ctx.any_result = self.ctx.any_result or bool(self.ctx.results)
        if structures:
            known = self.once(f"add_known_{self.ctx.number}", add_known, known=self.ctx.known, **structures)
            self.ctx.known = known.outputs.result
        if not self.ctx.results or not self._settings.repeats:
            return
        previous = {"previous": self.ctx.summaries[-1]} if self.ctx.summaries else {}
        chosen = self.once(
            f"choose_repeats_{self.ctx.number}",
            choose_repeats,
            settings=self.inputs.settings,
            seed=self.ctx.seed,
            **previous,
            **self._results(),
        )
        self.ctx.wanted = [f"repeat_{self.ctx.number}_{name}" for name in chosen.outputs.result["repeats"]]

    def run_gate(self) -> None:
        """Let in what meets the criteria, and add it to the training set."""
        if not self.ctx.results and not self.ctx.without:
            return
        optional = {name: self.inputs.get(name) for name in ("held_out", "reserved")} | {"kept": self.ctx.get("kept")}
        node = self.once(
            f"gate_{self.ctx.number}",
            gate,
            dataset=self.ctx.dataset,
            criteria=self.inputs.gate,
            **{name: value for name, value in optional.items() if value is not None},
            **self._results(),
            **self._repeated(),
        )
        if not node.is_finished_ok:
            self._note("gate", noted(self.ctx.dataset, node.exit_message))
            return
        self.ctx.report = self.ctx.gates[f"round_{self.ctx.number}"] = node.outputs.result
        said = self.ctx.report["results"]
        entered = [name for name in self.ctx.results if said[name]["entered"]]
        self.report(f"round {self.ctx.number}: {len(entered)} of {len(said)} DFT results entered the training set")
        for name, one in said.items():
            self.report(f"{name}: {'entered' if one['entered'] else 'refused'}; {one['reason']}")
        if not entered:
            return
        entries = {f"dos_{name}": self.ctx.results[name] for name in entered}
        extended = self.once(
            f"extend_{self.ctx.number}", extend_labelled, dataset=self.ctx.dataset, report=self.ctx.report, **entries
        )
        if not extended.is_finished_ok:
            self._note("extending", noted(self.ctx.report, extended.exit_message))
            return
        self.ctx.dataset, self.ctx.any_entered = extended.outputs.result, True
        self.ctx.extended = self.ctx.number

    def begin_trainings(self) -> None:
        """Fine-tune the models, if the training set has grown."""
        if self.ctx.get("extended") != self.ctx.number or not self._settings.models:
            return
        node = self.once(
            f"rehearse_{self.ctx.number}",
            rehearse,
            dataset=self.ctx.dataset,
            settings=self.inputs.settings,
            seed=self.ctx.seed,
        )
        if not node.is_finished_ok:
            self._note("rehearsal", noted(self.ctx.dataset, node.exit_message))
            return
        self.ctx.training = node.outputs.result
        self.ctx.wanted = [f"train_{self.ctx.number}_{kind}" for kind in self._settings.models]

    def begin_evaluations(self) -> None:
        """Compute the errors of the new checkpoints on the held-out crystals."""
        self.ctx.new = {}
        for kind in self._settings.models:
            node = self.ctx.get(f"train_{self.ctx.number}_{kind}")
            if node is None:
                continue
            if node.is_finished_ok:
                self.ctx.new[kind], self.ctx.any_trained = node.outputs.checkpoint, True
            else:
                self._note(f"train_{kind}", failure_of(node, self.ctx.models[kind]))
        self.ctx.wanted = [f"evaluate_{self.ctx.number}_{kind}" for kind in self.ctx.new]

    def judge(self) -> None:
        """Accept the checkpoints that are not worse than their parents; the others are on record as rejected."""
        for kind, checkpoint in self.ctx.new.items():
            node = self.ctx[f"evaluate_{self.ctx.number}_{kind}"]
            found = {"after": node.outputs.metrics} if node.is_finished_ok else {"failure": failure_of(node, checkpoint)}
            process = self.once(
                f"judge_{self.ctx.number}_{kind}",
                judge_checkpoint,
                settings=self.inputs.settings,
                checkpoint=checkpoint,
                parent=self.ctx.models[kind],
                before=self.ctx.figures[kind],
                **found,
            )
            if not process.is_finished_ok:
                self._note(f"judge_{kind}", noted(checkpoint, process.exit_message))
                continue
            verdict = process.outputs.result
            self.ctx.verdicts[kind] = self.ctx.all_verdicts[f"round_{self.ctx.number}_{kind}"] = verdict
            self.report(f"{kind}: {'accepted' if verdict['accepted'] else 'rejected'}; {verdict['reason']}")
            if verdict["accepted"]:
                self.ctx.models[kind], self.ctx.figures[kind] = checkpoint, node.outputs.metrics

    def sum_up(self) -> None:
        """Sum up the round, and see whether the loop ends with it."""
        campaign = self.ctx[f"campaign_{self.ctx.number}"]
        outputs = campaign.base.links.get_outgoing(link_type=LinkType.RETURN)
        found = {entry.link_label: entry.node for entry in outputs.all()}
        screenings = {
            f"screening_{label.removeprefix('reports__')}": node
            for label, node in found.items()
            if label.startswith("reports__")
        }
        node = self.once(
            f"sum_up_{self.ctx.number}",
            sum_up_round,
            settings=self.inputs.settings,
            number=orm.Int(self.ctx.number),
            seed=self.ctx.seed,
            top_k=self.ctx.top_k,
            **{f"target_{name}": target for name, target in self.inputs.targets.items()},
            **({"previous": self.ctx.summaries[-1]} if self.ctx.summaries else {}),
            **({"ranking": found["ranking"]} if "ranking" in found else {}),
            **screenings,
            **({"gate": self.ctx.report} if self.ctx.report is not None else {}),
            **{f"verdict_{kind}": verdict for kind, verdict in self.ctx.verdicts.items()},
            **{f"held_out_{kind}": metrics for kind, metrics in self.ctx.before.items()},
            **{f"failure_{what}": reason for what, reason in self.ctx.failures.items()},
        )
        summary = node.outputs.result
        self.ctx.summaries.append(summary)
        self.ctx.stop = summary["stop"]
        if self.ctx.stop is not None:
            self.report(f"the loop ends after round {self.ctx.number}: {self.ctx.stop}")

    def finish(self) -> ExitCode | None:
        """Return what the loop has left, whatever has failed."""
        for number, summary in enumerate(self.ctx.summaries, 1):
            self.out(f"rounds.round_{number}", summary)
        for name, report in self.ctx.gates.items():
            self.out(f"gates.{name}", report)
        for name, verdict in self.ctx.all_verdicts.items():
            self.out(f"verdicts.{name}", verdict)
        for kind, port in KINDS.items():
            self.out(port, self.ctx.models[kind])
        self.out("dataset", self.ctx.dataset)
        reason = "; ".join(dict.fromkeys(self.ctx.failed)) or "see the summaries of the rounds"
        if not self.ctx.any_result:
            return self.exit_codes.ERROR_NOTHING_COMPUTED.format(reason=reason)
        if self.ctx.any_entered and self._settings.models and not self.ctx.any_trained:
            return self.exit_codes.ERROR_NOTHING_TRAINED.format(reason=reason)
        return None

    # --- children ---------------------------------------------------------------------------------------------------

    def _submit(self, label: str) -> orm.ProcessNode:
        """Submit the child of a label, ``<what>_<number of the round>_<which>``."""
        what, _, which = (label + "__").split("_", 2)
        which = which.rstrip("_")
        process, inputs = {
            "campaign": self._campaign, "repeat": self._repeat, "train": self._train, "evaluate": self._evaluate
        }[what](which)  # fmt: skip
        inputs["metadata"] = {**inputs.get("metadata", {}), "call_link_label": label}
        node = self.submit(process, **inputs)
        self.report(f"launching {process.__name__}<{node.pk}> ({label})")
        return node

    def _campaign(self, _: str) -> tuple[Any, AttributeDict]:
        inputs = AttributeDict(self.exposed_inputs(CampaignWorkChain, "campaign"))
        inputs.targets, inputs.top_k = self.inputs.targets, self.ctx.top_k
        models = {port: self.ctx.models[kind] for kind, port in KINDS.items()}
        inputs.candidates.update(**models, seed=self.ctx.seed, known=self.ctx.known)
        return CampaignWorkChain, inputs

    def _repeat(self, name: str) -> tuple[Any, AttributeDict]:
        moved = self.once(f"move_{self.ctx.number}_{name}", moved_in_cell, dos=self.ctx.results[name])
        validate = self.exposed_inputs(CampaignWorkChain, "campaign")["validate"]
        inputs = AttributeDict(validate["dos"])
        inputs.structure, inputs.clean_workdir = moved.outputs.result, validate["clean_workdir"]
        return DosWorkChain, inputs

    def _train(self, kind: str) -> tuple[Any, dict]:
        inputs = self.exposed_inputs(TrainCalculation, f"train_{kind}")
        inputs.update(dataset=self.ctx.training, parent=self.ctx.models[kind], seed=self.ctx.seed)
        return TrainBaseWorkChain, {"train": inputs}

    def _evaluate(self, kind: str) -> tuple[Any, dict]:
        inputs = self.exposed_inputs(EvaluateCalculation, "evaluate")
        checkpoint = self.ctx.models[kind] if self.ctx.number == 0 else self.ctx.new[kind]
        # elements are counted from the set as it was given: what is found must not change the yardstick
        inputs.update(checkpoint=checkpoint, crystals=self.ctx.held_out, dataset=self.inputs.dataset)
        return EvaluateBaseWorkChain, {"evaluate": inputs}

    # --- helpers ----------------------------------------------------------------------------------------------------

    @property
    def _settings(self) -> LearnSettings:
        return LearnSettings.model_validate(self.inputs.settings.get_dict())

    def _note(self, what: str, reason: orm.Dict) -> None:
        """Note what failed; the loop goes on."""
        self.ctx.failures[what] = reason
        self.ctx.failed.append(f"{what} of round {self.ctx.number}: {reason['reason']}")
        self.report(self.ctx.failed[-1])

    def _results(self) -> dict[str, orm.Data]:
        """Return the DFT results of the round, and the reasons of those that have none, as calcfunctions take them."""
        results = {f"dos_{name}": node for name, node in self.ctx.results.items()}
        return results | {f"failure_{name}": reason for name, reason in self.ctx.without.items()}

    def _repeated(self) -> dict[str, orm.Data]:
        """Return the second runs of the round, and the reasons of those that failed."""
        found: dict[str, orm.Data] = {}
        for name in self.ctx.results:
            node = self.ctx.get(f"repeat_{self.ctx.number}_{name}")
            if node is not None and node.is_finished_ok:
                found[f"repeat_{name}"] = node.outputs.dos
            elif node is not None:
                found[f"unrepeated_{name}"] = failure_of(node, node.inputs.structure)
        return found


def validations_of(campaign: orm.ProcessNode) -> dict[str, orm.WorkChainNode]:
    """Return the validations of a campaign by ``<target>_<candidate>``; of several of one candidate one that succeeded."""
    found: dict[str, Any] = {}
    prefix = "validate_"
    links = campaign.base.links.get_outgoing(link_type=LinkType.CALL_WORK, link_label_filter=f"{prefix}%").all()
    for entry in sorted(links, key=lambda entry: pk_of(entry.node)):
        name = entry.link_label.removeprefix(prefix)
        if name not in found or not found[name].is_finished_ok:
            found[name] = entry.node
    return dict(sorted(found.items()))


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
