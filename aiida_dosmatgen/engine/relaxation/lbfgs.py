"""Limited-memory BFGS directions for many independent minimisations at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np


class ManyLBFGS:
    """Independent L-BFGS histories over one flat array of variables (two-loop recursion; Nocedal, Math. Comp. 35, 773 (1980)).

    Problem p owns ``rows[p]`` consecutive rows of the variables (R, 3). Each has its own history: nothing flows between them,
    and each can join, leave or start afresh at any time.

    :param memory: pairs of steps and gradient changes that are kept.
    """

    def __init__(self, memory: int = 10) -> None:
        self.rows = np.zeros(0, dtype=np.int64)
        self._curvature = np.zeros(0)  # along the last step that was learnt, as an inner product; 0 without one
        self._change = np.zeros((0, 3))  # of the gradient in that step
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
        blank = np.zeros((total, 3))
        self._curvature = np.concatenate([self._curvature, np.zeros(new)])
        self._change = np.concatenate([self._change, blank])
        for k, (s, y, rho) in enumerate(self._pairs):
            self._pairs[k] = (np.concatenate([s, blank]), np.concatenate([y, blank]), np.concatenate([rho, np.zeros(new)]))

    def keep(self, problems: np.ndarray) -> None:
        """Drop all but the selected problems (P,) bool."""
        rows = np.repeat(problems, self.rows)
        for k, (s, y, rho) in enumerate(self._pairs):
            self._pairs[k] = (s[rows], y[rows], rho[problems])
        self.rows, self._curvature, self._change = self.rows[problems], self._curvature[problems], self._change[rows]

    def forget(self, problems: np.ndarray) -> None:
        """Clear the history of the selected problems (P,) bool."""
        for _, _, rho in self._pairs:
            rho[problems] = 0.0
        self._curvature[problems] = 0.0

    def update(self, steps: np.ndarray, changes: np.ndarray, problems: np.ndarray) -> None:
        """Learn from steps taken and the changes of the gradient along them, both (R, 3).

        :param problems: which problems took a step (P,) bool. Pairs of negative curvature are not learnt.
        """
        curvature, squared = self.dot(steps, changes), self.dot(changes, changes)
        good = problems & (curvature > 1e-10 * np.sqrt(squared * self.dot(steps, steps))) & (squared > 0)
        rho = np.where(good, 1 / np.where(good, curvature, 1.0), 0.0)
        rows = np.repeat(good, self.rows)[:, None]
        self._curvature = np.where(good, curvature, self._curvature)
        self._change = np.where(rows, changes, self._change)
        self._pairs.append((np.where(rows, steps, 0.0), np.where(rows, changes, 0.0), rho))

    def directions(self, gradients: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the quasi-Newton steps −H·g, (R, 3) -> (R, 3).

        :param solve: multiplies by the inverse of a guess of each problem's Hessian, (K, R, 3) -> (K, R, 3). The guess is
            scaled to agree with what was learnt last (Nocedal & Wright, Numerical Optimization, 2nd ed., eq. 7.20, for the unit
            matrix).
        """
        q, alphas = gradients.copy(), []
        for s, y, rho in reversed(self._pairs):
            alpha = rho * self.dot(s, q)
            q -= np.repeat(alpha, self.rows)[:, None] * y
            alphas.append(alpha)
        q, change = solve(np.stack([q, self._change]))
        learnt = self._curvature > 0
        scale = np.where(learnt, self._curvature / np.where(learnt, self.dot(self._change, change), 1.0), 1.0)
        q *= np.repeat(scale, self.rows)[:, None]
        for (s, y, rho), alpha in zip(self._pairs, reversed(alphas), strict=True):
            q += np.repeat(alpha - rho * self.dot(y, q), self.rows)[:, None] * s
        return -q
