"""``dosmatgen compare``: how far two densities of states are apart."""

from __future__ import annotations

import dataclasses
import json
import math

from ...core.curve_files import compare_files
from ...core.errors import ContentError
from .sources import curves_named


def write(
    a: str,
    b: str,
    n_atoms: str | None = None,
    window: tuple[float, float] | None = None,
    zeros: tuple[float | None, float | None] = (None, None),
    sigmas: tuple[float | None, float | None] = (None, None),
    as_json: bool = False,
) -> None:
    """Print the distances of two files.

    :param n_atoms: atoms of the cells, ``N`` or ``N,M``.
    :param window: energies between which they are compared, in eV.
    :param zeros: the energy of each, as in the file, that becomes zero, in eV.
    :param sigmas: broadening of each in eV, where a file does not state it.
    :raises ContentError: if one cannot be read, or they cannot be compared.
    """
    if window is not None and not window[0] < window[1]:
        raise ContentError(f"--window {window[0]:g} {window[1]:g}: the first energy must be the lower one")
    counts = _counts(n_atoms)
    reads = [curves_named(name, zero, sigma) for name, zero, sigma in zip((a, b), zeros, sigmas, strict=True)]
    distance, notes = compare_files(reads[0], reads[1], counts, window)
    values = {name: _finite(value) for name, value in dataclasses.asdict(distance).items()}
    if as_json:
        print(json.dumps({**values, "a": reads[0].said, "b": reads[1].said, "notes": notes}, indent=1))
        return
    unit = "states/eV/atom"
    print(f"A  {reads[0].said}\nB  {reads[1].said}")
    for note in notes:
        print(f"   {note}")
    rows = [
        ("mean absolute difference", values["mae"], unit),
        ("  within 3 eV of zero", values["mae_near_zero"], unit),
        ("  of the totals", values["mae_total"], unit),
        ("Wasserstein distance", values["wasserstein"], "eV"),
        ("R²", values["r2"], ""),
    ]
    for name, value, what in rows:
        print(f"{name:26}{'-' if value is None else format(value, '.4f')} {what}".rstrip())
    print(f"{'compared':26}{distance.low:.2f} to {distance.high:.2f} eV, broadened by {distance.sigma:g} eV")


def _counts(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() and 0 < int(part) < 10**6 for part in parts):
        raise ContentError(f"--n-atoms {text}: give the atoms of the cell, N, or of both cells, N,M")
    return int(parts[0]), int(parts[-1])


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
