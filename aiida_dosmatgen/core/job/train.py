"""Jobs that train a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ..dos import EnergyGrid
from ..kinds import ModelKind
from ..strict import Strict
from .base import Job, Written


class Architecture(Strict):
    """The size of a network.

    :param stride: a denoiser takes curves by channel too, at every so many energies of its grid; 0 takes no channels.
    :param composition: width of a denoiser's network that proposes compositions; 0 has none.
    """

    width: int = Field(192, ge=8)
    layers: int = Field(5, ge=1)
    frequencies: int = Field(8, ge=1)
    stride: int = Field(0, ge=0)
    composition: int = Field(0, ge=0)
    members: int = Field(1, ge=1)


class BatchedTraining(Strict):
    """How a force field is trained by this package's own loop, which is meant for many frames and many elements.

    The loss is the sum of mean absolute errors, rounded near zero: of the energy for each atom in eV, of the forces in eV/Å, of
    the stress in GPa, each times its weight; where energies weigh more, forces are not learnt at the beginning. Large forces
    and stresses count less, as 1/(1 + size/2 eV/Å) and 1/(1 + size/20 GPa).

    :param degree: highest l of the spherical harmonics.
    :param correlation: order of the products of neighbours' densities.
    :param cutoff: in Å.
    :param radial_functions: Bessel functions of the distance.
    :param radial_widths: hidden layers of the network from these to the weights of the convolutions.
    :param energy_weight: of the loss.
    :param force_weight: of the loss.
    :param stress_weight: of the loss.
    :param at_rest: whether crystals of the kinds ``real`` and ``rest``, which others relaxed, count as free of stress, and
        those of the kind ``rest`` as free of forces, whatever their labels say.
    :param pseudo_weight: of a pseudolabelled frame in the loss.
    :param parent_sha256: what the parent must hash to; it is a pickle, and loading it runs the code in it.
    """

    degree: int = Field(2, ge=1, le=4)
    correlation: int = Field(3, ge=1, le=3)
    cutoff: float = Field(5.0, gt=1)
    radial_functions: int = Field(8, ge=1)
    radial_widths: list[int] = [32, 32]
    energy_weight: float = Field(1.0, ge=0)
    force_weight: float = Field(10.0, ge=0)
    stress_weight: float = Field(0.5, ge=0)
    at_rest: bool = False
    pseudo_weight: float = Field(1.0, ge=0)
    parent_sha256: str | None = None


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
    """How a model is trained. Defaults depend on the model: those of the model take precedence over the general ones.

    :param model: ``denoiser``, ``classifier`` (per-atom DOS of noised crystals, to guide with), ``predictor`` (per-atom DOS
        and formation energy of crystals) or ``forcefield`` (MACE).
    :param epochs: passes over the training crystals.
    :param learning_rate: peak of the schedule, for Adam.
    :param weight_decay: of AdamW.
    :param ema: decay of the exponential moving average of the weights.
    :param drop_crystal: probability that a crystal's whole condition is dropped.
    :param drop_site: probability that single sites lose theirs, in crystals that keep a site condition.
    :param total_only: probability that a crystal shows only its total curve.
    :param energies: of the curves of a denoiser or classifier: from, to (eV), how many. None takes −10 … 10 eV. Levels below
        tell elements (O 2s, Ga 3d, K 3p), where labels and targets have them. A classifier guides a denoiser of its energies.
    :param drop_channels: probability that a crystal shows its sites without channels.
    :param validation_fraction: crystals held out, chosen by their chemical system.
    :param patience: epochs without a better validation loss after which training stops; None never stops early.
    :param keep: which weights a training leaves: those of the epoch with the least validation loss, or of the last epoch. A
        denoiser's elements overfit while its coordinates still learn, so that the best sum of losses is not the best sampler.
    :param precision: ``bfloat16`` is mixed precision: matrix products in bfloat16, weights and the rest in float32.
    :param batched: of a force field: trains it by this package's own loop; None by mace-torch's trainer.
    :param tight_binding_epochs: passes over the training crystals for the fit of the tight binding that a predictor builds on.
    """

    model: ModelKind = "denoiser"
    architecture: Architecture = Architecture()
    epochs: int = Field(500, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    ema: float = Field(0.999, ge=0, lt=1)
    drop_crystal: float = Field(0.15, ge=0, le=1)
    drop_site: float = Field(0.2, ge=0, le=1)
    total_only: float = Field(0.15, ge=0, le=1)
    energies: tuple[float, float, int] | None = None
    drop_channels: float = Field(0.3, ge=0, le=1)
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    patience: int | None = Field(None, ge=1)
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16"] = "float32"
    tight_binding_epochs: int = Field(10, ge=0)
    batched: BatchedTraining | None = None

    @model_validator(mode="after")
    def _energies(self) -> TrainParameters:
        if self.energies is not None:
            if self.model not in ("denoiser", "classifier"):
                raise ValueError("energies are for a denoiser or a classifier; leave them out")
            EnergyGrid(*self.energies)
        return self

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
    :param seed: seed of all randomness.
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
