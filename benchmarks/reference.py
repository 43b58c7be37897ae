"""The reference scheme of the sampling benchmark, as a preset of our own parts, and its training.

    python benchmarks/reference.py train [--max-seconds S]

writes ``build/reference.safetensors`` (about 70 MB, hence not shipped); a training that was stopped continues when it is called
again. The settings are those published with arXiv:2504.06249 as far as our parts have them: six layers of width 512 with 128
Fourier frequencies; 1,000 steps of the ancestral predictor with one Langevin corrector each; classifier-free guidance with
w = 1, for which each half-step calls the network twice, with and without the condition: 4 calls a step. The condition is
dropped for whole crystals with probability 0.2 and never for single sites.

Data, split, seed, epochs, batch size and optimiser are those of the shipped denoiser, so that only the scheme differs; its
matrix products are taken in bfloat16 while it is trained, without which it would take hours. Two things make the preset
faster than the published network: the first edge layer is split into atom and pair parts, and crystals of one size make up a
dense batch without scatter operations.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from torch import Tensor

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import Architecture, Runtime, SampleParameters, TrainJob, TrainParameters
from aiida_dosmatgen.engine.commands.train import run
from aiida_dosmatgen.engine.diffusion.condition import Condition
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser, Output, State

ROOT = Path(__file__).parents[1]
DATASET = ROOT / "datasets" / "pseudodojo-pbe"
CHECKPOINT = ROOT / "build" / "reference.safetensors"

ARCHITECTURE = {"width": 512, "layers": 6, "frequencies": 128}
TRAINING = TrainParameters(
    model="denoiser",
    architecture=Architecture(**ARCHITECTURE),
    epochs=400,
    batch_size=32,
    weight_decay=0.02,
    validation_fraction=0.1,
    keep="last",
    precision="bfloat16",
    drop_crystal=0.2,
    drop_site=0.0,
    total_only=0.0,
)
SEED = 1
SAMPLING = SampleParameters(sampler="ancestral", steps=1000, corrector_steps=1, guidance_scale=1.0, precision="float32")
CALLS = 2 * (SAMPLING.steps + SAMPLING.corrector_steps * (SAMPLING.steps - 1))
"""Network calls a candidate; there is nothing to correct after the last step."""


class TwoCalls:
    """(1 + w)·conditional − w·unconditional from two separate network calls.

    :param condition: of the B crystals of the batch.
    :param mask: True for atoms, shape (B, N).
    """

    def __init__(self, model: Denoiser, condition: Condition, mask: Tensor, scale: float = SAMPLING.guidance_scale) -> None:
        self.model, self.mask, self.scale = model, mask, scale
        self.conditional, self.unconditional = model.encode(condition, mask), model.encode(condition.dropped(), mask)

    def __call__(self, state: State, t: Tensor) -> Output:
        """Return the guided prediction."""
        conditional = self.model(state, t, self.conditional, self.mask)
        unconditional = self.model(state, t, self.unconditional, self.mask)
        w = self.scale
        return Output(*((1 + w) * c - w * u for c, u in zip(conditional, unconditional, strict=True)))


def untrained(like: Denoiser) -> Denoiser:
    """Return the reference network with random weights, for the elements and curves of another model: for its speed only."""
    model = Denoiser(like.elements, like.grid, max_atoms=like.sizes.max_atoms, **ARCHITECTURE)
    model.lattices.load_state_dict(like.lattices.state_dict())
    return model.eval()


def train(output: Path = CHECKPOINT, dataset: Path = DATASET, max_seconds: float | None = None) -> bool:
    """Train the reference in the folder of its checkpoint, or continue it; return whether it is finished."""
    folder = output.parent / "reference-training"
    folder.mkdir(parents=True, exist_ok=True)
    job = TrainJob(
        dataset=str(dataset.resolve()),
        parameters=TRAINING,
        seed=SEED,
        output="reference.safetensors",
        history="history.json",
        runtime=Runtime(threads=1, max_seconds=max_seconds),
    )
    finished = run(job, folder).finished
    if finished:
        (folder / job.output).replace(output)
        shutil.rmtree(folder)
    return finished


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["train"])
    parser.add_argument("--max-seconds", type=float, help="stop in time, to continue at the next call")
    parser.add_argument("-o", "--output", type=Path, default=CHECKPOINT)
    given = parser.parse_args()
    try:
        finished = train(given.output, max_seconds=given.max_seconds)
    except ContentError as exception:
        sys.exit(str(exception))
    print(f"{given.output} is trained" if finished else "not finished; call it again to continue")


if __name__ == "__main__":
    main()
