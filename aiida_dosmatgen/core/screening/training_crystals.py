"""The crystals that a model learnt from, so few bytes of each that a checkpoint can carry them.

Of each crystal the reduced composition is kept, and the fingerprint (:mod:`.fingerprints`) in steps of :data:`STEP`, a byte for
each number: 29 bytes of a binary compound, 61 of a ternary one, 105 of four elements. Neither volume nor energy is in it. It
answers whether a crystal is, as far as that tells, one of them: the composition is equal, and all distances agree as those of
known crystals do (:data:`.matching.KNOWN_FINGERPRINT`). Which one it is, and whether ``StructureMatcher`` agrees, takes the
set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..contacts import valid_crystals
from ..crystals import CrystalSet
from ..elements import Composition
from .fingerprints import NEIGHBOURS, fingerprints
from .matching import KNOWN_FINGERPRINT, composition_of

STEP = 0.02
"""In units of the cube root of the volume per atom; distances of more than 255 steps count as 255."""

_APART = round(KNOWN_FINGERPRINT / STEP)
_MOST = 255  # what a byte holds


class TrainingCrystals:
    """Compositions and fingerprints of crystals, each once.

    :param entries: of each crystal one byte with the number k of elements, k pairs of atomic number and count, and k·k·6 steps
        of the fingerprint.
    """

    def __init__(self, entries: Iterable[bytes]) -> None:
        self._entries = sorted(set(entries))
        self._known: dict[Composition, np.ndarray] | None = None

    @classmethod
    def of(cls, crystals: CrystalSet) -> TrainingCrystals:
        """Take the crystals of a set; those that are no crystals, or have an index above 255 in their formula, are left out."""
        rows = np.flatnonzero(valid_crystals(crystals))
        compositions, steps = _described(crystals, rows)
        return cls(
            _head(composition) + step.tobytes()
            for composition, step in zip(compositions, steps, strict=True)
            if max(count for _, count in composition) <= _MOST
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> TrainingCrystals:
        """Read what :meth:`to_bytes` returned.

        :raises ValueError: if it is cut off.
        """
        entries, place = [], 0
        while place < len(content):
            k = content[place]
            end = place + 1 + 2 * k + k * k * NEIGHBOURS
            if k == 0 or end > len(content):
                raise ValueError("the training crystals of the checkpoint are cut off")
            entries.append(content[place:end])
            place = end
        return cls(entries)

    def to_bytes(self) -> bytes:
        """Return all entries, one after the other."""
        return b"".join(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __or__(self, other: TrainingCrystals) -> TrainingCrystals:
        return TrainingCrystals([*self._entries, *other._entries])

    def has(self, crystals: CrystalSet, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Say of crystals whether they are, by composition and fingerprint, among these, shape (number of rows,) bool.

        :param rows: of the crystals; all by default. What is no crystal is not among them.
        """
        rows = np.arange(len(crystals)) if rows is None else np.asarray(rows, dtype=np.int64)
        known, found = self._by_composition(), np.zeros(len(rows), dtype=bool)
        good = np.flatnonzero(valid_crystals(crystals)[rows])
        for place, composition, step in zip(good, *_described(crystals, rows[good]), strict=True):
            if composition in known:
                apart = np.abs(known[composition].astype(int) - step)
                found[place] = (apart <= _APART).all(1).any()
        return found

    def _by_composition(self) -> dict[Composition, np.ndarray]:
        if self._known is None:
            grouped: dict[Composition, list[bytes]] = {}
            for entry in self._entries:
                head = 1 + 2 * entry[0]
                composition = tuple(zip(entry[1:head:2], entry[2:head:2], strict=True))
                grouped.setdefault(composition, []).append(entry[head:])
            self._known = {
                composition: np.frombuffer(b"".join(steps), dtype=np.uint8).reshape(len(steps), -1)
                for composition, steps in grouped.items()
            }
        return self._known


def _described(crystals: CrystalSet, rows: np.ndarray) -> tuple[list[Composition], list[np.ndarray]]:
    """Return the reduced composition and the steps of the fingerprint of each row."""
    offsets = crystals.offsets
    compositions = [composition_of(crystals.numbers[offsets[i] : offsets[i + 1]]) for i in rows]
    steps = [np.minimum(np.rint(one / STEP), _MOST).astype(np.uint8) for one in fingerprints(crystals, rows)]
    return compositions, steps


def _head(composition: Composition) -> bytes:
    return bytes([len(composition), *(number for pair in composition for number in pair)])
