"""``dosmatgen prototypes``: the crystals that a training set is computed on."""

from pathlib import Path

from ...core.errors import ContentError
from ..labelling.prototypes import generate


def write(elements: list[str], count: int, seed: int, max_atoms: int, output: Path) -> None:
    """Generate prototype crystals and save them.

    :raises ContentError: for unknown elements, or numbers that make no sense.
    """
    if count < 1 or max_atoms < 1 or seed < 0:
        raise ContentError("--count and --max-atoms must be at least 1, --seed at least 0")
    if not elements:
        raise ContentError('--elements is empty; give chemical symbols, e.g. "Si C"')
    if not output.parent.is_dir():
        raise ContentError(f"the folder {output.parent} does not exist")
    crystals = generate(elements, count, seed, max_atoms)
    crystals.save(output, elements=elements, seed=seed, max_atoms=max_atoms)
    print(f"{len(crystals)} crystals in {output}")
