"""The closed loop: what DFT finds teaches the models that look for the next crystals."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from ..calculations.evaluate import EvaluateCalculation
from ..calculations.functions import collect_crystals, part_for_learning
from ..calculations.ports import port_from_model
from ..calculations.sample import validate_kind
from ..calculations.train import TrainCalculation
from ..core.learning.settings import GateCriteria, LearnSettings
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from ..data.target import DosTargetData
from .campaign import CampaignWorkChain
from .failures import failure
from .learning.inputs import KINDS, OF_THE_LOOP, LearnProtocolMixin, validate_inputs
from .learning.rounds import RoundsMixin
from .outline import while_


class LearnWorkChain(LearnProtocolMixin, RoundsMixin):
    """Rounds of campaign, gate, training and verdict: each begins with the models that the one before has left.

    A round is a campaign for all targets; a few of its DFT results are computed once more; the gate says which results enter
    the training set, and why the others do not; the models are fine-tuned on what the loop has found and a sample of what was
    known; a checkpoint that got worse on held-out crystals is rejected, and the next round has the last one that was accepted.

    What fails is noted, and the loop continues with what there is. Candidates that equal a known crystal, or one that was
    computed already, are left out if the criteria say ``novel``.
    """

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
            help="Crystals on which checkpoints are evaluated; by default those that the data set keeps for tests.",
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
        spec.expose_inputs(CampaignWorkChain, namespace="campaign", exclude=OF_THE_LOOP)
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
            message="there are no crystals to evaluate checkpoints on; give held_out, or a data set that is split",
        )
        spec.exit_code(301, "ERROR_EVALUATION_FAILED", message="the given models could not be evaluated: {reason}")
        spec.exit_code(302, "ERROR_NOTHING_COMPUTED", message="no round brought a DFT result: {reason}")
        spec.exit_code(303, "ERROR_NOTHING_TRAINED", message="results entered, but no training succeeded: {reason}")

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

    def take_figures(self) -> ExitCode | None:
        """Take the figures of the given models, with which the first checkpoints are compared."""
        for kind in self._settings.models:
            node = self.ctx[f"evaluate_0_{kind}"]
            if not node.is_finished_ok:
                return self.exit_codes.ERROR_EVALUATION_FAILED.format(reason=failure(node))
            self.ctx.figures[kind] = node.outputs.metrics
        return None

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
