"""Training data with provenance: energy, forces, stress and per-atom DOS of many crystals by Quantum ESPRESSO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder
from aiida.engine.processes.calcjobs.calcjob import validate_calc_job
from aiida.orm.nodes.data.base import to_aiida_type
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_quantumespresso.calculations.projwfc import ProjwfcCalculation
from aiida_quantumespresso.calculations.pw import PwCalculation
from aiida_quantumespresso.workflows.pdos import clean_calcjob_remote

from ..calculations.functions import assemble_labelled
from ..core.dft.settings import LabelParameters, highest_cutoffs, label_namelists
from ..core.errors import ContentError
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from .error_handlers import WITHOUT_SYMMETRY, handler
from .failures import failure
from .functions import label_report, prepare_label
from .interruptions import was_interrupted
from .outline import while_
from .protocols.utils import StrictProtocolMixin, checked, job_metadata, load, problem_with
from .pseudos import pseudos_and_cutoffs, valence_electrons, validate_pseudos
from .timing import computed_in_this_run
from .windows import SlidingWindowWorkChain, at_least_one

_SHARE_OF_WALLTIME = 0.9


def validate_parameters(node: orm.Dict | None, _: Any) -> str | None:
    """Refuse parameters that do not exist."""
    return problem_with(LabelParameters, node.get_dict(), "parameters") if node is not None else None


class LabelWorkChain(StrictProtocolMixin, SlidingWindowWorkChain):
    """Label crystals: a self-consistent run with extra bands and the projections, two jobs for each crystal.

    The same as ``dosmatgen label`` with AiiDA: equal settings give equal labels. At most ``max_concurrent`` crystals are
    computed at a time; when one is done, the next begins. A crystal that fails is recorded with its reason, and the others
    continue. With AiiDA's caching, crystals that an earlier work chain has finished are not computed again.
    """

    _protocol_name = "label"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("crystals", valid_type=CrystalSetData, help="The crystals to label.")
        spec.input("parameters", valid_type=orm.Dict, validator=validate_parameters, help="See LabelParameters.")
        spec.input(
            "max_concurrent",
            valid_type=int,
            non_db=True,
            default=2,
            validator=at_least_one("max_concurrent"),
            help="How many crystals are computed at a time.",
        )
        spec.input(
            "clean_workdir",
            valid_type=orm.Bool,
            serializer=to_aiida_type,
            default=lambda: orm.Bool(True),
            help="Whether the work directories are emptied.",
        )
        spec.input_namespace(
            "pseudos",
            valid_type=UpfData,
            dynamic=True,
            validator=validate_pseudos,
            help="Pseudopotentials by chemical symbol; each crystal takes those of its elements.",
        )
        spec.expose_inputs(
            PwCalculation,
            namespace="pw",
            exclude=("structure", "pseudos", "kpoints", "parameters", "parent_folder"),
            namespace_options={"validator": validate_calc_job},  # its own wants to see the parameters
        )
        spec.expose_inputs(ProjwfcCalculation, namespace="projwfc", exclude=("parent_folder", "parameters"))
        spec.outline(
            cls.setup,
            cls.open_window,
            while_(cls.crystals_left)(
                while_(cls.may_start)(cls.start_next),
                cls.wait_for_one,
                cls.inspect,
            ),
            cls.assemble,
        )
        spec.output("crystals", valid_type=LabelledCrystalSetData, required=False, help="The crystals that have labels.")
        spec.output("report", valid_type=orm.Dict, required=False, help="Counts, reasons of those without labels, speed.")
        spec.exit_code(310, "ERROR_NO_LABELS", message="no crystal could be labelled: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        pw_code: orm.AbstractCode | str,
        projwfc_code: orm.AbstractCode | str,
        crystals: CrystalSetData,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        max_concurrent: int | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param overrides: inputs that take precedence over those of the protocol, nested as the inputs are; plain values.
        :param options: goes into ``metadata.options`` of every job.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        elements = crystals.base.attributes.get("elements")
        pseudos, cutoffs = pseudos_and_cutoffs(inputs["pseudo_family"], elements, inputs.get("cutoffs_stringency"))
        builder = cls.get_builder()
        builder.crystals = crystals
        builder.pseudos = pseudos
        builder.parameters = checked(LabelParameters, {"cutoffs": cutoffs, **inputs["parameters"]}, "parameters")
        builder.max_concurrent = max_concurrent or inputs["max_concurrent"]
        builder.clean_workdir = orm.Bool(inputs["clean_workdir"])
        for step, code in (("pw", load(pw_code)), ("projwfc", load(projwfc_code))):
            builder[step].code = code
            builder[step].metadata = job_metadata(inputs[step]["metadata"], options, code)
            if inputs[step].get("settings"):
                builder[step].settings = orm.Dict(inputs[step]["settings"])
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Begin with the first crystal."""
        self.ctx.next = 0
        self.ctx.again = []  # rows whose self-consistent run has to be repeated
        self.ctx.projectable = []  # rows whose self-consistent run has finished, and whose projections are next
        self.ctx.jobs = {}  # the uuids of a row's jobs
        self.ctx.without_symmetry = []  # rows that are only almost symmetric, and are computed once more
        self.ctx.failures = {}
        self.ctx.finished = []

    def crystals_left(self) -> bool:
        """Say whether there are crystals that are not done yet."""
        return self.may_start() or bool(self.ctx.running)

    def may_start(self) -> bool:
        """Say whether another job can be submitted. The projections of a crystal come before the next crystal."""
        total = self.inputs.crystals.base.attributes.get("n_crystals")
        return self.has_capacity() and (bool(self.ctx.projectable or self.ctx.again) or self.ctx.next < total)

    def start_next(self) -> None:
        """Submit the projections of a crystal, or the self-consistent run of the next."""
        if self.ctx.projectable:
            self._run_projwfc(self.ctx.projectable.pop(0))
        elif self.ctx.again:
            self._run_pw(self.ctx.again.pop(0))
        else:
            self.ctx.next += 1
            self._run_pw(self.ctx.next - 1)

    def inspect(self) -> None:
        """Note which crystals are done, and empty their work directories."""
        for key, node in self.collect().items():
            step, row = key.split("_")
            if not node.is_finished_ok and was_interrupted(node) and self.retry(key, node):
                self.ctx.jobs[row].pop()
                self._empty(node)
                (self.ctx.again if step == "pw" else self.ctx.projectable).append(int(row))
                continue
            if handler(node) == WITHOUT_SYMMETRY and int(row) not in self.ctx.without_symmetry:
                self.report(f"crystal {row}: {failure(node)}; computing it again, {WITHOUT_SYMMETRY}")
                self._clean_up(int(row))
                self.ctx.jobs[row].clear()
                self.ctx.without_symmetry.append(int(row))
                self.ctx.again.append(int(row))
                continue
            if not node.is_finished_ok:
                self.ctx.failures[row] = failure(node)
            elif step == "pw":
                self.ctx.projectable.append(int(row))
                continue
            else:
                self.ctx.finished.append(int(row))
            self._clean_up(int(row))
            total = self.inputs.crystals.base.attributes.get("n_crystals")
            self.report(f"{len(self.ctx.finished)} of {total} crystals computed, {len(self.ctx.failures)} failed")

    def assemble(self) -> ExitCode | None:
        """Collect the labels, and the reasons of the crystals that have none."""
        failures = orm.Dict(self.ctx.failures)
        runs: dict[str, orm.Data] = {}
        for row in sorted(self.ctx.finished):
            pw, projwfc = (job.outputs for job in self._jobs(row))
            runs[f"bands_{row}"] = pw.output_band
            runs[f"parameters_{row}"] = pw.output_parameters
            runs[f"trajectory_{row}"] = pw.output_trajectory
            runs[f"projections_{row}"] = projwfc.projections
        labelled, node = assemble_labelled.run_get_node(
            crystals=self.inputs.crystals,
            settings=self.inputs.parameters,
            failures=failures,
            **runs,
            metadata={"call_link_label": "assemble_labelled"},
        )
        sets = {"labelled": labelled} if node.is_finished_ok else {}
        jobs = {int(row): self._jobs(int(row)) for row in self.ctx.jobs}
        rate = orm.Dict(computed_in_this_run(jobs, self.inputs.max_concurrent))
        self.out("report", label_report(crystals=self.inputs.crystals, failures=failures, rate=rate, **sets))
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_LABELS.format(reason=node.exit_message)
        self.out("crystals", labelled)
        return None

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _jobs(self, row: int) -> list[Any]:
        """Return the jobs of a crystal, the self-consistent run first."""
        return [orm.load_node(uuid) for uuid in self.ctx.jobs.get(str(row), [])]

    def _submit(self, step: str, row: int, process: type, inputs: AttributeDict) -> None:
        inputs.metadata.call_link_label = f"{step}_{row}"
        node = self.submit(process, **inputs)
        self.ctx.jobs.setdefault(str(row), []).append(node.uuid)
        self.add_child(f"{step}_{row}", node)

    def _run_pw(self, row: int) -> None:
        inputs = self._pw_inputs(row)
        if inputs is not None:
            self._submit("pw", row, PwCalculation, inputs)

    def _run_projwfc(self, row: int) -> None:
        inputs = AttributeDict(self.exposed_inputs(ProjwfcCalculation, "projwfc"))
        inputs.parent_folder = self._jobs(row)[0].outputs.remote_folder
        inputs.parameters = orm.Dict({"PROJWFC": {"ngauss": 0, "degauss": 0.01, "deltae": 1.0}})
        self._submit("projwfc", row, ProjwfcCalculation, inputs)

    def _clean_up(self, row: int) -> None:
        """Empty the work directories of a crystal if asked for."""
        if not self.inputs.clean_workdir.value:
            return
        jobs = self._jobs(row)
        for node in jobs:
            self._empty(node)
        if row not in self.ctx.finished:
            # taken from the cache, these would have nothing left for projwfc.x to read
            for node in [jobs[0], *jobs[0].base.caching.get_all_same_nodes()]:
                node.base.caching.is_valid_cache = False

    def _empty(self, job: orm.CalcJobNode) -> None:
        """Empty the work directory of a job if asked for."""
        if self.inputs.clean_workdir.value and "remote_folder" in job.outputs:
            clean_calcjob_remote(job)

    def _pw_inputs(self, row: int) -> AttributeDict | None:
        """Return the inputs of a crystal's self-consistent run, or None after noting why there are none."""
        prepared, node = prepare_label.run_get_node(
            crystals=self.inputs.crystals,
            row=orm.Int(row),
            parameters=self.inputs.parameters,
            metadata={"call_link_label": f"prepare_{row}"},
        )
        if not node.is_finished_ok:
            self.ctx.failures[str(row)] = node.exit_message
            return None
        structure = prepared["structure"]
        symbols = [structure.get_kind(site.kind_name).symbol for site in structure.sites]
        parameters = LabelParameters.model_validate(self.inputs.parameters.get_dict())
        missing = sorted(set(symbols) - set(self.inputs.pseudos))
        if missing:
            self.ctx.failures[str(row)] = f"no pseudopotential for {' '.join(missing)}"
            return None
        try:
            cutoffs = highest_cutoffs(symbols, parameters.cutoffs)
        except ContentError as exception:
            self.ctx.failures[str(row)] = str(exception)
            return None
        inputs = AttributeDict(self.exposed_inputs(PwCalculation, "pw"))
        walltime = inputs.metadata.options.get("max_wallclock_seconds", None)
        inputs.structure, inputs.kpoints = structure, prepared["kpoints"]
        inputs.pseudos = {kind.name: self.inputs.pseudos[kind.symbol] for kind in structure.kinds}
        inputs.parameters = orm.Dict(
            label_namelists(
                valence_electrons(symbols, self.inputs.pseudos),
                len(symbols),
                cutoffs,
                parameters.smearing,
                parameters.degauss,
                _SHARE_OF_WALLTIME * walltime if walltime else None,
                symmetry=row not in self.ctx.without_symmetry,
            )
        )
        return inputs
