"""The density of states of one crystal by DFT, scored against the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.common.exceptions import NotExistent
from aiida.engine import ExitCode, ProcessBuilder, ToContext, WorkChain
from aiida.orm.nodes.data.base import to_aiida_type
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_quantumespresso.workflows.pdos import PdosWorkChain, clean_workchain_calcs
from aiida_quantumespresso.workflows.pw.relax import PwRelaxWorkChain

from ..calculations.functions import ELECTRONS_MISSING, projected_dos, score_dos
from ..core.dft.settings import NO_SYMMETRY, ValidationSettings, highest_cutoffs, more_bands, n_bands
from ..core.errors import ContentError
from ..data.conversion import StructureData
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData
from .error_handlers import MORE_BANDS, WITHOUT_SYMMETRY, handler
from .failures import failure
from .interruptions import was_interrupted
from .outline import while_
from .protocols.utils import StrictProtocolMixin, checked, load, problem_with
from .pseudos import pseudos_and_cutoffs, valence_electrons, validate_pseudos
from .qe_inputs import pdos_inputs, relax_inputs

_IN_A_ROW = 4  # runs that were interrupted at the same step: then something is wrong with the job after all


def validate_settings(node: orm.Dict | None, _: Any) -> str | None:
    """Refuse settings that do not exist."""
    return problem_with(ValidationSettings, node.get_dict(), "settings") if node is not None else None


def validate_inputs(inputs: Mapping, namespace: Any) -> str | None:
    """Refuse what would run for nothing: spin polarisation, and tetrahedra that give a DOS of zeros."""
    if "pdos" not in inputs or "pdos" not in namespace:
        return None
    for step in ("scf", "nscf"):
        parameters = inputs["pdos"].get(step, {}).get("pw", {}).get("parameters")
        system = parameters.get_dict().get("SYSTEM", {}) if parameters is not None else {}
        if system.get("nspin", 1) != 1 or system.get("noncolin", False):
            return f"pdos.{step} is spin-polarised; targets and scores know no spin, leave out nspin and noncolin"
        if system.get("occupations") == "tetrahedra_opt":
            return f"pdos.{step}: occupations tetrahedra_opt gives a DOS of zeros with projwfc.x of QE 6.7; take tetrahedra"
    return None


class ValidateWorkChain(StrictProtocolMixin, WorkChain):
    """Compute the per-atom DOS of a structure with Quantum ESPRESSO, relaxed by it before if asked for, and score it.

    The inputs ``pdos`` and ``relax`` are the same for every structure; what depends on the structure (its
    pseudopotentials, cutoffs, thresholds and number of bands) is filled in where the parameters leave it open.
    A DOS that does not hold the electrons is never scored. If the bands do not reach far enough up, or pw.x or projwfc.x stop
    with an error that is known, they are computed once more from the same charge density: with more bands, without symmetry.
    """

    _protocol_name = "validate"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("structure", valid_type=StructureData, help="The crystal.")
        spec.input("target", valid_type=DosTargetData, help="What its density of states is scored against.")
        spec.input("settings", valid_type=orm.Dict, validator=validate_settings, help="See ValidationSettings.")
        spec.input(
            "clean_workdir",
            valid_type=orm.Bool,
            serializer=to_aiida_type,
            default=lambda: orm.Bool(True),
            help="Whether the work directories are emptied at the end; one validation leaves 50 to 200 MB.",
        )
        spec.input_namespace(
            "pseudos",
            valid_type=UpfData,
            dynamic=True,
            validator=validate_pseudos,
            help="Pseudopotentials by chemical symbol; those of the structure's elements are taken.",
        )
        spec.expose_inputs(
            PdosWorkChain,
            namespace="pdos",
            exclude=(
                *("structure", "clean_workdir", "serial_clean", "dry_run", "nbands_factor"),
                *("scf.pw.pseudos", "nscf.pw.pseudos", "nscf.pw.parent_folder"),
            ),
        )
        spec.expose_inputs(
            PwRelaxWorkChain,
            namespace="relax",
            exclude=("structure", "clean_workdir", "base_init_relax", "base_relax.pw.pseudos"),
            namespace_options={"required": False, "populate_defaults": False},
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_relax)(cls.run_relax, cls.inspect_relax),
            while_(cls.should_run_pdos)(cls.run_pdos, cls.inspect_pdos),
            cls.score,
        )
        spec.output("structure", valid_type=StructureData, required=False, help="The structure whose DOS was computed.")
        spec.output("dos", valid_type=CrystalSetData, required=False, help="The crystal with its per-atom DOS.")
        spec.output("score", valid_type=orm.Dict, required=False, help="Distances to the target.")
        spec.exit_code(201, "ERROR_NO_PSEUDOPOTENTIAL", message="{reason}")
        spec.exit_code(301, "ERROR_RELAX_FAILED", message="the relaxation by pw.x failed: {reason}")
        spec.exit_code(302, "ERROR_PDOS_FAILED", message="the bands could not be computed: {reason}")
        spec.exit_code(303, "ERROR_PROJWFC_FAILED", message="pw.x finished, but the projections failed: {reason}")
        spec.exit_code(310, "ERROR_DOS_REFUSED", message="the DOS is not scored: {reason}")
        spec.exit_code(311, "ERROR_SCORE_FAILED", message="the DOS could not be scored: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        pw_code: orm.AbstractCode | str,
        dos_code: orm.AbstractCode | str,
        projwfc_code: orm.AbstractCode | str,
        structure: StructureData | None = None,
        target: DosTargetData | None = None,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        relax: bool = False,
        elements: list[str] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param structure: may be left out, as may ``target``, to be filled in later: nothing else depends on them.
        :param overrides: inputs that take precedence over those of the protocol, nested as the inputs are; plain values.
            ``pdos`` and ``relax`` go to the protocols of aiida-quantumespresso; ``pseudo_family`` and
            ``cutoffs_stringency`` choose the pseudopotentials.
        :param options: goes into ``metadata.options`` of every job.
        :param relax: whether pw.x relaxes the structure before.
        :param elements: for which elements pseudopotentials are included; by default the structure's, or all of the family.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        if elements is None and structure is not None:
            elements = [kind.symbol for kind in structure.kinds]
        pseudos, cutoffs = pseudos_and_cutoffs(inputs["pseudo_family"], elements, inputs.get("cutoffs_stringency"))
        pseudo = next(iter(pseudos.values()))
        codes = {"pw": load(pw_code), "dos": load(dos_code), "projwfc": load(projwfc_code)}
        builder = cls.get_builder()
        if structure is not None:
            builder.structure = structure
        if target is not None:
            builder.target = target
        builder.pseudos = pseudos
        builder.settings = checked(ValidationSettings, {"cutoffs": cutoffs, **inputs["settings"]}, "settings")
        builder.clean_workdir = orm.Bool(inputs["clean_workdir"])
        builder.pdos = pdos_inputs(codes, pseudo, protocol, inputs["pdos"], options)
        if relax:
            builder.relax = relax_inputs(codes["pw"], pseudo, protocol, inputs["relax"], options)
        else:
            builder.pop("relax", None)
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> ExitCode | None:
        """Choose the pseudopotentials of the structure."""
        self.ctx.structure = self.inputs.structure
        self.ctx.iteration = 0
        self.ctx.again = True
        self.ctx.remedies = []
        self.ctx.interrupted = 0
        self.ctx.charge_density = None
        missing = sorted({kind.symbol for kind in self.inputs.structure.kinds} - set(self.inputs.pseudos))
        if missing:
            known = " ".join(sorted(self.inputs.pseudos))
            return self.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.format(
                reason=f"no pseudopotential for {' '.join(missing)}; there are some for {known}"
            )
        try:
            highest_cutoffs((kind.symbol for kind in self.inputs.structure.kinds), self._settings.cutoffs)
        except ContentError as exception:
            return self.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.format(reason=str(exception))
        return None

    def should_relax(self) -> bool:
        """Say whether a relaxation is requested, and not done yet."""
        return "relax" in self.inputs and not self.ctx.get("relaxed", False)

    def run_relax(self) -> ToContext:
        """Relax the structure with pw.x."""
        inputs = AttributeDict(self.exposed_inputs(PwRelaxWorkChain, "relax"))
        inputs.structure = self.ctx.structure
        self._fill(inputs.base_relax.pw)
        inputs.metadata.call_link_label = "relax"
        node = self.submit(PwRelaxWorkChain, **inputs)
        self.report(f"launching PwRelaxWorkChain<{node.pk}>")
        return ToContext(relax=node)

    def inspect_relax(self) -> ExitCode | None:
        """Go on with the relaxed structure."""
        if not self.ctx.relax.is_finished_ok:
            if self._interrupted(self.ctx.relax):
                return None
            return self.exit_codes.ERROR_RELAX_FAILED.format(reason=failure(self.ctx.relax))
        self.ctx.structure = self.ctx.relax.outputs.output_structure
        self.ctx.relaxed = True
        self.ctx.interrupted = 0
        return None

    def should_run_pdos(self) -> bool:
        """Say whether the bands are to be computed, or computed again: once for each handler at most."""
        return self.ctx.again

    def run_pdos(self) -> ToContext:
        """Compute bands and projections; from the charge density of the run before, if it has one."""
        inputs = AttributeDict(self.exposed_inputs(PdosWorkChain, "pdos"))
        inputs.structure = self.ctx.structure
        inputs.clean_workdir = orm.Bool(False)  # another run starts from the first one's charge density
        self._fill(inputs.nscf.pw, bands=True)
        if self.ctx.charge_density is not None:
            inputs.pop("scf")
            inputs.nscf.pw.parent_folder = self.ctx.charge_density
        elif "scf" in inputs:
            self._fill(inputs.scf.pw)
        self.ctx.iteration += 1
        self.ctx.again = False
        inputs.metadata.call_link_label = f"pdos_{self.ctx.iteration}"
        node = self.submit(PdosWorkChain, **inputs)
        self.report(f"launching PdosWorkChain<{node.pk}>")
        return ToContext(pdos=node)

    def inspect_pdos(self) -> ExitCode | None:
        """Turn the projections into a DOS, and look how far up its bands reach."""
        scf, nscf, projwfc = (self._part(name) for name in ("scf", "nscf", "projwfc"))
        if scf is not None and scf.is_finished_ok:
            self.ctx.charge_density = scf.outputs.remote_folder
            self.ctx.interrupted = 0
        if not (nscf is not None and nscf.is_finished_ok and projwfc is not None and projwfc.is_finished_ok):
            return self._inspect_failure(scf, nscf, projwfc)
        dos, node = projected_dos.run_get_node(
            structure=self.ctx.structure,
            bands=nscf.outputs.output_band,
            projections=projwfc.outputs.projections,
            parameters=nscf.outputs.output_parameters,
            metadata={"call_link_label": f"projected_dos_{self.ctx.iteration}"},
        )
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_DOS_REFUSED.format(reason=node.exit_message)
        self.ctx.dos = dos
        reached = float(dos.crystals.crystal_columns["complete_below"][0])
        needed = min(self._settings.complete_up_to, self.inputs.target.target.complete_below)
        if reached < needed:
            short = f"the bands are complete below {reached:.1f} eV, {needed:.1f} eV are needed"
            if not self._try(MORE_BANDS, short):
                self.report(f"{short}; the score stops there")
        return None

    def _inspect_failure(self, *parts: orm.ProcessNode | None) -> ExitCode | None:
        """Compute the bands again if something is known to help, or end.

        :param parts: the processes scf, nscf and projwfc, as far as there are any.
        """
        _, nscf, projwfc = parts
        if self.ctx.charge_density is not None and self._try(handler(projwfc) or handler(nscf), failure(self.ctx.pdos)):
            return None
        if self._interrupted(*parts, self.ctx.pdos if self.ctx.pdos.is_excepted else None):
            self.ctx.again = True
            return None
        if "dos" in self.ctx:
            self.report(f"{failure(self.ctx.pdos)}; the score is that of the run before")
            return None
        failed = nscf is not None and nscf.is_finished_ok
        exit_code = self.exit_codes.ERROR_PROJWFC_FAILED if failed else self.exit_codes.ERROR_PDOS_FAILED
        return exit_code.format(reason=failure(self.ctx.pdos))

    def _interrupted(self, *parts: orm.ProcessNode | None) -> bool:
        """Say whether one of the processes was stopped from outside, and is worth another try."""
        node = next((part for part in parts if was_interrupted(part)), None)
        if node is None:
            return False
        self.ctx.interrupted += 1
        again = self.ctx.interrupted < _IN_A_ROW
        self.report(f"{failure(node)}; it was interrupted, {'running it again' if again else 'too often: giving up'}")
        return again

    def _try(self, handler: str | None, reason: str) -> bool:
        """Ask for another run with a handler that was not tried yet; report it."""
        if handler is None or handler in self.ctx.remedies:
            return False
        self.ctx.remedies.append(handler)
        self.ctx.again = True
        self.report(f"{reason}; computing the bands again, {handler}")
        return True

    def score(self) -> ExitCode | None:
        """Compare the DOS with the target."""
        score, node = score_dos.run_get_node(
            dos=self.ctx.dos, target=self.inputs.target, metadata={"call_link_label": "score_dos"}
        )
        self.out("structure", self.ctx.structure)
        self.out("dos", self.ctx.dos)
        if node.exit_status == ELECTRONS_MISSING:
            return self.exit_codes.ERROR_DOS_REFUSED.format(reason=node.exit_message)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_SCORE_FAILED.format(reason=failure(node))
        self.out("score", score)
        return None

    def on_terminated(self) -> None:
        """Empty the work directories if asked for."""
        super().on_terminated()
        if self.inputs.clean_workdir.value:
            try:
                cleaned = clean_workchain_calcs(self.node)
            except NotExistent as exception:  # a job that was stopped before it had a work directory
                self.report(f"not all work directories were emptied: {exception}")
                return
            if cleaned:
                self.report(f"emptied the work directories of {' '.join(map(str, cleaned))}")

    # --- helpers ----------------------------------------------------------------------------------------------------

    @property
    def _settings(self) -> ValidationSettings:
        return ValidationSettings.model_validate(self.inputs.settings.get_dict())

    def _fill(self, pw: AttributeDict, bands: bool = False) -> None:
        """Fill in what depends on the structure, where the parameters leave it open."""
        structure, settings = self.ctx.structure, self._settings
        symbols = [structure.get_kind(site.kind_name).symbol for site in structure.sites]
        pw.pseudos = {kind.name: self.inputs.pseudos[kind.symbol] for kind in structure.kinds}
        parameters = pw.parameters.get_dict()
        control, system, electrons = (parameters.setdefault(name, {}) for name in ("CONTROL", "SYSTEM", "ELECTRONS"))
        ecutwfc, ecutrho = highest_cutoffs(symbols, settings.cutoffs)
        system.setdefault("ecutwfc", ecutwfc)
        system.setdefault("ecutrho", ecutrho)
        electrons.setdefault("conv_thr", settings.conv_thr_per_atom * len(symbols))
        control.setdefault("etot_conv_thr", settings.etot_conv_thr_per_atom * len(symbols))
        if bands:
            n_electrons = valence_electrons(symbols, self.inputs.pseudos)
            system.setdefault("nbnd", n_bands(n_electrons, len(symbols)))
            if MORE_BANDS in self.ctx.remedies:  # what was given did not suffice
                system["nbnd"] = max(system["nbnd"], more_bands(n_electrons, len(symbols)))
            if WITHOUT_SYMMETRY in self.ctx.remedies:
                system |= NO_SYMMETRY
        pw.parameters = orm.Dict(parameters)

    def _part(self, name: str) -> orm.ProcessNode | None:
        """Return a process of the last run, or None. dos.x is not needed for the score and may have failed."""
        return next((entry.node for entry in self.ctx.pdos.base.links.get_outgoing(link_label_filter=name).all()), None)
