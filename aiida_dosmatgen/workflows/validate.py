"""The density of states of one crystal by DFT, scored against the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, ToContext, WorkChain
from aiida.orm import to_aiida_type
from aiida_quantumespresso.workflows.protocols.utils import recursive_merge
from aiida_quantumespresso.workflows.pw.relax import PwRelaxWorkChain

from ..calculations.functions import ELECTRONS_MISSING, score_dos
from ..core.dft.recipe import Recipe, scf_namelists
from ..data.conversion import StructureData
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData
from .around_dos import AroundDosMixin
from .dos import DosWorkChain, validate_structure
from .failures import FailureMixin, failure
from .outline import while_
from .protocols.utils import job_metadata, load
from .pseudos import headers, missing_pseudo
from .resuming import ResumingMixin
from .retries import RetryMixin, was_interrupted
from .workdirs import empty_workdirs

_ENERGY_PER_ATOM = 1e-5  # Ry, by which a relaxation may still lower the energy


class ValidateWorkChain(AroundDosMixin, RetryMixin, ResumingMixin, FailureMixin, WorkChain):
    """Compute the density of states of a structure with Quantum ESPRESSO, relaxed by it before if asked for, and score it.

    The inputs ``dos`` and ``relax`` are the same for every structure; what depends on the structure is filled in. The
    density of states is that of :class:`.DosWorkChain`, as labels are; what depends on the recipe in a relaxation (cutoffs,
    smearing, spin, functional) is taken from the same recipe, where the parameters of ``relax`` leave it open.
    """

    _protocol_name = "validate"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("structure", valid_type=StructureData, validator=validate_structure, help="The crystal.")
        spec.input("target", valid_type=DosTargetData, help="What its density of states is scored against.")
        cls.define_dos(spec)
        spec.expose_inputs(
            PwRelaxWorkChain,
            namespace="relax",
            exclude=("structure", "clean_workdir", "base_init_relax", "base_relax.pw.pseudos"),
            namespace_options={"required": False, "populate_defaults": False},
        )
        spec.outline(
            cls.setup,
            while_(cls.should_relax)(cls.run_relax, cls.inspect_relax),
            while_(cls.should_run_dos)(cls.run_dos, cls.inspect_dos),
            cls.score,
        )
        spec.output("structure", valid_type=StructureData, required=False, help="The structure whose DOS was computed.")
        spec.output("dos", valid_type=CrystalSetData, required=False, help="The crystal with its density of states.")
        spec.output("score", valid_type=orm.Dict, required=False, help="Distances to the target.")
        cls.define_failure(spec)
        spec.exit_code(201, "ERROR_NO_PSEUDOPOTENTIAL", message="pseudopotentials: {reason}")
        spec.exit_code(301, "ERROR_RELAX_FAILED", message="the relaxation by pw.x failed: {reason}")
        spec.exit_code(302, "ERROR_DOS_FAILED", message="the density of states could not be computed: {reason}")
        spec.exit_code(310, "ERROR_DOS_REFUSED", message="the DOS is not scored: {reason}")
        spec.exit_code(311, "ERROR_SCORE_FAILED", message="the DOS could not be scored: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        pw_code: orm.AbstractCode | str,
        projwfc_code: orm.AbstractCode | str,
        structure: StructureData | None = None,
        target: DosTargetData | None = None,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        relax: bool = False,
        elements: list[str] | None = None,
        **spin: Any,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        Other arguments are those of :meth:`.DosWorkChain.get_builder_from_protocol`.

        :param structure: may be left out, as may ``target``, to be filled in later: nothing else depends on them.
        :param relax: whether pw.x relaxes the structure before.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        if elements is None and structure is not None:
            elements = [kind.symbol for kind in structure.kinds]
        builder, inputs = cls.builder_with_dos(pw_code, projwfc_code, protocol, overrides, options, elements, **spin)
        if structure is not None:
            builder.structure = structure
        if target is not None:
            builder.target = target
        if relax:
            builder.relax = _relax_inputs(inputs["relax"], load(pw_code), options)
        else:
            builder.pop("relax", None)
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> ExitCode | None:
        """Look whether there are pseudopotentials."""
        self.ctx.structure = self.inputs.structure
        problem = missing_pseudo((kind.symbol for kind in self.inputs.structure.kinds), self.inputs.dos.pseudos)
        return self.fail_with(self.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.format(reason=problem)) if problem else None

    def should_relax(self) -> bool:
        """Say whether a relaxation is requested, and not done yet."""
        return "relax" in self.inputs and not self.ctx.get("relaxed", False)

    def run_relax(self) -> ToContext:
        """Relax the structure with pw.x."""
        inputs = AttributeDict(self.exposed_inputs(PwRelaxWorkChain, "relax"))
        inputs.structure = self.ctx.structure
        self._fill(inputs.base_relax.pw)
        inputs.metadata.call_link_label = "relax"
        node = self.submitted("relax")
        if node is None or (node.is_terminated and not node.is_finished_ok):  # one that was interrupted is run again
            node = self.submit(PwRelaxWorkChain, **inputs)
            self.report(f"launching PwRelaxWorkChain<{node.pk}>")
        return ToContext(relax=node)

    def inspect_relax(self) -> ExitCode | None:
        """Go on with the relaxed structure."""
        if not self.ctx.relax.is_terminated:  # the end was announced by a second worker, which failed with it
            return None
        if not self.ctx.relax.is_finished_ok:
            if was_interrupted(self.ctx.relax) and self.repeat("relax", self.ctx.relax):
                return None
            return self.fail_with(self.exit_codes.ERROR_RELAX_FAILED.format(reason=failure(self.ctx.relax)))
        self.ctx.structure = self.ctx.relax.outputs.output_structure
        self.ctx.relaxed = True
        return None

    def should_run_dos(self) -> bool:
        """Say whether the density of states is not there yet."""
        return "dos" not in self.ctx or not self.ctx.dos.is_finished_ok

    def run_dos(self) -> ToContext:
        """Compute the density of states."""
        node = self.submitted("dos") or self.submit(DosWorkChain, **self.dos_inputs(self.ctx.structure, "dos"))
        self.report(f"launching DosWorkChain<{node.pk}>")
        return ToContext(dos=node)

    def inspect_dos(self) -> ExitCode | None:
        """End if there is no density of states. Interrupted jobs were repeated there; here it is the work chain itself."""
        node = self.ctx.dos
        if node.is_finished_ok or self.comes_again("dos", node):
            return None
        return self.fail_with(self.exit_codes.ERROR_DOS_FAILED.format(reason=failure(node)))

    def score(self) -> ExitCode | None:
        """Compare the density of states with the target."""
        dos = self.ctx.dos.outputs.dos
        score, node = score_dos.run_get_node(dos=dos, target=self.inputs.target, metadata={"call_link_label": "score_dos"})
        self.out("structure", self.ctx.structure)
        self.out("dos", dos)
        if node.exit_status == ELECTRONS_MISSING:
            return self.fail_with(self.exit_codes.ERROR_DOS_REFUSED.format(reason=node.exit_message))
        if not node.is_finished_ok:
            return self.fail_with(self.exit_codes.ERROR_SCORE_FAILED.format(reason=failure(node)))
        self.out("score", score)
        differ = score.get_dict().get("meaning")
        if differ:
            self.report(
                f"the curves of the target are a {differ['target']}, those of DFT a {differ['dos']}; they were compared all "
                "the same, and the distances hold what projectors do not see"
            )
        return None

    def on_terminated(self) -> None:
        """Empty the work directories if asked for."""
        super().on_terminated()
        if self.inputs.clean_workdir.value and "relax" in self.inputs:
            empty_workdirs(self.node, self.report)

    # --- helpers ----------------------------------------------------------------------------------------------------

    @property
    def subject(self) -> orm.Node:
        """The structure, of which a failure is noted."""
        return self.inputs.structure

    def _fill(self, pw: AttributeDict) -> None:
        """Fill in what depends on the structure and on the recipe, where the parameters leave it open."""
        structure, recipe = self.ctx.structure, Recipe.model_validate(self.inputs.dos.recipe.get_dict())
        kinds = {kind.name: kind.symbol for kind in structure.kinds}
        symbols = [kinds[site.kind_name] for site in structure.sites]
        pw.pseudos = {name: self.inputs.dos.pseudos[symbol] for name, symbol in kinds.items()}
        found = headers({symbol: self.inputs.dos.pseudos[symbol] for symbol in set(symbols)})
        namelists: dict = scf_namelists(recipe, symbols, {symbol: upf.valence for symbol, upf in found.items()})
        namelists["CONTROL"]["etot_conv_thr"] = _ENERGY_PER_ATOM * len(symbols)
        for key, value in namelists["SYSTEM"].items():
            if isinstance(value, Mapping):  # by symbol; pw.x takes it by kind
                namelists["SYSTEM"][key] = {name: value[s] for name, s in kinds.items() if s in value}
        pw.parameters = orm.Dict(recursive_merge(namelists, pw.parameters.get_dict()))


def _relax_inputs(given: Mapping, code: orm.AbstractCode, options: Mapping | None) -> dict:
    """Return the inputs of a ``PwRelaxWorkChain`` for any structure."""
    base = dict(given["base_relax"])
    pw = dict(base.pop("pw"))
    metadata = job_metadata(pw.pop("metadata"), options, code)
    return {
        **{key: to_aiida_type(value) for key, value in given.items() if key != "base_relax"},
        "base_relax": {
            **{key: to_aiida_type(value) for key, value in base.items()},
            "pw": {"code": code, "metadata": metadata, **{key: to_aiida_type(value) for key, value in pw.items()}},
        },
    }
