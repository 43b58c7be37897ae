"""Job files: what the plugin writes and the executable ``dosmatgen`` reads. One schema, versioned, unknown keys refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from .errors import ContentError


class Strict(BaseModel):
    """Base of all models here: unknown keys are errors, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


# --- what every job has ----------------------------------------------------------------------------------------------------


class Runtime(Strict):
    """How a job runs; nothing here changes what it computes.

    :param batch_size: crystals at a time; None lets the engine choose by size.
    :param device: ``auto`` takes a GPU where there is one.
    :param threads: torch threads; None leaves torch's default.
    :param max_seconds: the job's own time budget. It stops in time, having written what it has.
    """

    batch_size: int | None = Field(None, ge=1)
    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    max_seconds: float | None = Field(None, gt=0)


class Job(Strict):
    """Base of the job files. Paths are relative to the folder of the job file."""

    version: Literal[1] = 1
    runtime: Runtime = Runtime()


# --- sample -----------------------------------------------------------------------------------------------------------------


class SampleParameters(Strict):
    """What the sampler computes.

    :param n_atoms: atoms of each candidate: a number, or a list from which candidate i takes entry i modulo its length;
        None takes the number of the target's sites (or the target's own number of atoms).
    :param sampler: ``ode`` is the deterministic few-step solver, ``ancestral`` the paper's predictor–corrector.
    :param steps: steps from pure noise to a crystal.
    :param corrector_steps: Langevin half-steps after each ancestral step.
    :param guidance_scale: w of classifier-free guidance, (1+w)·conditional − w·unconditional; 0 is plain conditioning.
    :param precision: arithmetic of the network.
    """

    n_atoms: int | list[int] | None = None
    sampler: Literal["ode", "ancestral"] = "ode"
    steps: int = Field(50, ge=1)
    corrector_steps: int = Field(1, ge=0)
    guidance_scale: float = Field(1.0, ge=0)
    precision: Literal["float32", "float64"] = "float64"


class SampleJob(Job):
    """Generate candidates ``start`` … ``stop − 1`` with a checkpoint, conditioned on a target (None: unconditional)."""

    kind: Literal["sample"] = "sample"
    checkpoint: str
    target: str | None = None
    seed: int = Field(ge=0)
    start: int = Field(0, ge=0)
    stop: int = Field(ge=1)
    parameters: SampleParameters = SampleParameters()
    output: str = "candidates.npz"


# --- relax ------------------------------------------------------------------------------------------------------------------


class ForceField(Strict):
    """A force field: a MACE file, a MACE foundation model by name, or an ASE calculator as ``module:callable``.

    :param file: path of a MACE model file.
    :param sha256: what the file must hash to; a file that does not is refused before it is loaded.
    :param foundation: name of a MACE foundation model, e.g. ``medium-mpa-0``.
    :param calculator: ``module:callable`` that returns an ASE calculator, called with ``arguments``.
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
    :param cell: whether the cell is relaxed too.
    :param precision: arithmetic of a MACE model; steps are always taken in float64.
    """

    fmax: float = Field(0.05, gt=0)
    smax: float = Field(0.5, gt=0)
    max_steps: int = Field(300, ge=0)
    cell: bool = True
    precision: Literal["float32", "float64"] = "float32"


class RelaxJob(Job):
    """Relax crystals with a force field, and the elemental references of the same elements with it."""

    kind: Literal["relax"] = "relax"
    crystals: str
    force_field: ForceField
    parameters: RelaxParameters = RelaxParameters()
    output: str = "relaxed.npz"


# --- predict ----------------------------------------------------------------------------------------------------------------


class PredictJob(Job):
    """Predict the per-atom DOS and the formation energy of crystals."""

    kind: Literal["predict"] = "predict"
    checkpoint: str
    crystals: str
    output: str = "predicted.npz"


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

    :param model: ``denoiser``, ``predictor`` (per-atom DOS and formation energy) or ``forcefield`` (MACE).
    :param epochs: passes over the training crystals.
    :param learning_rate: peak of the schedule, for Adam.
    :param weight_decay: of AdamW.
    :param ema: decay of the exponential moving average of the weights.
    :param drop_crystal: probability that a crystal's whole condition is dropped.
    :param drop_site: probability that single sites lose theirs, in crystals that keep a site condition.
    :param total_only: probability that a crystal shows only its total curve.
    :param validation_fraction: crystals held out, chosen by their chemical formula.
    :param patience: epochs without a better validation loss after which training stops; None never stops early.
    """

    model: Literal["denoiser", "predictor", "forcefield"] = "denoiser"
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
    """Train a model on labelled crystals, from scratch or from a parent checkpoint."""

    kind: Literal["train"] = "train"
    dataset: str
    parameters: TrainParameters = TrainParameters()
    seed: int = Field(ge=0)
    parent: str | None = None
    output: str = "checkpoint.safetensors"
    history: str = "history.json"

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


class LabelJob(Job):
    """Label crystals with Quantum ESPRESSO, ``workers`` at a time; records in ``directory`` are never computed twice.

    :param max_cost: leave out crystals that are estimated to cost more core seconds than this.
    """

    kind: Literal["label"] = "label"
    crystals: str
    settings: LabelSettings = LabelSettings()
    max_cost: float | None = Field(None, gt=0)
    workers: int = Field(1, ge=1)
    pseudo_directory: str | None = None
    directory: str = "labels"
    output: str = "labelled.npz"


AnyJob = Annotated[SampleJob | RelaxJob | PredictJob | TrainJob | LabelJob, Field(discriminator="kind")]


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


def explain(exception: ValidationError) -> str:
    """Return a pydantic error as one line: each key and what is wrong with it."""
    parts = []
    for error in exception.errors():
        where = ".".join(str(key) for key in error["loc"])
        what = "unknown key" if error["type"] == "extra_forbidden" else error["msg"]
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)


# --- results ----------------------------------------------------------------------------------------------------------------


class Results(BaseModel):
    """``results.json``: the end marker of a job. It is written last; without it the job did not finish.

    :param finished: False if the job stopped early (time budget) and kept what it had.
    :param output_sha256: hash of the output file, against truncated copies.
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
