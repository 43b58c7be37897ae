"""Training data with provenance: energy, forces and density of states of many crystals by Quantum ESPRESSO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder

from ..calculations.functions import assemble_labelled
from ..calculations.ports import port_from_field
from ..core.campaign import LabelNumbers
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from .around_dos import AroundDosMixin
from .dos import DosWorkChain
from .failures import failure_of, noted
from .functions import crystal_at, label_report
from .outline import while_
from .retries import ended_from_outside
from .timing import rate_of
from .windows import SlidingWindowWorkChain


class LabelWorkChain(AroundDosMixin, SlidingWindowWorkChain):
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
        spec.input("max_concurrent", **port_from_field(LabelNumbers, "max_concurrent"), non_db=True)
        cls.define_dos(spec)
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
        spec.output("report", valid_type=orm.Dict, required=False, help="Counts, and reasons of those without labels.")
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
        **spin: Any,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol; arguments as of :meth:`.DosWorkChain.get_builder_from_protocol`.

        :raises ValueError: for keys or values that do not exist, with one line.
        """
        elements = crystals.base.attributes.get("elements")
        builder, inputs = cls.builder_with_dos(pw_code, projwfc_code, protocol, overrides, options, elements, **spin)
        builder.crystals = crystals
        builder.max_concurrent = inputs["max_concurrent"] if max_concurrent is None else max_concurrent
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Begin with the first crystal."""
        self.ctx.next = 0
        self.ctx.again = []  # rows that were interrupted
        self.ctx.failures = {}  # the node with the reason of each row
        self.ctx.finished = {}  # the density of states of each row

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
            row = int(key.removeprefix("dos_"))
            if ended_from_outside(node) and self.repeat(key, node):
                self.ctx.again.append(row)
            elif node.is_finished_ok:
                self.ctx.finished[str(row)] = node.outputs.dos
            else:
                self.ctx.failures[str(row)] = failure_of(node, node.inputs.structure)
            self.report(f"{len(self.ctx.finished)} of {self._total} crystals computed, {len(self.ctx.failures)} failed")

    def assemble(self) -> ExitCode | None:
        """Collect the labels, and the reasons of the crystals that have none."""
        failures = {f"failure_{row}": node for row, node in self.ctx.failures.items()}
        labelled, node = assemble_labelled.run_get_node(
            crystals=self.inputs.crystals,
            recipe=self.inputs.dos.recipe,
            **failures,
            **{f"dos_{row}": dos for row, dos in self.ctx.finished.items()},
            metadata={"call_link_label": "assemble_labelled"},
        )
        sets = {"labelled": labelled} if node.is_finished_ok else {}
        self.out("report", label_report(crystals=self.inputs.crystals, **failures, **sets))
        self.report(f"computed in this run: {rate_of(self.node, self.inputs.max_concurrent)}")
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NO_LABELS.format(reason=node.exit_message)
        self.out("crystals", labelled)
        return None

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _begin(self, row: int) -> None:
        """Submit the work chain of a crystal, or note why it cannot be computed."""
        node = self.once(f"crystal_at_{row}", crystal_at, crystals=self.inputs.crystals, row=orm.Int(row))
        if not node.is_finished_ok:
            self.ctx.failures[str(row)] = noted(self.inputs.crystals, node.exit_message)
            return
        label = f"dos_{row}"
        chain = self.submitted(label) or self.submit(DosWorkChain, **self.dos_inputs(node.outputs.result, label))
        self.add_child(label, chain)
