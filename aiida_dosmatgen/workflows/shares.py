"""Jobs that share the candidates: each is submitted, inspected and repeated on its own, and their results are joined."""

from __future__ import annotations

import itertools
from typing import Any

from aiida.engine import ExitCode, WorkChain
from aiida.orm import ProcessNode

from ..calculations.functions import join_crystals
from ..data.crystals import CrystalSetData
from .failures import FailureMixin, failure
from .resuming import ResumingMixin
from .retries import RetryMixin


class SharesMixin(RetryMixin, ResumingMixin, FailureMixin, WorkChain):
    """Steps with one job for each share of the candidates.

    The work chain has the inputs ``n_candidates``, ``n_jobs``, ``max_iterations`` and ``clean_workdir``. In its context are the
    jobs by the names of their steps with that of the share (``sample_0``), those to submit again (``again``), and the names of
    shares without a result (``lost``).
    """

    def shares(self) -> dict[str, tuple[int, int]]:
        """Return the ranges of candidates of all jobs that have not failed, by what is added to the names of their steps."""
        total = self.inputs.n_candidates.value
        n_jobs = min(self.inputs.n_jobs, total)
        if n_jobs == 1:
            return {"": (0, total)}
        limits = [total * i // n_jobs for i in range(n_jobs + 1)]
        lost = self.ctx.get("lost", [])
        shares = {f"_{i}": (start, stop) for i, (start, stop) in enumerate(itertools.pairwise(limits))}
        return {name: share for name, share in shares.items() if name not in lost}

    def is_wanted(self, label: str) -> bool:
        """Say whether a job is to be submitted: it never was, or AiiDA failed with the one before."""
        return label not in self.ctx or label in self.ctx.get("again", [])

    def labels(self, step: str) -> list[str]:
        """Return the names of all jobs of a step."""
        return [f"{step}{name}" for name in self.shares()]

    def left(self, step: str) -> dict[str, tuple[int, int]]:
        """Return the ranges of candidates, as :meth:`shares` has them, whose job of a step is to be submitted."""
        return {name: share for name, share in self.shares().items() if self.is_wanted(f"{step}{name}")}

    def to_repeat(self, labels: list[str]) -> bool:
        """Note which of the jobs continue, or are submitted again as AiiDA failed with them, and say whether there are any."""
        ended = {label: self.ctx[label] for label in labels if label in self.ctx}
        self.ctx.again = [label for label, node in ended.items() if self.comes_again(label, node)]
        return bool(self.ctx.again)

    def submit_share(self, process_class: Any, step: str, name: str, inputs: Any) -> None:
        """Submit the job of a share.

        :param name: of the share, as :meth:`shares` has it.
        """
        label = f"{step}{name}"
        self.to_context(**{label: self.submit_child(process_class, step, label, inputs)})

    def submit_child(self, process_class: Any, kind: str, label: str, inputs: Any) -> ProcessNode:
        """Submit a job of a kind; the chains around jobs share the nodes that say how persistent they are."""
        shared = {name: self.inputs[name] for name in ("max_iterations", "clean_workdir")}
        inputs = {kind: inputs, **shared, "metadata": {"call_link_label": label}}
        node = self.submitted(label) or self.submit(process_class, **inputs)
        self.report(f"launching {process_class.__name__}<{node.pk}> ({label})")
        return node

    def inspect_shares(self, step: str, output: str, exit_code: ExitCode) -> ExitCode | None:
        """Attach what the jobs of a step found, partial results too; the share of a job without any is lost.

        :param exit_code: returned if there is nothing to continue with.
        """
        if self.to_repeat(self.labels(step)):
            return None
        reasons = {}
        for name in self.shares():
            node = self.ctx[f"{step}{name}"]
            if node.is_finished_ok:
                continue
            if has_partial_results(node):
                self.report(
                    f"{node.process_label}<{node.pk}> stopped early ({failure(node)}); continuing with its partial results"
                )
            else:
                reasons[name] = failure(node)
        if len(reasons) == len(self.shares()):
            return self.fail_with(exit_code.format(reason="; ".join(dict.fromkeys(reasons.values()))))
        for name, (start, stop) in self.shares().items():
            if name in reasons:
                self.report(f"candidates {start} to {stop - 1} are lost: {reasons[name]}")
        self.ctx.lost = [*self.ctx.get("lost", []), *reasons]
        self.out(output, self.joined(step))
        return None

    def joined(self, step: str) -> CrystalSetData:
        """Return the crystals of all jobs of a step in one node."""
        parts = {f"part{name}": self.ctx[f"{step}{name}"].outputs.crystals for name in self.shares()}
        if len(parts) == 1:
            return next(iter(parts.values()))
        if f"{step}_joined" not in self.ctx:
            self.ctx[f"{step}_joined"] = join_crystals(**parts, metadata={"call_link_label": f"join_{step}"})
        return self.ctx[f"{step}_joined"]

    def left_out(self) -> dict[str, CrystalSetData]:
        """Return what the jobs left out as they predicted, in one node, if there is anything."""
        outputs = {name: self.ctx[f"predict{name}"].outputs for name in self.shares()}
        parts = {f"part{name}": of.left_out for name, of in outputs.items() if "left_out" in of}
        if len(parts) > 1:
            return {"left_out": join_crystals(**parts, metadata={"call_link_label": "join_left_out"})}
        return {"left_out": next(iter(parts.values()))} if parts else {}


def has_partial_results(node: ProcessNode) -> bool:
    """Say whether a failed job has partial results: exit codes 4xx with crystals."""
    return node.is_finished and 400 <= (node.exit_status or 0) < 500 and "crystals" in node.outputs
