"""Limited-memory BFGS directions for many independent minimisations at once."""

from __future__ import annotations

from collections import deque

import numpy as np


class ManyLBFGS:
    """Independent L-BFGS histories over one flat array of variables (two-loop recursion; Nocedal, Math. Comp. 35, 773 (1980)).

    Problem p owns ``rows[p]`` consecutive rows of the variables (R, 3). Each has its own history: nothing flows between them,
    and each can join, leave or start afresh at any time.

    :param memory: pairs of steps and gradient changes that are kept.
    :param curvature: guess of the second derivative before there is a history (eV/Å² if the variables are Å).
    """

    def __init__(self, memory: int = 20, curvature: float = 70.0) -> None:
        self.curvature = curvature
        self.rows = np.zeros(0, dtype=np.int64)
        self._scale = np.zeros(0)
        self._pairs: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=memory)

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Inner product of each problem's rows, (R, 3), (R, 3) -> (P,)."""
        if not len(self.rows):
            return np.zeros(0)
        return np.add.reduceat(np.einsum("ri,ri->r", a, b), np.cumsum(self.rows) - self.rows)

    def add(self, rows: np.ndarray) -> None:
        """Append problems with so many rows each."""
        new, total = len(rows), int(np.sum(rows))
        self.rows = np.concatenate([self.rows, rows]).astype(np.int64)
        self._scale = np.concatenate([self._scale, np.full(new, 1 / self.curvature)])
        blank = np.zeros((total, 3))
        for k, (s, y, rho) in enumerate(self._pairs):
            self._pairs[k] = (np.concatenate([s, blank]), np.concatenate([y, blank]), np.concatenate([rho, np.zeros(new)]))

    def keep(self, problems: np.ndarray) -> None:
        """Drop all but the selected problems (P,) bool."""
        rows = np.repeat(problems, self.rows)
        for k, (s, y, rho) in enumerate(self._pairs):
            self._pairs[k] = (s[rows], y[rows], rho[problems])
        self.rows, self._scale = self.rows[problems], self._scale[problems]

    def forget(self, problems: np.ndarray) -> None:
        """Clear the history of the selected problems (P,) bool."""
        for _, _, rho in self._pairs:
            rho[problems] = 0.0
        self._scale[problems] = 1 / self.curvature

    def update(self, steps: np.ndarray, changes: np.ndarray, problems: np.ndarray) -> None:
        """Learn from steps taken and the changes of the gradient along them, both (R, 3).

        :param problems: which problems took a step (P,) bool. Pairs of negative curvature are not learnt.
        """
        curvature, squared = self.dot(steps, changes), self.dot(changes, changes)
        good = problems & (curvature > 1e-10 * np.sqrt(squared * self.dot(steps, steps))) & (squared > 0)
        rho = np.where(good, 1 / np.where(good, curvature, 1.0), 0.0)
        self._scale = np.where(good, curvature / np.where(good, squared, 1.0), self._scale)
        rows = np.repeat(good, self.rows)[:, None]
        self._pairs.append((np.where(rows, steps, 0.0), np.where(rows, changes, 0.0), rho))

    def directions(self, gradients: np.ndarray) -> np.ndarray:
        """Return the quasi-Newton steps −H·g, (R, 3) -> (R, 3)."""
        q, alphas = gradients.copy(), []
        for s, y, rho in reversed(self._pairs):
            alpha = rho * self.dot(s, q)
            q -= np.repeat(alpha, self.rows)[:, None] * y
            alphas.append(alpha)
        q *= np.repeat(self._scale, self.rows)[:, None]
        for (s, y, rho), alpha in zip(self._pairs, reversed(alphas), strict=True):
            q += np.repeat(alpha - rho * self.dot(y, q), self.rows)[:, None] * s
        return -q
