"""What work chains around :class:`.DosWorkChain` share: its inputs for any crystal, and failures that become outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ProcessBuilder, WorkChain
from aiida_quantumespresso.workflows.protocols.utils import recursive_merge

from .dos import CLEAN_WORKDIR, DosWorkChain
from .protocols.utils import StrictProtocolMixin, inputs_of

_PER_CRYSTAL = ("structure", "clean_workdir")


class AroundDosMixin(StrictProtocolMixin, WorkChain):
    """A work chain that computes densities of states by :class:`.DosWorkChain`, in its namespace ``dos``."""

    @classmethod
    def define_dos(cls, spec: Any) -> None:
        """Define the inputs of the density of states."""
        spec.input("clean_workdir", **CLEAN_WORKDIR)
        spec.expose_inputs(DosWorkChain, namespace="dos", exclude=_PER_CRYSTAL)

    @classmethod
    def builder_with_dos(
        cls,
        pw_code: orm.AbstractCode | str,
        projwfc_code: orm.AbstractCode | str,
        protocol: str | None,
        overrides: Mapping | None,
        options: Mapping | None,
        elements: list[str] | None,
        **spin: Any,
    ) -> tuple[ProcessBuilder, dict]:
        """Return a builder with the inputs of the density of states, and all inputs of the protocol.

        Arguments as of :meth:`.DosWorkChain.get_builder_from_protocol`; ``pseudo_family`` and ``recipe`` may be given beside
        ``dos`` in the overrides.

        :param spin: ``spin_type``, ``electronic_type``, ``initial_magnetic_moments``.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        given = {key: inputs[key] for key in ("pseudo_family", "recipe") if key in inputs}
        dos = DosWorkChain.get_builder_from_protocol(
            pw_code,
            projwfc_code,
            protocol=protocol or cls.get_default_protocol(),
            overrides=recursive_merge(dict(inputs["dos"]), given),
            options=options,
            elements=elements,
            **spin,
        )
        builder = cls.get_builder()
        builder.dos = {key: value for key, value in inputs_of(dos).items() if key not in _PER_CRYSTAL}
        builder.clean_workdir = orm.Bool(inputs["clean_workdir"])
        return builder, inputs

    def dos_inputs(self, structure: orm.Node, label: str) -> AttributeDict:
        """Return the inputs of a crystal's :class:`.DosWorkChain`.

        :param label: of the call.
        """
        inputs = AttributeDict(self.exposed_inputs(DosWorkChain, "dos"))
        inputs.structure, inputs.clean_workdir = structure, self.inputs.clean_workdir
        inputs.metadata.call_link_label = label
        return inputs
