"""From target densities of states to DFT-validated crystals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder
from aiida_quantumespresso.workflows.protocols.utils import recursive_merge

from ..calculations.functions import extract_candidate, rank, select_candidates
from ..calculations.ports import port_from_field, port_from_model
from ..calculations.sampling import problem_of_sampling
from ..core.campaign import CampaignNumbers
from ..core.screening.selection import SelectionWeights
from ..data.checkpoint import CheckpointData
from ..data.conversion import StructureData, formula_of
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from ..data.target import DosTargetData
from .candidates import CandidatesWorkChain
from .failures import failure_of, noted
from .functions import collect_rankings
from .outline import while_
from .protocols.utils import StrictProtocolMixin, checked, inputs_of, unknown_code
from .retries import ended_from_outside
from .validate import ValidateWorkChain
from .windows import SlidingWindowWorkChain

_NO_SURVIVORS = "no candidate passed the screening; see the report, and loosen the criteria or sample more"


def validate_inputs(inputs: Mapping, namespace: Any) -> str | None:
    """Refuse a campaign without a target, targets that do not go with the sampling, and validations without their inputs."""
    if "targets" in namespace and not inputs.get("targets"):
        return "there are no targets; give at least one DosTargetData in the namespace targets"
    candidates = inputs.get("candidates", {})
    for name, target in inputs.get("targets", {}).items():
        problem = problem_of_sampling(candidates.get("sample", {}), candidates.get("checkpoint"), target)
        if problem:
            return f"target {name}: {problem}"
    if "top_k" in inputs and inputs["top_k"].value > 0 and "validate" in namespace and not inputs.get("validate"):
        return (
            f"top_k is {inputs['top_k'].value}, but there are no inputs in the namespace validate; give them, or set top_k to 0"
        )
    return None


class CampaignWorkChain(StrictProtocolMixin, SlidingWindowWorkChain):
    """For each target: candidates, and the best ``top_k`` of them validated by DFT, at most ``max_concurrent`` at a time.

    A target without candidates or ranking, and a candidate that fails, is recorded with its reason; the others continue.
    """

    _protocol_name = "campaign"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace("targets", valid_type=DosTargetData, dynamic=True, help="The targets, by names of your choice.")
        spec.input("top_k", **port_from_field(CampaignNumbers, "top_k", orm.Int))
        spec.input("selection", **port_from_model(SelectionWeights, "selection"))
        spec.input("max_concurrent", **port_from_field(CampaignNumbers, "max_concurrent"), non_db=True)
        spec.expose_inputs(CandidatesWorkChain, namespace="candidates", exclude=("target",))
        spec.expose_inputs(
            ValidateWorkChain,
            namespace="validate",
            exclude=("structure", "target"),
            namespace_options={"required": False, "populate_defaults": False},
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            cls.open_window,
            while_(cls.targets_left)(
                while_(cls.may_start_target)(cls.run_candidates),
                cls.wait_for_one,
                cls.inspect_candidates,
            ),
            while_(cls.validations_left)(
                while_(cls.may_start_validation)(cls.run_validation),
                cls.wait_for_one,
                cls.inspect_validations,
            ),
            cls.finish,
        )
        spec.output("ranking", valid_type=orm.Dict, required=False, help="For each target its candidates, best first.")
        spec.output_namespace("reports", valid_type=orm.Dict, dynamic=True, help="The screening's report for each target.")
        spec.output_namespace(
            "candidates", valid_type=CrystalSetData, dynamic=True, help="What passed the screening for each target, best first."
        )
        spec.exit_code(301, "ERROR_NO_CANDIDATES", message="no target has candidates: {reason}")
        spec.exit_code(302, "ERROR_RANKING_FAILED", message="there are candidates, but no ranking could be made: {reason}")
        spec.exit_code(304, "ERROR_NOTHING_VALIDATED", message="there are candidates, but no validation succeeded: {reason}")

    @classmethod
    def override_schema(cls) -> dict:
        nested = {
            "candidates": CandidatesWorkChain.override_schema(),
            "validate": ValidateWorkChain.override_schema(),
        }
        return recursive_merge(super().override_schema(), nested)

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode | str],
        targets: Mapping[str, DosTargetData],
        checkpoint: CheckpointData,
        predictor: CheckpointData,
        force_field: ForceFieldData,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        dft_options: Mapping | None = None,
        seed: int | None = None,
        n_candidates: int | None = None,
        top_k: int | None = None,
        max_concurrent: int | None = None,
        relax: bool = False,
        template: CrystalSetData | StructureData | None = None,
        classifier: CheckpointData | None = None,
        phases: CrystalSetData | None = None,
        known: CrystalSetData | None = None,
        n_jobs: int | None = None,
        **spin: Any,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param codes: nodes or labels by the names ``dosmatgen``, ``pw`` and ``projwfc``; the last two may be left out if
            nothing is validated (``top_k`` 0).
        :param targets: by names of your choice (letters, digits, single underscores).
        :param overrides: inputs that take precedence over those of the protocol, nested as the inputs are; plain values.
        :param options: goes into ``metadata.options`` of the jobs of ``dosmatgen``.
        :param dft_options: the same for the jobs of Quantum ESPRESSO.
        :param relax: whether pw.x relaxes the candidates before their DOS is computed.
        :param template: for the candidates of all targets, like ``classifier``, ``phases`` and ``known``; see
            :class:`.CandidatesWorkChain`.
        :param n_jobs: how many jobs of each kind share the candidates of a target.
        :param spin: ``spin_type``, ``electronic_type`` and ``initial_magnetic_moments`` of the validations, as of
            :meth:`.DosWorkChain.get_builder_from_protocol`.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        top_k = inputs["top_k"] if top_k is None else top_k
        problem = unknown_code(codes)
        if problem:
            raise ValueError(f"codes: {problem}")
        missing = [name for name in ("dosmatgen", *(("pw", "projwfc") if top_k else ())) if name not in codes]
        if missing:
            raise ValueError(f"codes lacks {missing[0]!r}; it has {', '.join(sorted(codes)) or 'none'}")
        if not targets:
            raise ValueError("there are no targets; give at least one")
        # one that was made from wishes alone decides for all: their elements are left to the diffusion
        least = min(targets.values(), key=lambda one: not one.base.attributes.get("only_wishes", None))
        candidates = CandidatesWorkChain.get_builder_from_protocol(
            codes["dosmatgen"],
            target=least,
            checkpoint=checkpoint,
            predictor=predictor,
            force_field=force_field,
            protocol=protocol,
            overrides=inputs["candidates"],
            options=options,
            seed=seed,
            n_candidates=n_candidates,
            template=template,
            classifier=classifier,
            phases=phases,
            known=known,
            n_jobs=n_jobs,
        )
        builder = cls.get_builder()
        builder.targets = dict(targets)
        builder.top_k = orm.Int(top_k)
        builder.selection = checked(SelectionWeights, inputs["selection"], "selection")
        builder.max_concurrent = inputs["max_concurrent"] if max_concurrent is None else max_concurrent
        builder.candidates = {k: v for k, v in inputs_of(candidates).items() if k != "target"}
        if top_k:
            validate = ValidateWorkChain.get_builder_from_protocol(
                codes["pw"],
                codes["projwfc"],
                protocol=protocol,
                overrides=inputs["validate"],
                options=dft_options,
                relax=relax,
                elements=checkpoint.base.attributes.get("elements"),
                **spin,
            )
            builder.validate = inputs_of(validate)
        else:
            builder.pop("validate", None)
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Begin with the first target. The context holds names, numbers and stored nodes: it survives the daemon."""
        self.ctx.names = sorted(self.inputs.targets)
        self.ctx.order = list(self.ctx.names)  # in which targets are begun; interrupted ones come again at its end
        self.ctx.next_target = 0
        self.ctx.candidates = AttributeDict()
        self.ctx.failed = {}  # the node with the reason of each target without candidates
        self.ctx.empty = []  # targets of which no candidate passed the screening: a result, not an error
        self.ctx.queue = []
        self.ctx.selections = {}
        self.ctx.next_validation = 0
        self.ctx.validating = {}  # which target and candidate a child validates
        self.ctx.validated = {name: {} for name in self.ctx.names}  # the work chain of each candidate
        self.ctx.failures = {name: {} for name in self.ctx.names}  # the node with the reason of each candidate

    def targets_left(self) -> bool:
        """Say whether there are targets without candidates."""
        return self.may_start_target() or bool(self.ctx.running)

    def may_start_target(self) -> bool:
        """Say whether the next target can be begun."""
        return self.ctx.next_target < len(self.ctx.order) and self.has_capacity()

    def run_candidates(self) -> None:
        """Start on the next target."""
        name = self.ctx.order[self.ctx.next_target]
        self.ctx.next_target += 1
        inputs = AttributeDict(self.exposed_inputs(CandidatesWorkChain, "candidates"))
        inputs.target = self.inputs.targets[name]
        inputs.metadata.call_link_label = label = f"candidates_{name}"
        node = self.submitted(label) or self.submit(CandidatesWorkChain, **inputs)
        self.report(f"launching CandidatesWorkChain<{node.pk}> for the target {name}")
        self.add_child(name, node)

    def inspect_candidates(self) -> None:
        """Queue the best of a target for validation, in turn, so that no target waits for another."""
        for name, node in self.collect().items():
            if ended_from_outside(node) and self.repeat(name, node):
                self.ctx.order.append(name)
                continue
            if "report" in node.outputs:
                self.out(f"reports.{name}", node.outputs.report)
            if not node.is_finished_ok:
                self.ctx.failed[name] = failure_of(node, self.inputs.targets[name])
                self.report(f"no candidates for the target {name}: {self.ctx.failed[name]['reason']}")
                continue
            if node.outputs.crystals.base.attributes.get("n_crystals") == 0:
                self.ctx.empty.append(name)
                self.ctx.failed[name] = noted(node.outputs.report, _NO_SURVIVORS)
                self.report(f"target {name}: {_NO_SURVIVORS}")
                continue
            self.ctx.candidates[name] = node
            differ = node.outputs.report.get_dict().get("meaning")
            if differ:
                self.report(
                    f"target {name}: its curves are a {differ['target']}, the predicted ones {differ['predicted']}; they "
                    "were compared all the same, and the distances hold what projectors do not see"
                )
            self.out(f"candidates.{name}", node.outputs.crystals)
            if self.inputs.top_k.value == 0:
                continue
            selection, chosen = select_candidates.run_get_node(
                crystals=node.outputs.crystals,
                report=node.outputs.report,
                count=self.inputs.top_k,
                weights=self.inputs.selection,
                metadata={"call_link_label": f"select_{name}"},
            )
            if not chosen.is_finished_ok:
                self._note(name, f"nothing could be chosen for DFT: {chosen.exit_message}")
                continue
            self.ctx.selections[name] = selection
            rows = selection.get_dict()["selected"]
            self.ctx.queue.extend([place, name, int(row["candidate"])] for place, row in enumerate(rows))
        self.ctx.queue.sort()

    def validations_left(self) -> bool:
        """Say whether there are candidates that are not validated."""
        return self.may_start_validation() or bool(self.ctx.running)

    def may_start_validation(self) -> bool:
        """Say whether the next candidate's validation can be begun."""
        return self.ctx.next_validation < len(self.ctx.queue) and self.has_capacity()

    def run_validation(self) -> None:
        """Extract the next candidate, and start its validation."""
        _, name, candidate = self.ctx.queue[self.ctx.next_validation]
        self.ctx.next_validation += 1
        crystals = self.ctx.candidates[name].outputs.crystals
        node = self.once(f"extract_{name}_{candidate}", extract_candidate, crystals=crystals, candidate=orm.Int(candidate))
        if not node.is_finished_ok:
            self.ctx.failures[name][str(candidate)] = noted(crystals, node.exit_message)
            return
        structure = node.outputs.result
        inputs = AttributeDict(self.exposed_inputs(ValidateWorkChain, "validate"))
        inputs.structure, inputs.target = structure, self.inputs.targets[name]
        inputs.metadata.call_link_label = label = f"validate_{name}_{candidate}"
        validation = self.submitted(label) or self.submit(ValidateWorkChain, **inputs)
        self.report(
            f"launching ValidateWorkChain<{validation.pk}> for candidate {candidate} ({formula_of(structure)}) of {name}"
        )
        key = f"{name}_{candidate}"
        self.ctx.validating[key] = [name, candidate]
        self.add_child(key, validation)

    def inspect_validations(self) -> None:
        """Note which validations have a score, and why the others failed."""
        for key, node in self.collect().items():
            name, candidate = self.ctx.validating[key]
            if ended_from_outside(node) and self.repeat(key, node):
                self.ctx.queue.append([len(self.ctx.queue), name, candidate])
            elif node.is_finished_ok:
                self.ctx.validated[name][str(candidate)] = node
            else:
                reason = failure_of(node, node.inputs.structure)
                self.ctx.failures[name][str(candidate)] = reason
                self.report(f"candidate {candidate} of {name} failed: {reason['reason']}")

    def finish(self) -> ExitCode | None:
        """Put the candidates of each target in their final order, whatever has failed."""
        rankings = {}
        for name, candidates in self.ctx.candidates.items():
            scores = self._validated(name, "score", "candidate")
            ranking, node = rank.run_get_node(
                report=candidates.outputs.report,
                **({"selection": self.ctx.selections[name]} if name in self.ctx.selections else {}),
                **({"target": self.inputs.targets[name], **scores, **self._validated(name, "dos", "dos")} if scores else {}),
                **{f"failure_{candidate}": reason for candidate, reason in self.ctx.failures[name].items()},
                metadata={"call_link_label": f"rank_{name}"},
            )
            if not node.is_finished_ok:
                self._note(name, f"the ranking could not be made: {node.exit_message}")
                continue
            rankings[f"ranking_{name}"] = ranking
        failures = {f"failure_{name}": reason for name, reason in self.ctx.failed.items()}
        self.out("ranking", collect_rankings(**rankings, **failures))
        if not rankings and set(self.ctx.failed) != set(self.ctx.empty):
            reasons = "; ".join(f"{name}: {reason['reason']}" for name, reason in self.ctx.failed.items())
            code = self.exit_codes.ERROR_RANKING_FAILED if self.ctx.candidates else self.exit_codes.ERROR_NO_CANDIDATES
            return code.format(reason=reasons)
        if self.ctx.queue and not any(self.ctx.validated.values()):
            said = sorted({reason["reason"] for failed in self.ctx.failures.values() for reason in failed.values()})
            return self.exit_codes.ERROR_NOTHING_VALIDATED.format(reason="; ".join(said))
        return None

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _note(self, name: str, reason: str) -> None:
        """Note what failed with a target that has candidates; the others continue."""
        self.ctx.failed[name] = noted(self.ctx.candidates[name].outputs.report, reason)
        self.report(f"target {name}: {reason}")

    def _validated(self, name: str, output: str, prefix: str) -> dict[str, orm.Data]:
        """Return an output of the validations of a target's candidates, as ``<prefix>_<candidate>``."""
        return {f"{prefix}_{candidate}": node.outputs[output] for candidate, node in self.ctx.validated[name].items()}
