"""From a target density of states to ranked candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder

from ..calculations.base import what_aiida_refuses
from ..calculations.functions import join_geometries, screen
from ..calculations.ports import port_from_field, port_from_model
from ..calculations.predict import PredictCalculation
from ..calculations.relax import RelaxCalculation
from ..calculations.sample import SampleCalculation, validate_kind
from ..calculations.sampling import problem_of_sampling
from ..core.campaign import CampaignNumbers
from ..core.job import RelaxParameters, SampleParameters
from ..core.screening import ScreenCriteria
from ..core.screening.geometries import UNRELAXED
from ..data.checkpoint import CheckpointData
from ..data.conversion import StructureData
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from ..data.target import DosTargetData
from ..data.trust import validate_trust
from .base import MAX_ITERATIONS, PredictBaseWorkChain, ReferencesBaseWorkChain, RelaxBaseWorkChain, SampleBaseWorkChain
from .failures import failure
from .outline import while_
from .protocols.utils import StrictProtocolMixin, checked, job_metadata, load
from .references import reference_parameters, stored_references
from .shares import SharesMixin, has_partial_results
from .workdirs import clean_workdir_port

_SCREENING = ("criteria", "references", "target", "phases", "known")


def validate_inputs(inputs: Mapping, namespace: Any) -> str | None:
    """Refuse guidance, constraints and sizes that lack what they need; target and known crystals may come from an outer one."""
    criteria = inputs["criteria"].get_dict() if "criteria" in inputs else {}
    if criteria.get("novel") and "known" in namespace and "known" not in inputs:
        return "criteria: novel leaves out known crystals, but none are given; give them as known"
    return problem_of_sampling(
        inputs.get("sample", {}), inputs.get("checkpoint"), inputs.get("target"), target_follows="target" not in namespace
    )


class CandidatesWorkChain(StrictProtocolMixin, SharesMixin):
    """Sample crystals for a target, relax them with a force field, predict their DOS, and screen.

    The DOS of a candidate is predicted for its relaxed geometry; if the ``geometries`` of the criteria name both, also for the
    unrelaxed one, and the one that is closer to the target is ranked. The relaxed geometry decides whether the candidate is
    stable.

    There is one job of each kind, or ``n_jobs`` parallel ones, each with its share of the candidates. The results are the same.

    Without a target the crystals are sampled freely, and ranked by their formation energies.
    A job that stops early or is interrupted is submitted again. If that does not complete it, the chain continues with the
    results there are, without the share of a job that has none.
    """

    _protocol_name = "candidates"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input(
            "target",
            valid_type=DosTargetData,
            required=False,
            help="The target density of states; none samples freely.",
        )
        spec.input("checkpoint", valid_type=CheckpointData, validator=validate_kind("denoiser"), help="The denoiser.")
        spec.input(
            "predictor",
            valid_type=CheckpointData,
            validator=validate_kind("predictor"),
            help="Predictor of the DOS and the formation energy.",
        )
        spec.input(
            "force_field",
            valid_type=ForceFieldData,
            validator=validate_trust,
            help="Force field of the relaxation and of its references.",
        )
        spec.input(
            "references",
            valid_type=orm.Dict,
            required=False,
            help="`energies` of the elements in eV/atom with this force field. By default those of an earlier job with the "
            "same force field and settings, and a job computes them if there is none.",
        )
        spec.input("seed", **port_from_field(CampaignNumbers, "seed", orm.Int))
        spec.input("n_candidates", **port_from_field(CampaignNumbers, "n_candidates", orm.Int))
        spec.input("n_jobs", **port_from_field(CampaignNumbers, "n_jobs"), non_db=True)
        spec.input("criteria", **port_from_model(ScreenCriteria, "criteria", required=True))
        spec.input(
            "max_iterations",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(MAX_ITERATIONS),
            help="How often each job is submitted at most, until it is complete.",
        )
        spec.input("clean_workdir", **clean_workdir_port(False))
        spec.input(
            "phases",
            valid_type=CrystalSetData,
            required=False,
            help="Known phases for the hull; relaxed with the force field of the candidates first.",
        )
        spec.input(
            "known",
            valid_type=CrystalSetData,
            required=False,
            help="Crystals that are known already: the training set, those of earlier campaigns.",
        )
        spec.expose_inputs(
            SampleCalculation,
            namespace="sample",
            exclude=("checkpoint", "target", "seed", "candidates", "parent_folder"),
            namespace_options={"validator": what_aiida_refuses},  # its own would miss the other inputs
        )
        spec.expose_inputs(RelaxCalculation, namespace="relax", exclude=("crystals", "force_field", "parent_folder"))
        spec.expose_inputs(
            PredictCalculation, namespace="predict", exclude=("crystals", "checkpoint", "parent_folder", *_SCREENING)
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            while_(cls.is_sample_left)(cls.run_sample, cls.inspect_sample),
            while_(cls.are_references_left)(cls.run_references, cls.inspect_references),
            while_(cls.is_relax_left)(cls.run_relax, cls.inspect_relax),
            while_(cls.is_predict_left)(cls.run_predict, cls.inspect_predict),
            cls.run_screen,
        )
        spec.output("crystals", valid_type=CrystalSetData, help="The survivors of the screening, best first.")
        spec.output("report", valid_type=orm.Dict, help="How many survived each criterion, and why the others did not.")
        spec.output("sampled", valid_type=CrystalSetData, required=False, help="All candidates, unrelaxed.")
        spec.output("relaxed", valid_type=CrystalSetData, required=False, help="All candidates after relaxation.")
        spec.output(
            "predicted",
            valid_type=CrystalSetData,
            required=False,
            help="All candidates in their geometries, with predictions; of more than `max_ranked` the best.",
        )
        cls.define_failure(spec)
        for status, step in ((301, "sample"), (302, "relax"), (303, "predict")):
            spec.exit_code(
                status,
                f"ERROR_{step.upper()}_FAILED",
                message=f"the {step} job left no results to continue with: {{reason}}",
            )
        spec.exit_code(305, "ERROR_REFERENCES_FAILED", message="the energies of the elements could not be computed: {reason}")
        spec.exit_code(304, "ERROR_SCREENING_FAILED", message="the screening failed: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode | str,
        target: DosTargetData | None,
        checkpoint: CheckpointData,
        predictor: CheckpointData,
        force_field: ForceFieldData,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        seed: int | None = None,
        n_candidates: int | None = None,
        template: CrystalSetData | StructureData | None = None,
        classifier: CheckpointData | None = None,
        phases: CrystalSetData | None = None,
        known: CrystalSetData | None = None,
        n_jobs: int | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        The compositions that a protocol proposes are left out where they do not suit: if the checkpoint proposes none, without
        a curve to read them from, or if the elements come from a template. What the overrides ask for stands.

        :param code: the executable ``dosmatgen``.
        :param target: None samples freely, and ranks by formation energy.
        :param overrides: inputs that take precedence over those of the protocol, nested as the inputs are; plain values.
        :param options: goes into ``metadata.options`` of every job.
        :param template: crystals to start from (``start_time`` in ``sample.parameters``), or to hold parts of
            (``constraints``).
        :param phases: known phases, for ``max_hull_distance`` of the criteria.
        :param known: known crystals, for ``novel`` of the criteria.
        :param classifier: guides by its gradient, unless the overrides say another ``guidance``.
        :param n_jobs: how many jobs of each kind share the candidates.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        sampling = inputs["sample"]["parameters"]
        asked = (overrides or {}).get("sample", {}).get("parameters", {})
        if "compositions" not in asked and not suits_compositions(checkpoint, target, sampling):
            sampling.pop("compositions", None)
        code = load(code)
        builder = cls.get_builder()
        builder.checkpoint, builder.predictor, builder.force_field = checkpoint, predictor, force_field
        if target is not None:
            builder.target = target
        if phases is not None:
            builder.phases = phases
        if known is not None:
            builder.known = known
        if template is not None:
            builder["sample"].template = template
        if classifier is not None:
            builder["sample"].classifier = classifier
            sampling.setdefault("guidance", "classifier")
        defaults = CampaignNumbers.model_fields  # of what no protocol says
        builder.seed = orm.Int(inputs.get("seed", defaults["seed"].default) if seed is None else seed)
        builder.n_candidates = orm.Int(inputs["n_candidates"] if n_candidates is None else n_candidates)
        builder.n_jobs = inputs.get("n_jobs", defaults["n_jobs"].default) if n_jobs is None else n_jobs
        builder.criteria = checked(ScreenCriteria, inputs["criteria"], "criteria")
        builder["sample"].parameters = checked(SampleParameters, sampling, "sample.parameters")
        builder["relax"].parameters = checked(RelaxParameters, inputs["relax"]["parameters"], "relax.parameters")
        for step in ("sample", "relax", "predict"):
            builder[step].code = code
            builder[step].metadata = job_metadata(inputs[step]["metadata"], options, code)
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def is_sample_left(self) -> bool:
        """Say whether jobs of the sampling are left to submit."""
        return bool(self.left("sample"))

    def run_sample(self) -> None:
        """Sample all candidates."""
        for name, (start, stop) in self.left("sample").items():
            inputs = self.exposed_inputs(SampleCalculation, "sample")
            inputs.update(
                checkpoint=self.inputs.checkpoint,
                seed=self.inputs.seed,
                candidates=orm.List([start, stop]),
                **self._target(),
            )
            self.submit_share(SampleBaseWorkChain, "sample", name, inputs)

    def inspect_sample(self) -> ExitCode | None:
        """Continue with the candidates there are."""
        return self.inspect_shares("sample", "sampled", self.exit_codes.ERROR_SAMPLE_FAILED)

    def are_references_left(self) -> bool:
        """Say whether the energies of the elements are not there yet."""
        return "reference_energies" not in self.ctx

    def run_references(self) -> None:
        """Look for the energies of the elements that the candidates and the known phases have, or start to compute them."""
        if "references" in self.inputs:
            self.ctx.reference_energies = self.inputs.references
            return
        sets = [self.ctx[f"sample{name}"].outputs.crystals for name in self.shares()]
        sets += [self.inputs.phases] if "phases" in self.inputs else []
        elements = {symbol for crystals in sets for symbol in crystals.base.attributes.get("elements")}
        inputs = self._relax_others()
        stored = stored_references(self.inputs.force_field, inputs.parameters.get_dict(), elements)
        if stored is not None:
            self.report(f"taking the energies of the elements from Dict<{stored.pk}>")
            self.ctx.reference_energies = stored
            return
        inputs.update(elements=orm.List(sorted(elements)), force_field=self.inputs.force_field)
        inputs.metadata.options.pop("parser_name")  # of the relaxation; the job has its own
        self.to_context(references=self.submit_child(ReferencesBaseWorkChain, "references", "references", inputs))

    def inspect_references(self) -> ExitCode | None:
        """Take the energies of the elements that were computed."""
        if "reference_energies" in self.ctx or self.to_repeat(["references"]):
            return None
        if not self.ctx.references.is_finished_ok:
            return self.fail_with(self.exit_codes.ERROR_REFERENCES_FAILED.format(reason=failure(self.ctx.references)))
        self.ctx.reference_energies = self.ctx.references.outputs.references
        return None

    def is_relax_left(self) -> bool:
        """Say whether relaxations are left to submit."""
        return bool(self.left("relax")) or ("phases" in self.inputs and self.is_wanted("phases"))

    def run_relax(self) -> None:
        """Relax all candidates, and the known phases."""
        for name in self.left("relax"):
            inputs = self.exposed_inputs(RelaxCalculation, "relax")
            inputs.update(crystals=self.ctx[f"sample{name}"].outputs.crystals, force_field=self.inputs.force_field)
            self.submit_share(RelaxBaseWorkChain, "relax", name, inputs)
        if "phases" in self.inputs and self.is_wanted("phases"):
            phases = self._relax_others()
            phases.update(crystals=self.inputs.phases, force_field=self.inputs.force_field)
            self.to_context(phases=self.submit_child(RelaxBaseWorkChain, "relax", "relax_phases", phases))

    def inspect_relax(self) -> ExitCode | None:
        """Continue with the crystals there are."""
        if self.to_repeat(["phases", *self.labels("relax")]):
            return None
        if "phases" in self.ctx and not (self.ctx.phases.is_finished_ok or has_partial_results(self.ctx.phases)):
            return self.fail_with(self.exit_codes.ERROR_RELAX_FAILED.format(reason=f"known phases: {failure(self.ctx.phases)}"))
        return self.inspect_shares("relax", "relaxed", self.exit_codes.ERROR_RELAX_FAILED)

    def is_predict_left(self) -> bool:
        """Say whether predictions are left to submit."""
        return bool(self.left("predict"))

    def run_predict(self) -> ExitCode | None:
        """Predict the DOS of all candidates: relaxed, and also unrelaxed if the criteria compare that geometry."""
        criteria = ScreenCriteria.model_validate(self.inputs.criteria.get_dict())
        both = "target" in self.inputs and UNRELAXED in criteria.geometries
        for name in self.left("predict"):
            crystals = self.ctx[f"relax{name}"].outputs.crystals
            if both:
                crystals, node = join_geometries.run_get_node(
                    relaxed=crystals,
                    unrelaxed=self.ctx[f"sample{name}"].outputs.crystals,
                    metadata={"call_link_label": f"join_geometries{name}"},
                )
                if not node.is_finished_ok:
                    return self.fail_with(self.exit_codes.ERROR_SCREENING_FAILED.format(reason=node.exit_message))
            inputs = self.exposed_inputs(PredictCalculation, "predict")
            inputs.update(crystals=crystals, checkpoint=self.inputs.predictor)
            if self.inputs.n_candidates.value > criteria.max_ranked:
                inputs.update(self._screening())
            self.submit_share(PredictBaseWorkChain, "predict", name, inputs)
        return None

    def inspect_predict(self) -> ExitCode | None:
        """Continue with the crystals there are."""
        return self.inspect_shares("predict", "predicted", self.exit_codes.ERROR_PREDICT_FAILED)

    def run_screen(self) -> ExitCode | None:
        """Keep the good ones, best first."""
        result, node = screen.run_get_node(
            crystals=self.joined("predict"),
            **self._screening(),
            **self.left_out(),
            metadata={"call_link_label": "screen"},
        )
        if not node.is_finished_ok:
            reason = node.exit_message or "see verdi process report"
            return self.fail_with(self.exit_codes.ERROR_SCREENING_FAILED.format(reason=reason))
        self.out("report", result["report"])
        self.out("crystals", result["crystals"])
        survivors = result["crystals"].base.attributes.get("n_crystals")
        self.report(f"{survivors} of {self.inputs.n_candidates.value} candidates passed the screening")
        return None

    # --- helpers ----------------------------------------------------------------------------------------------------

    @property
    def subject(self) -> orm.Node:
        """The target, or without one the checkpoint, of which a failure is noted."""
        return self.inputs.target if "target" in self.inputs else self.inputs.checkpoint

    def _target(self) -> dict[str, DosTargetData]:
        return {"target": self.inputs.target} if "target" in self.inputs else {}

    def _screening(self) -> dict[str, Any]:
        """Return what candidates are screened by."""
        return {
            "references": self.ctx.reference_energies,
            "criteria": self.inputs.criteria,
            **self._target(),
            **({"phases": self.ctx.phases.outputs.crystals} if "phases" in self.ctx else {}),
            **({"known": self.inputs.known} if "known" in self.inputs else {}),
        }

    def _relax_others(self) -> Any:
        """Return inputs to relax elements and known phases."""
        inputs = self.exposed_inputs(RelaxCalculation, "relax")
        given = inputs.parameters.get_dict()
        parameters = reference_parameters(given)
        if parameters != given:  # else the given node itself is linked
            inputs.parameters = orm.Dict(parameters)
        return inputs


def suits_compositions(checkpoint: CheckpointData, target: DosTargetData | None, sampling: Mapping) -> bool:
    """Say whether compositions can be proposed, and a curve says enough to choose among them."""
    return (
        bool(checkpoint.base.attributes.get("architecture", {}).get("composition"))
        and target is not None
        and not target.base.attributes.get("only_wishes", None)
        and sampling.get("start_time") is None
    )
