"""How a condition steers the sampler. A guidance is made once for a batch and called at each evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ....core.errors import ContentError
from ....core.job import SampleParameters
from ....core.target.wish_curve import spoken_of
from ....core.target.wishes import Bounds, Wish
from ..classifier import Classifier
from ..condition import Condition
from ..denoiser import Denoiser, Encoded, Output, State
from ..noise import like

__all__ = ["ClassifierFree", "ClassifierGuided", "Guidance", "make"]

ALWAYS = (0.0, 1.0)
_SMALLEST_SIGNAL = 0.1  # floor of a(t): near pure noise x̂0 = (x + σ²·score)/a would move without bounds


class Guidance(Protocol):
    """What a sampler needs: predictions for a state at a time."""

    def __call__(self, state: State, t: Tensor) -> Output:
        """Predict for B crystals at times t, shape (B,)."""
        ...


def make(
    model: Denoiser,
    classifier: Classifier | None,
    condition: Condition,
    mask: Tensor,
    parameters: SampleParameters,
    wishes: Sequence[Wish] = (),
    only_wishes: bool = False,
) -> Guidance:
    """Return the guidance that the parameters of a job ask for.

    :param classifier: needed by ``guidance`` ``classifier`` alone.
    :param condition: of the B crystals of a batch.
    :param mask: True for atoms, shape (B, N).
    :param wishes: what the target asks for besides its curve. A classifier follows them where they are linear in the curve.
    :param only_wishes: whether the curve was made from them; then the classifier follows it where other wishes speak.
    :raises ContentError: if classifier guidance lacks its classifier or a target, or the classifier does not fit the model.
    """
    if parameters.guidance != "classifier":
        scale = parameters.guidance_scale if parameters.guidance == "classifier-free" else 0.0
        return ClassifierFree(model, condition, mask, scale, parameters.guidance_interval)
    if classifier is None:
        raise ContentError(
            "parameters.guidance: 'classifier' needs a classifier; give the job one (a checkpoint trained with model "
            "'classifier'), or take 'classifier-free'"
        )
    if condition.empty:
        raise ContentError(
            "parameters.guidance: 'classifier' follows the distance to a target, but there is none; give one, or take 'none'"
        )
    bounds = [(one, found) for one in wishes if (found := one.bounds(classifier.grid.points)) is not None]
    if only_wishes:
        followed = [one for one, _ in bounds]
        said = spoken_of((one for one in wishes if one not in followed), classifier.grid.points)
        condition = dataclasses.replace(
            condition,
            said=torch.as_tensor(said, device=mask.device).expand_as(condition.said),
            total_given=condition.total_given & bool(said.any()),
        )
    return ClassifierGuided(
        model,
        classifier,
        condition,
        mask,
        parameters.guidance_scale,
        parameters.guidance_interval,
        [(found, one.weight) for one, found in bounds],
    )


def _strength(scale: float, interval: tuple[float, float], t: Tensor) -> Tensor:
    """Return the scale of each crystal at its time: zero outside of the interval, shape (B,)."""
    low, high = interval
    return scale * ((t >= low) & (t <= high)).to(t.dtype)


class ClassifierFree:
    """(1 + w)·conditional − w·unconditional, on logits, score and velocity (arXiv:2207.12598).

    Within the interval of t both branches run as one stacked batch. Outside of it (arXiv:2404.07724), with w = 0, or if
    nothing is asked of any crystal, the conditional branch runs alone, at half the cost.

    :param model: the denoiser.
    :param condition: of the B crystals of the batch.
    :param mask: True for atoms, shape (B, N).
    :param scale: w ≥ 0.
    :param interval: first and last time at which w counts.
    """

    def __init__(
        self,
        model: Denoiser,
        condition: Condition,
        mask: Tensor,
        scale: float,
        interval: tuple[float, float] = ALWAYS,
    ) -> None:
        self.model, self.mask, self.interval = model, mask, interval
        self.scale = 0.0 if condition.empty else scale
        self.conditional = model.encode(condition, mask)
        if self.scale:
            null = model.encode(condition.dropped(), mask)
            self.both = Encoded(*(torch.cat(pair) for pair in zip(self.conditional, null, strict=True)))

    def __call__(self, state: State, t: Tensor) -> Output:
        """Return the guided prediction."""
        w = _strength(self.scale, self.interval, t)
        if not w.any():
            return self.model(state, t, self.conditional, self.mask)
        guided = []
        for both in self.model(state, t, self.both, self.mask):
            conditional, unconditional = both.chunk(2)
            strength = like(w, conditional)
            guided.append((1 + strength) * conditional - strength * unconditional)
        return Output(*guided)


class ClassifierGuided:
    """The unconditional denoiser, pulled towards crystals whose predicted DOS is near to the target.

    The classifier f reads the DOS of the *noised* crystal, and p_t(y | x_t) ∝ exp(−w·d(f(x_t, t), y)), with d the sum of the
    distances of the given curves (:meth:`..classifier.Classifier.distance`; arXiv:2504.06249, after
    arXiv:2105.05233). Its gradient g = ∇d is added to the unconditional score, ∇ log p_t(x|y) = ∇ log p_t(x) − w·g. In terms of
    what the denoiser predicts (:class:`..denoiser.Output`):

    - coordinates: the score itself, s' = s − w·g, over its root mean square, without its mean over the atoms;
    - lattice: x̂0 = (x + σ²·score)/a = a·x − σ·v, so that x̂0' = x̂0 − w·(σ²/a)·g is v' = v + w·(σ/a)·g, where a = cos(πt/2)
      is not taken below 0.1;
    - types: the classifier reads them as the probabilities q_k of the elements of each atom, q ∝ exp(c·a·x/σ²) with c the
      length of the one-hot vectors. To first order in q the tilted posterior is p(k | x_t, y) ∝ p(k | x_t)·exp(−w·∂d/∂q_k),
      which is a term in the logits. For p = q its mean is x̂0 − w·(σ²/a)·∇d to first order, as of the lattice, but it stays a
      distribution over elements however strong the pull.

    Outside of the interval of t the denoiser runs alone. The gradient is taken whatever the caller's autograd mode is.

    :param model: the denoiser.
    :param classifier: on the model's device; it is put into evaluation mode and its weights are frozen.
    :param condition: the targets of the B crystals.
    :param mask: True for atoms, shape (B, N).
    :param scale: w ≥ 0.
    :param interval: first and last time at which w counts.
    :param bounds: inequalities that count besides the curves in d, each with its weight
        (:meth:`..classifier.Classifier.distance_from_bounds`).
    :raises ContentError: if the classifier lacks an element of the model, or has curves on another grid.
    """

    def __init__(
        self,
        model: Denoiser,
        classifier: Classifier,
        condition: Condition,
        mask: Tensor,
        scale: float,
        interval: tuple[float, float] = ALWAYS,
        bounds: Sequence[tuple[Bounds, float]] = (),
    ) -> None:
        self.model, self.mask, self.scale, self.interval = model, mask, scale, interval
        self.bounds = bounds
        self.classifier = classifier.eval().requires_grad_(False)
        self.unconditional = model.encode(condition.dropped(), mask)
        with torch.inference_mode(False):  # tensors made in inference mode cannot take part in a gradient
            self.condition = Condition(**{name: value.clone() for name, value in vars(condition).items()})
            self.own_mask = mask.clone()
            self.columns = _columns(model, classifier)

    def __call__(self, state: State, t: Tensor) -> Output:
        """Return the guided prediction."""
        output = self.model(state, t, self.unconditional, self.mask)
        w = _strength(self.scale, self.interval, t)
        if not w.any():
            return output
        gradient = self.gradient(state, t)
        present = self.mask.to(gradient.fractional.dtype)[..., None]
        mean = (gradient.fractional * present).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp_min(1)
        pull = (gradient.fractional - mean) * present
        a, sigma = self.model.types.coefficients(t)
        return Output(
            output.logits - like(w, output.logits) * gradient.types,
            output.score - like(w / self.model.coordinates.score_scale(t), output.score) * pull,
            output.velocity + like(w * sigma / a.clamp_min(_SMALLEST_SIGNAL), output.velocity) * gradient.lattice,
        )

    def distance(self, probabilities: Tensor, fractional: Tensor, lattice: Tensor, t: Tensor) -> Tensor:
        """Return d of each crystal, shape (B,).

        :param probabilities: of the model's elements for each atom, shape (B, N, n_elements).
        :param fractional: shape (B, N, 3).
        :param lattice: standardised components of the model, shape (B, 6).
        """
        classifier = self.classifier
        if self.columns is not None:
            wide = probabilities.new_zeros(*probabilities.shape[:-1], len(classifier.elements))
            probabilities = wide.index_copy(-1, self.columns, probabilities)
        curves = classifier.curves(probabilities, fractional, self._translated(lattice, t), t, self.own_mask)
        distance = classifier.distance(curves, self.condition, self.own_mask)
        for bounds, weight in self.bounds:
            weights = torch.full((len(bounds.rows),), weight, device=curves.device)
            distance = distance + classifier.distance_from_bounds(curves, bounds, self.own_mask, weights)
        return distance

    def gradient(self, state: State, t: Tensor) -> State:
        """Return ∇d: with respect to the probabilities of the elements, the coordinates and the lattice components."""
        with torch.inference_mode(False), torch.enable_grad():
            types, fractional, lattice, t = (part.detach().clone().to(self.classifier.dtype) for part in (*state, t))
            leaves = State(self.classifier.probabilities(types, t), fractional, lattice)
            for leaf in leaves:
                leaf.requires_grad_()
            gradient = torch.autograd.grad(self.distance(*leaves, t).sum(), leaves)
        return State(*(part.to(like_.dtype) for part, like_ in zip(gradient, state, strict=True)))

    def _translated(self, lattice: Tensor, t: Tensor) -> Tensor:
        """Return lattice components in the statistics of the classifier.

        Those of the denoiser are a·c + σ·ε with c = (C − m)/s; the part a·c is translated exactly.
        """
        theirs, ours = self.classifier.lattices, self.model.lattices
        a, _ = self.model.types.coefficients(t)
        shift = like(a, lattice) * (ours.mean - theirs.mean).to(lattice)
        return (lattice * ours.std.to(lattice) + shift) / theirs.std.to(lattice)


def _columns(model: Denoiser, classifier: Classifier) -> Tensor | None:
    """Return the place of each of the model's elements among the classifier's, or None if both have the same."""
    if classifier.sigma != model.sigma:
        raise ContentError(
            f"classifier: its curves are broadened by {classifier.sigma:g} eV, those of the checkpoint by {model.sigma:g} eV"
        )
    if classifier.grid != model.grid:
        ours, theirs = ((f"{g.emin:g} … {g.emax:g} eV, {g.n} points") for g in (model.grid, classifier.grid))
        raise ContentError(f"classifier: its curves are on the grid {theirs}, those of the checkpoint on {ours}")
    unknown = [symbol for symbol in model.elements if symbol not in classifier.elements]
    if unknown:
        raise ContentError(
            f"classifier: it knows {' '.join(classifier.elements)}, but the checkpoint generates {' '.join(unknown)} too; "
            "take a classifier that was trained on the same elements"
        )
    if classifier.elements == model.elements:
        return None
    return torch.tensor([classifier.elements.index(symbol) for symbol in model.elements], device=model.device)
