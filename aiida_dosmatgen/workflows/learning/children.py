"""The processes that a loop submits: each once, whenever the daemon is stopped."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict

from ...calculations.evaluate import EvaluateCalculation
from ...calculations.functions import moved_in_cell
from ...calculations.train import TrainCalculation
from ..base import EvaluateBaseWorkChain, TrainBaseWorkChain
from ..campaign import CampaignWorkChain
from ..dos import DosWorkChain
from ..resuming import ResumingMixin
from ..retries import RetryMixin
from .inputs import KINDS


class ChildrenMixin(RetryMixin, ResumingMixin):
    """Submits the children whose labels the context ``wanted`` has: ``<what>_<number of the round>_<which>``."""

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
        self.ctx.wanted = [label for label, node in ended.items() if self.comes_again(label, node)]

    # --- their inputs -----------------------------------------------------------------------------------------------

    def _submit(self, label: str) -> orm.ProcessNode:
        """Submit the child of a label."""
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
