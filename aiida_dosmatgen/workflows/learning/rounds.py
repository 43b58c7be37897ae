"""The steps of a round: campaign, second runs, gate, trainings, evaluations, verdicts, summary."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import LinkType

from ...calculations.functions import (
    add_known,
    choose_repeats,
    extend_labelled,
    gate,
    judge_checkpoint,
    plan_round,
    rehearse,
    sum_up_round,
)
from ...core.learning.settings import LearnSettings
from ...data.base import pk_of
from ..failures import failure, failure_of, noted
from .children import ChildrenMixin


class RoundsMixin(ChildrenMixin):
    """Each step takes what the children of the one before have left, and says which are wanted next."""

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
            **{f"target_{name}": target for name, target in self.inputs.targets.items()},
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
        """Add the results that meet the criteria to the training set."""
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

    # --- helpers ----------------------------------------------------------------------------------------------------

    @property
    def _settings(self) -> LearnSettings:
        return LearnSettings.model_validate(self.inputs.settings.get_dict())

    def _note(self, what: str, reason: orm.Dict) -> None:
        """Note what failed; the loop continues."""
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
