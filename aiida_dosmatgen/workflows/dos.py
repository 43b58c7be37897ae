"""The density of states of one crystal by DFT, by the same recipe as ``dosmatgen label``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, ToContext, WorkChain
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_quantumespresso.calculations.projwfc import ProjwfcCalculation
from aiida_quantumespresso.common.types import ElectronicType, SpinType
from aiida_quantumespresso.workflows.pw.base import PwBaseWorkChain

from ..calculations.base import what_aiida_refuses
from ..calculations.functions import count_states, prepare_dos
from ..calculations.ports import port_from_model
from ..core.dft.recipe import ATTEMPTS, FALLBACKS, Recipe, bands_namelists, n_bands, scf_namelists
from ..core.errors import ContentError
from ..data.conversion import StructureData, crystal_of
from ..data.crystals import CrystalSetData
from .error_handlers import almost_symmetric, bands_left, crashed, not_converged
from .failures import FailureMixin, failure
from .outline import while_
from .protocols.spin import with_spin
from .protocols.utils import StrictProtocolMixin, checked, job_metadata, load
from .pseudos import headers, missing_pseudo, pseudos_of, validate_pseudos
from .resuming import ResumingMixin
from .retries import RetryMixin, was_interrupted
from .workdirs import clean_workdir_port, empty_workdirs, from_cache

CLEAN_WORKDIR = clean_workdir_port(True, "one crystal leaves 50 to 200 MB")
"""The arguments of ``spec.input`` for whether the work directories of Quantum ESPRESSO are emptied at the end."""

_OURS = ("handle_electronic_convergence_not_reached", "sanity_check_insufficient_bands")
_OURS_OF_BANDS = (*_OURS, "handle_diagonalization_errors")
"""Handlers of ``PwBaseWorkChain`` in whose place the recipe has its own."""


def validate_structure(node: StructureData | None, _: Any) -> str | None:
    """Refuse structures with vacancies or alloys, slabs and molecules, before anything runs."""
    try:
        if node is not None:
            crystal_of(node)
    except ContentError as exception:
        return f"the structure cannot be used: {exception}"
    return None


class DosWorkChain(StrictProtocolMixin, RetryMixin, ResumingMixin, FailureMixin, WorkChain):
    """Compute the density of states of a crystal by a recipe: self-consistent field, bands on a denser mesh, projections.

    The same as ``dosmatgen label`` with AiiDA: equal recipes give equal curves. A self-consistent field that does not converge
    is tried by each of the recipe's fallbacks; bands that do not reach far enough up become more; what pw.x or projwfc.x take
    for symmetric and is not is computed without symmetry. What AiiDA took from its cache has often lost its work directory:
    if a run cannot continue from there, all is computed anew.
    """

    _protocol_name = "dos"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input(
            "structure",
            valid_type=StructureData,
            validator=validate_structure,
            help="The crystal. Its kinds are named by their symbols.",
        )
        spec.input("recipe", **port_from_model(Recipe, "recipe", required=True))
        spec.input("clean_workdir", **CLEAN_WORKDIR)
        spec.input_namespace(
            "pseudos",
            valid_type=UpfData,
            dynamic=True,
            validator=validate_pseudos,
            help="Pseudopotentials by chemical symbol; those of the structure's elements are taken.",
        )
        spec.expose_inputs(
            PwBaseWorkChain,
            namespace="pw",
            exclude=(
                *("clean_workdir", "handler_overrides", "kpoints", "kpoints_distance", "kpoints_force_parity"),
                *("pw.structure", "pw.pseudos", "pw.parameters", "pw.parent_folder"),
            ),
        )
        spec.inputs["pw"]["pw"].validator = what_aiida_refuses  # its own wants to see the parameters
        spec.expose_inputs(ProjwfcCalculation, namespace="projwfc", exclude=("parent_folder", "parameters"))
        spec.outline(cls.setup, while_(cls.is_left)(cls.run_step, cls.inspect_step), cls.results)
        spec.output("dos", valid_type=CrystalSetData, help="The crystal with its density of states: see count_states.")
        cls.define_failure(spec)
        spec.exit_code(201, "ERROR_NO_PSEUDOPOTENTIAL", message="pseudopotentials: {reason}")
        spec.exit_code(301, "ERROR_SCF_FAILED", message="the self-consistent run failed: {reason}")
        spec.exit_code(302, "ERROR_BANDS_FAILED", message="the bands could not be computed: {reason}")
        spec.exit_code(303, "ERROR_PROJWFC_FAILED", message="pw.x finished, but the projections failed: {reason}")
        spec.exit_code(
            304, "ERROR_NOT_CONVERGED", message="the self-consistent field did not converge in any of {ways} ways: {reason}"
        )
        spec.exit_code(310, "ERROR_DOS_REFUSED", message="the states could not be counted: {reason}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        pw_code: orm.AbstractCode | str,
        projwfc_code: orm.AbstractCode | str,
        structure: StructureData | None = None,
        protocol: str | None = None,
        overrides: Mapping | None = None,
        options: Mapping | None = None,
        elements: list[str] | None = None,
        spin_type: SpinType | None = None,
        electronic_type: ElectronicType | None = None,
        initial_magnetic_moments: Mapping[str, float] | None = None,
    ) -> ProcessBuilder:
        """Return a builder with the inputs of a protocol.

        :param structure: may be left out, to be filled in later: nothing else depends on it.
        :param overrides: inputs that take precedence over those of the protocol, nested as the inputs are; plain values.
            ``pseudo_family`` chooses the pseudopotentials.
        :param options: goes into ``metadata.options`` of every job.
        :param elements: for which elements pseudopotentials are included; by default the structure's, or all of the family.
        :param spin_type: like ``electronic_type`` and ``initial_magnetic_moments`` as in aiida-quantumespresso, but by default
            with spin where there are magnetic elements; see :func:`.protocols.spin.with_spin`.
        :raises ValueError: for keys or values that do not exist, with one line.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        if elements is None and structure is not None:
            elements = [kind.symbol for kind in structure.kinds]
        pseudos = pseudos_of(inputs["pseudo_family"], elements)
        builder = cls.get_builder()
        if structure is not None:
            builder.structure = structure
        builder.pseudos = pseudos
        checked(Recipe, inputs["recipe"], "recipe")
        spin = (spin_type, electronic_type, initial_magnetic_moments)
        recipe = Recipe.model_validate(with_spin(inputs["recipe"], pseudos, structure, *spin)).fitted(headers(pseudos).values())
        builder.recipe = orm.Dict(recipe.model_dump())
        builder.clean_workdir = orm.Bool(inputs["clean_workdir"])
        for namespace, given, code in (
            (builder["pw"]["pw"], inputs["pw"]["pw"], load(pw_code)),
            (builder["projwfc"], inputs["projwfc"], load(projwfc_code)),
        ):
            namespace.code = code
            namespace.metadata = job_metadata(given["metadata"], options, code)
            for name in ("settings", "parallelization"):
                if given.get(name):
                    namespace[name] = orm.Dict(given[name])
        builder["pw"]["max_iterations"] = orm.Int(inputs["pw"]["max_iterations"])
        return builder

    # --- outline ----------------------------------------------------------------------------------------------------

    def setup(self) -> ExitCode | None:
        """Choose pseudopotentials and meshes."""
        structure, recipe = self.inputs.structure, self._recipe
        symbols = sorted({kind.symbol for kind in structure.kinds})
        problem = missing_pseudo(symbols, self.inputs.pseudos)
        if problem:
            return self.fail_with(self.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.format(reason=problem))
        # the ports have refused what this would refuse
        prepared = prepare_dos(structure=structure, recipe=self.inputs.recipe, metadata={"call_link_label": "prepare_dos"})
        if recipe.unpolarised(symbols):
            self.report(f"{' '.join(recipe.unpolarised(symbols))}: computed without spin, as the moments of the recipe say")
        self.ctx.structure = prepared.get("structure", structure)
        self.ctx.kpoints = {step: prepared[f"{step}_kpoints"] for step in ("scf", "bands")}
        self.ctx.symmetry = True
        self.ctx.cache = True
        self.ctx.dos = None
        self._begin()
        return None

    def is_left(self) -> bool:
        """Say whether there is something left to run."""
        return self.ctx.step is not None

    def run_step(self) -> ToContext:
        """Run pw.x for the self-consistent field, for the bands, or projwfc.x."""
        process, inputs = {"scf": self._scf, "bands": self._bands, "projwfc": self._projwfc}[self.ctx.step]()
        self.ctx.runs += 1
        inputs.metadata.call_link_label = label = f"{self.ctx.step}_{self.ctx.runs}"
        node = self.submitted(label) or self.submit(process, **inputs)
        self.report(f"launching {process.__name__}<{node.pk}> for {self.ctx.step}")
        return ToContext(**{self.ctx.step: node})

    def inspect_step(self) -> ExitCode | None:
        """Go on to the next step, or do this one again in another way."""
        step, node = self.ctx.step, self.ctx[self.ctx.step]
        if not node.is_terminated:  # the end was announced by a second worker, which failed with it; it is waited for again
            self.ctx.runs -= 1
            return None
        if not node.is_finished_ok:
            return self._inspect_failure(step, node)
        self.progressed(step)
        self.ctx.step = {"scf": "bands", "bands": "projwfc", "projwfc": None}[step]
        return self._count() if step == "projwfc" else None

    def results(self) -> None:
        """Return the density of states."""
        self.out("dos", self.ctx.dos)

    def on_terminated(self) -> None:
        """Empty the work directories if asked for."""
        super().on_terminated()
        if self.inputs.clean_workdir.value:
            empty_workdirs(self.node, self.report)

    # --- runs -------------------------------------------------------------------------------------------------------

    @property
    def _recipe(self) -> Recipe:
        return Recipe.model_validate(self.inputs.recipe.get_dict())

    @property
    def _symbols(self) -> list[str]:
        return [site.kind_name for site in self.ctx.structure.sites]  # kinds are called by their symbols now

    @property
    def _valences(self) -> dict[str, float]:
        return {symbol: upf.valence for symbol, upf in headers(self._pseudos).items()}

    @property
    def _pseudos(self) -> dict[str, UpfData]:
        return {symbol: self.inputs.pseudos[symbol] for symbol in sorted(set(self._symbols))}

    def _begin(self) -> None:
        """Begin with the self-consistent field."""
        self.ctx.step, self.ctx.fallback, self.ctx.attempt, self.ctx.solver = "scf", 0, 0, "david"
        self.ctx.runs = self.ctx.get("runs", 0)

    def _pw(self, handlers: tuple[str, ...], namelists: dict) -> tuple[type, AttributeDict]:
        inputs = AttributeDict(self.exposed_inputs(PwBaseWorkChain, "pw"))
        inputs.kpoints = self.ctx.kpoints[self.ctx.step]
        inputs.handler_overrides = orm.Dict({name: {"enabled": False} for name in handlers})
        inputs.pw.structure, inputs.pw.pseudos = self.ctx.structure, self._pseudos
        inputs.pw.parameters = orm.Dict(namelists)
        inputs.pw.metadata.disable_cache = not self.ctx.cache
        return PwBaseWorkChain, inputs

    def _scf(self) -> tuple[type, AttributeDict]:
        fallback = FALLBACKS[self.ctx.fallback]
        return self._pw(_OURS, scf_namelists(self._recipe, self._symbols, self._valences, fallback, self.ctx.symmetry))

    def _bands(self) -> tuple[type, AttributeDict]:
        symbols, valences = self._symbols, self._valences
        number = n_bands(sum(valences[s] for s in symbols), len(symbols), self.ctx.attempt)
        namelists = bands_namelists(self._recipe, symbols, valences, number, self.ctx.symmetry, self.ctx.solver)
        process, inputs = self._pw(_OURS_OF_BANDS, namelists)
        inputs.pw.parent_folder = self.ctx.scf.outputs.remote_folder
        return process, inputs

    def _projwfc(self) -> tuple[type, AttributeDict]:
        inputs = AttributeDict(self.exposed_inputs(ProjwfcCalculation, "projwfc"))
        inputs.parent_folder = self.ctx.bands.outputs.remote_folder
        inputs.parameters = orm.Dict({"PROJWFC": {"ngauss": 0, "degauss": 0.01, "deltae": 1.0}})
        inputs.metadata.disable_cache = not self.ctx.cache
        return ProjwfcCalculation, inputs

    def _count(self) -> ExitCode | None:
        """Count the states, and ask for more bands if these do not reach far enough up."""
        scf, bands, projwfc = (self.ctx[step].outputs for step in ("scf", "bands", "projwfc"))
        names = ("projections", "projections_up", "projections_down")
        dos, node = count_states.run_get_node(
            structure=self.ctx.structure,
            recipe=self.inputs.recipe,
            kpoints=self.ctx.kpoints["bands"],
            scf_parameters=scf.output_parameters,
            scf_trajectory=scf.output_trajectory,
            parameters=bands.output_parameters,
            bands=bands.output_band,
            remedy=orm.Int(self.ctx.fallback),
            **{name: projwfc[name] for name in names if name in projwfc},
            metadata={"call_link_label": f"count_states_{self.ctx.attempt + 1}"},
        )
        if not node.is_finished_ok:
            return self._give_up(self.exit_codes.ERROR_DOS_REFUSED.format(reason=node.exit_message))
        self.ctx.dos = dos
        known, wanted = float(dos.crystals.crystal_columns["high"][0]), self._recipe.least_high
        if known < wanted:
            short = f"the curve is known up to {known:.1f} eV, {wanted:.1f} eV are asked for"
            if self.ctx.attempt + 1 < ATTEMPTS:
                self.ctx.attempt, self.ctx.step = self.ctx.attempt + 1, "bands"
                self.report(f"{short}; computing more bands")
            else:
                self.report(short)
        return None

    # --- failures ---------------------------------------------------------------------------------------------------

    def _inspect_failure(self, step: str, node: orm.ProcessNode) -> ExitCode | None:
        """Do a step again if something is known to help, or end."""
        reason = failure(node)
        for handler in (self._without_symmetry, self._next_fallback, self._again, self._by_cg, self._without_cache):
            said = handler(step, node)
            if said:
                self.report(f"{reason}; {said}")
                return None
        if step == "scf" and not_converged(node):
            return self.fail_with(self.exit_codes.ERROR_NOT_CONVERGED.format(ways=len(FALLBACKS), reason=reason))
        exit_codes = {"scf": "ERROR_SCF_FAILED", "bands": "ERROR_BANDS_FAILED", "projwfc": "ERROR_PROJWFC_FAILED"}
        return self._give_up(self.exit_codes[exit_codes[step]].format(reason=reason))

    def _without_symmetry(self, step: str, node: orm.ProcessNode) -> str | None:
        if not (self.ctx.symmetry and almost_symmetric(node)):
            return None
        self.ctx.symmetry = False
        self._begin()
        return "computing all again, without symmetry"

    def _next_fallback(self, step: str, node: orm.ProcessNode) -> str | None:
        if step != "scf" or not not_converged(node) or self.ctx.fallback + 1 >= len(FALLBACKS):
            return None
        self.ctx.fallback += 1
        return f"trying with {FALLBACKS[self.ctx.fallback]}"

    def _again(self, step: str, node: orm.ProcessNode) -> str | None:
        if not was_interrupted(node) or not self.repeat(step, node):
            return None
        if step == "bands" and self.interruptions(step) > 1:
            self.ctx.solver = "cg"  # pw.x 6.7 has a rare crash in Davidson's scheme, which may look like a kill
        return f"run {self.interruptions(step) + 1}"

    def _by_cg(self, step: str, node: orm.ProcessNode) -> str | None:
        if step != "bands" or self.ctx.solver == "cg" or not (bands_left(node) or crashed(node)):
            return None
        self.ctx.solver = "cg"
        return "computing the bands by conjugate gradients"

    def _without_cache(self, step: str, node: orm.ProcessNode) -> str | None:
        before = {"scf": (), "bands": ("scf",), "projwfc": ("scf", "bands")}[step]
        if not self.ctx.cache or not any(from_cache(self.ctx[name]) for name in before):
            return None
        self.ctx.cache, self.ctx.step = False, "scf"
        return "what came from the cache may have lost its work directory: computing it"

    def _give_up(self, exit_code: ExitCode) -> ExitCode | None:
        """End, with the curve of fewer bands if there is one."""
        if self.ctx.dos is None:
            return self.fail_with(exit_code)
        self.report(f"{exit_code.message}; the curve is that of the run before")
        self.ctx.step = None
        return None

    @property
    def subject(self) -> orm.Node:
        """The structure, of which a failure is noted."""
        return self.inputs.structure
