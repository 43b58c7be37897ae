"""Job files: what the plugin writes and the executable ``dosmatgen`` reads. One schema, versioned, unknown keys refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from .constraints import Constraints
from .elements import ATOMIC_NUMBERS
from .errors import ContentError
from .strict import Strict, explain


class LabelSettings(Strict):
    """How labels are computed: one self-consistent run with extra bands, then the projections.

    :param stringency: which cutoffs of the pseudopotential table.
    :param kpoints_distance: largest distance of k-points in 1/Å, 2π included.
    :param degauss: smearing in Ry.
    :param sigma: Gaussian broadening of the DOS in eV (standard deviation).
    """

    stringency: Literal["fast", "normal"] = "fast"
    kpoints_distance: float = Field(0.3, gt=0.01)
    smearing: Literal["cold", "gaussian"] = "cold"
    degauss: float = Field(0.02, gt=0)
    sigma: float = Field(0.3, gt=0)
    pw_command: list[str] = ["pw.x"]
    projwfc_command: list[str] = ["projwfc.x"]
    max_seconds_per_crystal: float = Field(300, gt=0)

    def physics(self) -> str:
        """The settings that can change a result, as text to hash."""
        return json.dumps(
            self.model_dump(exclude={"pw_command", "projwfc_command", "max_seconds_per_crystal"}),
            sort_keys=True,
        )


def _within_its_folder(path: str) -> str:
    parts = PurePath(path).parts
    if not parts or ".." in parts or PurePath(path).is_absolute():
        raise ValueError(f"{path!r} leads out of the folder of the job file; a job writes there only")
    return path


Written = Annotated[str, AfterValidator(_within_its_folder)]
"""A path that a job writes to."""


# --- what every job has ----------------------------------------------------------------------------------------------------


class Runtime(Strict):
    """How a job runs; nothing here changes what it computes.

    :param batch_size: crystals at a time; None lets the engine choose by size.
    :param device: ``auto`` takes a GPU where there is one.
    :param threads: torch threads; None leaves torch's default.
    :param max_seconds: the job's own time budget. It stops in time, having written what it has.
    :param continue_from: folder of an interrupted run of the same job; what it has done is taken over.
    """

    batch_size: int | None = Field(None, ge=1)
    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    max_seconds: float | None = Field(None, gt=0)
    continue_from: str | None = None


class Job(Strict):
    """Base of the job files. Paths are relative to the folder of the job file; what is written stays inside of it."""

    version: Literal[1] = 1
    runtime: Runtime = Runtime()

    def input_files(self) -> list[str]:
        """Return the paths of all files that the job reads."""
        names = (
            "checkpoint", "classifier", "target", "template", "crystals", "dataset", "parent", "predictor", "pseudolabelled"
        )  # fmt: skip
        return [path for name in names if (path := getattr(self, name, None)) is not None]


# --- sample -----------------------------------------------------------------------------------------------------------------


class SizeRange(Strict):
    """Numbers of atoms from ``min`` to ``max``, both included; each candidate draws its own from what fits the target."""

    min: int = Field(1, ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> SizeRange:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class SampleParameters(Strict):
    """What the sampler computes.

    :param n_atoms: atoms of each candidate: a number; a list, from which candidate i takes entry i modulo its length; a range
        ``{"min": 2, "max": 8}``, in which each candidate draws its number from those that the training set makes likely for
        the target. None takes the number that the target, the template or the composition has, and draws it if none of them
        has one.
    :param sampler: ``ode`` is the deterministic few-step solver, ``ancestral`` the paper's predictor–corrector.
    :param steps: steps from pure noise (or from ``start_time``) to a crystal.
    :param corrector_steps: Langevin half-steps after each ancestral step.
    :param coordinate_power: drift of the coordinates in the ``ode`` sampler, in units of the probability flow's. 2 draws
        nearer to the modes than the model's own distribution, which crystals want; 1 samples that distribution.
    :param guidance: ``classifier-free``; ``classifier`` follows the gradient of a predictor on noised crystals (the job's
        ``classifier``) from the unconditional model; ``none`` conditions without guiding, as a scale of 0 does.
    :param guidance_scale: w of classifier-free guidance, (1+w)·conditional − w·unconditional, or the factor of the gradient.
    :param guidance_interval: times (from 0, the crystal, to 1, pure noise) between which guidance acts (arXiv:2404.07724).
    :param constraints: what is held of the candidates.
    :param start_time: the time to which the job's template is noised, to start from it; None starts from pure noise.
    :param attempts: how often a candidate is drawn at most, each time from noise of its own, until no two of its atoms lie on
        each other; if none of the attempts keeps them apart, the best is taken. 1 draws once, whatever comes.
    :param min_contact: two atoms lie on each other if their distance is below this, in units of the sum of their covalent
        radii; the screening's limit by default.
    :param precision: arithmetic of the network.
    """

    n_atoms: int | list[int] | SizeRange | None = None
    sampler: Literal["ode", "ancestral"] = "ode"
    steps: int = Field(30, ge=1)
    corrector_steps: int = Field(1, ge=0)
    coordinate_power: float = Field(2.0, ge=1, le=2)
    guidance: Literal["none", "classifier-free", "classifier"] = "classifier-free"
    guidance_scale: float = Field(1.0, ge=0)
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    constraints: Constraints | None = None
    start_time: float | None = Field(None, gt=0, le=1)
    attempts: int = Field(3, ge=1)
    min_contact: float = Field(0.6, ge=0)
    precision: Literal["float32", "float64", "bfloat16"] = "float64"

    @model_validator(mode="after")
    def _interval_in_order(self) -> SampleParameters:
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"guidance_interval [{low}, {high}] is not an interval of times between 0 and 1")
        return self


class SampleJob(Job):
    """Generate candidates ``start`` … ``stop − 1`` with a checkpoint, conditioned on a target (None: unconditional).

    :param classifier: checkpoint of the predictor on noised crystals, for ``guidance`` ``classifier``.
    :param template: crystals to start from or to hold parts of; candidate i uses crystal i modulo their number.
    """

    kind: Literal["sample"] = "sample"
    checkpoint: str
    target: str | None = None
    classifier: str | None = None
    template: str | None = None
    seed: int = Field(ge=0)
    start: int = Field(0, ge=0)
    stop: int = Field(ge=1)
    parameters: SampleParameters = SampleParameters()
    output: Written = "candidates.npz"


# --- relax ------------------------------------------------------------------------------------------------------------------


class ForceField(Strict):
    """A force field: a MACE file, a MACE foundation model by name, or an ASE calculator.

    :param file: path of a MACE model file.
    :param sha256: what the file must hash to; a file that does not, or one without a hash, is refused before it is loaded,
        because loading it runs the code in it.
    :param foundation: name of a MACE foundation model, e.g. ``medium-mpa-0``.
    :param calculator: what returns an ASE calculator when called with ``arguments``: ``module:callable``, or the name of an
        entry point in the group ``dosmatgen.calculators``.
    """

    file: str | None = None
    sha256: str | None = None
    foundation: str | None = None
    calculator: str | None = None
    arguments: dict = {}

    @model_validator(mode="after")
    def _one_source(self) -> ForceField:
        if sum(source is not None for source in (self.file, self.foundation, self.calculator)) != 1:
            raise ValueError("give exactly one of file, foundation, calculator")
        return self


class RelaxParameters(Strict):
    """What the relaxation computes.

    :param fmax: convergence threshold on forces in eV/Å; the stress must fall below ``smax``.
    :param smax: convergence threshold on stress components in GPa.
    :param max_steps: steps after which a crystal counts as not converged.
    :param max_seconds: seconds of computing, by its share of the atoms that are computed together, after which a crystal is
        given up in one run of the job.
    :param cell: whether the cell is relaxed too.
    :param precision: arithmetic of a MACE model; steps are always taken in float64.
    :param symmetry: tolerance in Å within which the space group of a crystal is found at its start; that is made exact and
        kept. None keeps no symmetry.
    """

    fmax: float = Field(0.05, gt=0)
    smax: float = Field(0.5, gt=0)
    max_steps: int = Field(300, ge=0)
    max_seconds: float = Field(600, gt=0)
    cell: bool = True
    precision: Literal["float32", "float64"] = "float32"
    symmetry: float | None = Field(None, gt=0)


class RelaxJob(Job):
    """Relax crystals with a force field."""

    kind: Literal["relax"] = "relax"
    crystals: str
    force_field: ForceField
    parameters: RelaxParameters = RelaxParameters()
    output: Written = "relaxed.npz"

    def input_files(self) -> list[str]:
        """Return the crystals, and the force field if it is a file."""
        return [*super().input_files(), *([] if self.force_field.file is None else [self.force_field.file])]


class ReferencesJob(Job):
    """Relax the elements with a force field, each in several structures: what formation energies refer to.

    :param elements: chemical symbols; those that the force field does not know get no energy.
    """

    kind: Literal["references"] = "references"
    elements: list[str] = Field(min_length=1)
    force_field: ForceField
    parameters: RelaxParameters = RelaxParameters()
    output: Written = "references.npz"

    @model_validator(mode="after")
    def _elements_exist(self) -> ReferencesJob:
        unknown = [symbol for symbol in self.elements if symbol not in ATOMIC_NUMBERS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not an element")
        return self

    def input_files(self) -> list[str]:
        """Return the force field if it is a file."""
        return [] if self.force_field.file is None else [self.force_field.file]


# --- predict ----------------------------------------------------------------------------------------------------------------


class PredictJob(Job):
    """Predict the per-atom DOS and the formation energy of crystals."""

    kind: Literal["predict"] = "predict"
    checkpoint: str
    crystals: str
    output: Written = "predicted.npz"


# --- train ------------------------------------------------------------------------------------------------------------------


class Architecture(Strict):
    """The size of a network."""

    width: int = Field(192, ge=8)
    layers: int = Field(5, ge=1)
    frequencies: int = Field(8, ge=1)
    members: int = Field(1, ge=1)


_SUITED: dict[str, dict[str, Any]] = {
    "denoiser": {
        "architecture": {"width": 128, "layers": 4},
        "epochs": 300,
        "batch_size": 16,
    },
    "classifier": {
        "architecture": {"width": 128, "layers": 3},
        "epochs": 100,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
    },
    "predictor": {
        "architecture": {"width": 128, "layers": 2, "members": 4},
        "epochs": 40,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "weight_decay": 0.01,
        "ema": 0.99,
    },
    "forcefield": {
        "architecture": {"width": 32, "layers": 2},
        "epochs": 100,
        "batch_size": 8,
        "learning_rate": 0.01,
        "weight_decay": 5e-7,
        "ema": 0.99,
    },
}
"""Where the defaults of a model differ from the general ones; measured on some hundred crystals."""


class TrainParameters(Strict):
    """How a model is trained. Defaults depend on the model: those that suit it go before the general ones.

    :param model: ``denoiser``, ``classifier`` (per-atom DOS of noised crystals, to guide with), ``predictor`` (per-atom DOS
        and formation energy of crystals) or ``forcefield`` (MACE).
    :param epochs: passes over the training crystals.
    :param learning_rate: peak of the schedule, for Adam.
    :param weight_decay: of AdamW.
    :param ema: decay of the exponential moving average of the weights.
    :param drop_crystal: probability that a crystal's whole condition is dropped.
    :param drop_site: probability that single sites lose theirs, in crystals that keep a site condition.
    :param total_only: probability that a crystal shows only its total curve.
    :param validation_fraction: crystals held out, chosen by their chemical system.
    :param patience: epochs without a better validation loss after which training stops; None never stops early.
    :param keep: which weights a training leaves: those of the epoch with the least validation loss, or of the last epoch. A
        denoiser's elements overfit while its coordinates still learn, so that the best sum of losses is not the best sampler.
    :param precision: ``bfloat16`` is mixed precision: matrix products in bfloat16, weights and the rest in float32.
    :param tight_binding_epochs: passes over the training crystals for the fit of the tight binding that a predictor builds on.
    """

    model: Literal["denoiser", "classifier", "predictor", "forcefield"] = "denoiser"
    architecture: Architecture = Architecture()
    epochs: int = Field(500, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    ema: float = Field(0.999, ge=0, lt=1)
    drop_crystal: float = Field(0.15, ge=0, le=1)
    drop_site: float = Field(0.2, ge=0, le=1)
    total_only: float = Field(0.15, ge=0, le=1)
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    patience: int | None = Field(None, ge=1)
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16"] = "float32"
    tight_binding_epochs: int = Field(10, ge=0)

    @model_validator(mode="after")
    def _one_end(self) -> TrainParameters:
        if self.keep == "last" and self.patience is not None:
            raise ValueError("patience waits for a better epoch, but keep 'last' takes none; leave one of them out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _suit_the_model(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        suited = _SUITED.get(given.get("model", "denoiser"), {})
        merged = {**suited, **given}
        if isinstance(given.get("architecture"), dict):
            merged["architecture"] = {**suited.get("architecture", {}), **given["architecture"]}
        return merged


class TrainJob(Job):
    """Train a model on labelled crystals, from scratch or from a parent checkpoint.

    :param pseudolabelled: crystals with predicted curves (``dosmatgen pseudolabel``), which a denoiser sees besides.
    """

    kind: Literal["train"] = "train"
    dataset: str
    pseudolabelled: str | None = None
    parameters: TrainParameters = TrainParameters()
    seed: int = Field(ge=0)
    parent: str | None = None
    output: Written = "checkpoint.safetensors"
    history: Written = "history.json"

    @model_validator(mode="before")
    @classmethod
    def _name_the_output(cls, given: Any) -> Any:
        if isinstance(given, dict) and "output" not in given:
            parameters = given.get("parameters", {})
            model = parameters.get("model") if isinstance(parameters, dict) else getattr(parameters, "model", None)
            if model == "forcefield":
                return {**given, "output": "forcefield.model"}
        return given


# --- label ------------------------------------------------------------------------------------------------------------------


class Splits(Strict):
    """What is kept for tests of models, by a hash of names: whole chemical systems, and whole prototypes.

    :param system_fraction: of the systems of several elements.
    :param prototype_fraction: of the prototypes.
    """

    system_fraction: float = Field(0.12, ge=0, lt=1)
    prototype_fraction: float = Field(0.06, ge=0, lt=1)
    seed: int = Field(0, ge=0)


class LabelJob(Job):
    """Label crystals with Quantum ESPRESSO, ``workers`` at a time; records in ``directory`` are never computed twice.

    :param max_cost: leave out crystals that are estimated to cost more core seconds than this.
    :param split: adds the column ``split``; crystals that it keeps for tests are never trained on. None adds none.
    """

    kind: Literal["label"] = "label"
    crystals: str
    settings: LabelSettings = LabelSettings()
    max_cost: float | None = Field(None, gt=0)
    split: Splits | None = None
    workers: int = Field(1, ge=1)
    pseudo_directory: str | None = None
    directory: str = "labels"
    output: Written = "labelled.npz"


# --- pseudo-label -----------------------------------------------------------------------------------------------------------


class PseudolabelJob(Job):
    """Predict the densities of states of many new prototype crystals, for a denoiser to learn from besides labelled ones.

    :param count: crystals to make in a round, before any is left out.
    :param rounds: how often that is done; each round has a seed of its own, and what was made in one does not limit another.
    :param relaxed: share of them that is relaxed first, a few steps only; the others stay as made.
    :param split: crystals that it keeps for tests are left out; the same as that of the labelled set.
    :param most_of_system: crystals of a chemical system in a round, at most.
    :param left_out: share of the predictions left out, the least certain ones.
    """

    kind: Literal["pseudolabel"] = "pseudolabel"
    elements: list[str] = Field(min_length=1)
    count: int = Field(ge=1)
    rounds: int = Field(1, ge=1)
    max_atoms: int = Field(8, ge=1)
    seed: int = Field(0, ge=0)
    relaxed: float = Field(0.6, ge=0, le=1)
    force_field: ForceField
    parameters: RelaxParameters = RelaxParameters(fmax=0.1, max_steps=40)
    predictor: str
    split: Splits | None = None
    most_of_system: int = Field(80, ge=1)
    left_out: float = Field(0.05, ge=0, lt=1)
    directory: str = "pseudolabels"
    output: str = "pseudolabelled.npz"

    def input_files(self) -> list[str]:
        """Return the predictor, and the force field if it is a file."""
        return [*super().input_files(), *([] if self.force_field.file is None else [self.force_field.file])]


AnyJob = Annotated[
    SampleJob | RelaxJob | ReferencesJob | PredictJob | TrainJob | LabelJob | PseudolabelJob, Field(discriminator="kind")
]


def load_job(path: str | Path) -> AnyJob:
    """Read a job file.

    :raises ContentError: naming the file, the key and what is wrong with it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return TypeAdapter(AnyJob).validate_json(text)
    except FileNotFoundError:
        raise ContentError(f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise ContentError(f"{path} is not a text file; a job file is JSON") from None
    except ValidationError as exception:
        raise ContentError(f"{path}: {explain(exception)}") from None


# --- results ----------------------------------------------------------------------------------------------------------------


class Results(BaseModel):
    """``results.json``: the end marker of a job. It is written last; without it the job did not finish.

    :param finished: False if the job stopped early (time budget) and kept what it had.
    :param output_sha256: hash of the output file, against truncated copies.
    :param job_sha256: hash of all that the results depend on, by which a second run of the same job knows them for its own.
    :param done: crystals (or epochs) finished, ``of`` those asked for.
    :param details: what the kind of job adds, JSON values only.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    kind: str
    finished: bool
    done: int
    of: int
    output: str
    output_sha256: str
    job_sha256: str | None = None
    seconds: float
    engine_version: str
    torch_version: str
    device: str
    details: dict = {}

    def save(self, path: Path) -> None:
        """Write atomically."""
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, text: str) -> Results:
        """Read from the text of a ``results.json``.

        :raises ContentError: if it is truncated or of another kind.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as exception:
            raise ContentError(f"results.json: {explain(exception)}") from None


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
