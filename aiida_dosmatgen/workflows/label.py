"""Training data with provenance: energy, forces and density of states of many crystals by Quantum ESPRESSO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder
from aiida.orm.nodes.data.base import to_aiida_type

from ..calculations.functions import assemble_labelled
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from .dos import DosWorkChain
from .failures import failure
from .functions import crystal_at, label_report
from .outline import while_
from .protocols.utils import StrictProtocolMixin
from .timing import computed_in_this_run
from .validate import dos_overrides
from .windows import SlidingWindowWorkChain, at_least_one


class LabelWorkChain(StrictProtocolMixin, SlidingWindowWorkChain):
    """Label crystals: one :class:`.DosWorkChain` for each.

    The same as ``dosmatgen label`` with AiiDA: equal recipes give equal labels. At most ``max_concurrent`` crystals are
    computed at a time; when one is done, the next begins. A crystal that fails is recorded with its reason, and the others
    continue. With AiiDA's caching, crystals that an earlier work chain has finished are not computed again.
    """

    _protocol_name = "label"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("crystals", valid_type=CrystalSetData, help="The crystals to label.")
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
        spec.expose_inputs(DosWorkChain, namespace="dos", exclude=("structure", "clean_workdir"))
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
            ``pseudo_family`` chooses the pseudopotentials, ``recipe`` changes how labels are computed.
        :param options: goes into ``metadata.options`` of every job.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        elements = crystals.base.attributes.get("elements")
        dos = DosWorkChain.get_builder_from_protocol(
            pw_code, projwfc_code, None, protocol or cls.get_default_protocol(), dos_overrides(inputs), options, elements
        )
        builder = cls.get_builder()
        builder.crystals = crystals
        builder.dos = {k: v for k, v in dos._inputs(prune=True).items() if k != "clean_workdir"}
        builder.max_concurrent = max_concurrent or inputs["max_concurrent"]
        builder.clean_workdir = orm.Bool(inputs["clean_workdir"])
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Begin with the first crystal."""
        self.ctx.next = 0
        self.ctx.again = []  # rows that were interrupted
        self.ctx.chains = {}  # the uuid of each row's last work chain
        self.ctx.failures = {}
        self.ctx.finished = []

    @property
    def _total(self) -> int:
        return self.inputs.crystals.base.attributes.get("n_crystals")

    def crystals_left(self) -> bool:
        """Say whether there are crystals that are not done yet."""
        return self.may_start() or bool(self.ctx.running)

    def may_start(self) -> bool:
        """Say whether another crystal can be begun."""
        return self.has_capacity() and (bool(self.ctx.again) or self.ctx.next < self._total)

    def start_next(self) -> None:
        """Begin with a crystal that was interrupted, or with the next."""
        if self.ctx.again:
            self._begin(self.ctx.again.pop(0))
        else:
            self.ctx.next += 1
            self._begin(self.ctx.next - 1)

    def inspect(self) -> None:
        """Note which crystals are done."""
        for key, node in self.collect().items():
            # interrupted jobs were repeated there; here it is the work chain itself
            from_outside = node.is_excepted or node.exit_status == self.exit_codes.ERROR_MISSING_OUTPUT.status
            row = key.removeprefix("dos_")
            if from_outside and self.retry(key, node):
                self.ctx.again.append(int(row))
            elif node.is_finished_ok:
                self.ctx.finished.append(int(row))
            else:
                self.ctx.failures[row] = failure(node)
            self.report(f"{len(self.ctx.finished)} of {self._total} crystals computed, {len(self.ctx.failures)} failed")

    def assemble(self) -> ExitCode | None:
        """Collect the labels, and the reasons of the crystals that have none."""
        failures = orm.Dict(self.ctx.failures)
        chains = {int(row): orm.load_node(uuid) for row, uuid in self.ctx.chains.items()}
        labelled, node = assemble_labelled.run_get_node(
            crystals=self.inputs.crystals,
            recipe=self.inputs.dos.recipe,
            failures=failures,
            **{f"dos_{row}": chains[row].outputs.dos for row in sorted(self.ctx.finished)},
            metadata={"call_link_label": "assemble_labelled"},
        )
        sets = {"labelled": labelled} if node.is_finished_ok else {}
        jobs = {
            row: [job for job in chain.called_descendants if isinstance(job, orm.CalcJobNode)] for row, chain in chains.items()
        }
        rate = orm.Dict(computed_in_this_run(jobs, self.inputs.max_concurrent))
        self.out("report", label_report(crystals=self.inputs.crystals, failures=failures, rate=rate, **sets))
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_LABELS.format(reason=node.exit_message)
        self.out("crystals", labelled)
        return None

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _begin(self, row: int) -> None:
        """Submit the work chain of a crystal, or note why it cannot be computed."""
        structure, node = crystal_at.run_get_node(
            crystals=self.inputs.crystals, row=orm.Int(row), metadata={"call_link_label": f"crystal_at_{row}"}
        )
        if not node.is_finished_ok:
            self.ctx.failures[str(row)] = node.exit_message
            return
        inputs = AttributeDict(self.exposed_inputs(DosWorkChain, "dos"))
        inputs.structure, inputs.clean_workdir = structure, self.inputs.clean_workdir
        inputs.metadata.call_link_label = f"dos_{row}"
        chain = self.submit(DosWorkChain, **inputs)
        self.ctx.chains[str(row)] = chain.uuid
        self.add_child(f"dos_{row}", chain)
