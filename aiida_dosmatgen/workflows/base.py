"""Base work chains: jobs of ``dosmatgen``, resubmitted until they are complete."""

from __future__ import annotations

import re
from typing import Any

from aiida import orm
from aiida.common import LinkType
from aiida.engine import BaseRestartWorkChain, CalcJob, ExitCode, ProcessHandlerReport, process_handler

from ..calculations.base import STDERR_FILE, DosmatgenCalculation
from ..calculations.crystals import CrystalsCalculation
from ..calculations.evaluate import EvaluateCalculation
from ..calculations.frames import FramesCalculation
from ..calculations.predict import PredictCalculation
from ..calculations.pseudolabel import PseudolabelCalculation
from ..calculations.references import ReferencesCalculation
from ..calculations.relax import RelaxCalculation
from ..calculations.sample import SampleCalculation
from ..calculations.train import TrainCalculation
from .outline import while_
from .retries import RetryMixin, aiida_failed, interrupted_codes

_JOB = DosmatgenCalculation.exit_codes
INTERRUPTED = interrupted_codes(DosmatgenCalculation)
MAX_ITERATIONS = 20
"""How often a job is submitted at most, until it is complete, unless the inputs say another number."""

_RUN = "run"
_SMALLER_BATCH = 16  # the first that is tried if the scheduler ended a job for its memory


def progress(node: orm.CalcJobNode) -> int:
    """Return how many a run had done when it last said so, or -1."""
    if "retrieved" not in node.outputs or STDERR_FILE not in node.outputs.retrieved.base.repository.list_object_names():
        return -1
    text = node.outputs.retrieved.base.repository.get_object_content(STDERR_FILE, mode="rb").decode(errors="replace")
    return max((int(done) for done in re.findall(r"^(\d+)/\d+ ", text, re.MULTILINE)), default=-1)


class DosmatgenBaseWorkChain(RetryMixin, BaseRestartWorkChain):
    """Run a job of ``dosmatgen``; if it stopped early or was interrupted, submit it again with its restart files."""

    _process_class: type[DosmatgenCalculation] | None = None

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        assert cls._process_class is not None
        spec.expose_inputs(cls._process_class, namespace=cls._process_class.KIND)
        spec.expose_outputs(cls._process_class)
        spec.inputs["max_iterations"].default = lambda: orm.Int(MAX_ITERATIONS)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.exit_code(
            410,
            "ERROR_INCOMPLETE",
            message="gave up with {done} of {of} done, which are attached: {reason}",
            invalidates_cache=True,
        )

    def setup(self) -> None:
        """Take the inputs of the job; nothing is done yet."""
        super().setup()
        assert self._process_class is not None
        self.ctx.inputs = self.exposed_inputs(self._process_class, self._process_class.KIND)
        self.ctx.done = self.ctx.seen = -1

    def inspect_process(self) -> ExitCode | None:
        """Repeat a job that an exception of AiiDA ended, which a plain restart work chain gives up; else call the handlers."""
        node = self.ctx.children[self.ctx.iteration - 1]
        if not aiida_failed(node) or not self._may_repeat(node):
            return super().inspect_process()
        self._continue_from(node)
        return None

    @process_handler(priority=500, exit_codes=[_JOB.ERROR_STOPPED_EARLY])
    def continue_stopped(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Continue a run that the time limit stopped, as long as each run gets further than the one before."""
        self.progressed(_RUN)
        results = node.outputs.results.get_dict()
        before, self.ctx.done = self.ctx.done, results["done"]
        reason = None
        if results["done"] <= before:
            reason = "the last run got no further; give it more time or a smaller batch_size"
        elif self.ctx.iteration >= self.inputs.max_iterations.value:
            reason = f"max_iterations is {self.inputs.max_iterations.value}"
        if reason is None:
            self._continue_from(node)
            return ProcessHandlerReport(do_break=True)
        self._register_outputs()
        self.out_many(dict(self.get_outputs(node)))
        code = self.exit_codes.ERROR_INCOMPLETE.format(done=results["done"], of=results["of"], reason=reason)
        return ProcessHandlerReport(True, code)

    @process_handler(priority=400)
    def repeat_interrupted(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Repeat what was killed or damaged from outside: scancel, node failure, time or memory limits of the scheduler."""
        if node.exit_status not in INTERRUPTED or not self._may_repeat(node):
            return None
        if node.exit_status == CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY.status:
            options = self.ctx.inputs.metadata.options
            options["batch_size"] = max(1, options["batch_size"] // 2) if options.get("batch_size") else _SMALLER_BATCH
            self.report(f"the scheduler ended the job for its memory; continuing with batches of {options['batch_size']}")
        self._continue_from(node)
        return ProcessHandlerReport(do_break=True)

    def results(self) -> ExitCode | None:
        """Attach the outputs of the last run."""
        self._register_outputs()
        return super().results()

    def _register_outputs(self) -> None:
        """Register the outputs that are attached already, from before the daemon was stopped."""
        for entry in self.node.base.links.get_outgoing(link_type=LinkType.RETURN).all():
            self.out(entry.link_label, entry.node)

    def _may_repeat(self, node: orm.CalcJobNode) -> bool:
        """Count an interrupted run, and say whether there may be another."""
        done, seen = progress(node), self.ctx.seen
        self.ctx.seen = max(seen, done)
        return self.repeat(_RUN, node, further=done > seen)

    def _continue_from(self, node: orm.CalcJobNode) -> None:
        if "remote_folder" in node.outputs:
            self.ctx.inputs["parent_folder"] = node.outputs.remote_folder


class SampleBaseWorkChain(DosmatgenBaseWorkChain):
    """Generate candidates, and continue until all are there."""

    _process_class = SampleCalculation


class RelaxBaseWorkChain(DosmatgenBaseWorkChain):
    """Relax crystals with a force field, and continue until all are done."""

    _process_class = RelaxCalculation


class ReferencesBaseWorkChain(DosmatgenBaseWorkChain):
    """Relax the elements with a force field, and continue until all are done."""

    _process_class = ReferencesCalculation


class PredictBaseWorkChain(DosmatgenBaseWorkChain):
    """Predict the DOS and the formation energy of crystals, and continue until all are done."""

    _process_class = PredictCalculation


class TrainBaseWorkChain(DosmatgenBaseWorkChain):
    """Train a model, and continue until all epochs are done."""

    _process_class = TrainCalculation


class CrystalsBaseWorkChain(DosmatgenBaseWorkChain):
    """Make the crystals of a data set, and begin again if it was interrupted."""

    _process_class = CrystalsCalculation


class PseudolabelBaseWorkChain(DosmatgenBaseWorkChain):
    """Label crystals with a predictor, and continue until all are done."""

    _process_class = PseudolabelCalculation


class FramesBaseWorkChain(DosmatgenBaseWorkChain):
    """Label frames with a force field, and continue until all are done."""

    _process_class = FramesCalculation


class EvaluateBaseWorkChain(DosmatgenBaseWorkChain):
    """Compute the errors of a model on labelled crystals, and begin again if it was interrupted."""

    _process_class = EvaluateCalculation
