"""Overlaps of atomic orbitals on two centres, in closed form.

Orbitals are nodeless Slater functions r^l exp(−ζr) times a real spherical harmonic, written as four Gaussians each
(Hehre, Stewart & Pople, J. Chem. Phys. 51, 2657, 1969). Along the bond only orbitals of equal |m| overlap; that gives the
two-centre integrals, which are then turned into the frame of the crystal (Slater & Koster, Phys. Rev. 94, 1498, 1954).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

N_ORBITALS = 9
"""s; p: x, y, z; d: 3z²−r², xz, yz, xy, x²−y²."""
SHELL = (slice(0, 1), slice(1, 4), slice(4, 9))
"""Where the orbitals of l = 0, 1, 2 are among the nine."""
CHANNEL_OF_ORBITAL = (0, 1, 1, 2, 2)
"""|m| of the orbitals of a shell, in the frame of a bond: σ, π, π, δ, δ."""


@functools.cache
def _gaussians(l: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit r^l exp(−r) by r^l Σ_k c_k exp(−α_k r²), and return α and c."""
    r = np.linspace(1e-3, 14, 3000)
    exponents = 0.06 * 3.2 ** np.arange(4) if l == 0 else 0.045 * 2.7 ** np.arange(4)
    basis = r[:, None] ** l * np.exp(-exponents * r[:, None] ** 2)
    coefficients = np.linalg.lstsq(basis * r[:, None], r**l * np.exp(-r) * r, rcond=None)[0]
    return exponents, coefficients


def two_centre(distance: Tensor, zeta_a: Tensor, zeta_b: Tensor, l_a: int, l_b: int) -> Tensor:
    """Return the overlaps of normalised orbitals along the bond, for |m| = 0 … min(l_a, l_b), shape (P, min + 1).

    :param distance: Å, shape (P,).
    :param zeta_a: exponents of the first orbital in 1/Å, shape (P,).
    """
    (alpha, c_a), (beta, c_b) = _gaussians(l_a), _gaussians(l_b)
    a = distance.new_tensor(alpha)[None, :, None] * zeta_a[:, None, None].square()
    b = distance.new_tensor(beta)[None, None, :] * zeta_b[:, None, None].square()
    total = a + b
    variance = 0.5 / total
    # of the product of two Gaussians: where it lies, seen from each centre
    from_a, from_b = b * distance[:, None, None] / total, -a * distance[:, None, None] / total
    product = torch.exp(-a * b / total * distance[:, None, None].square()) * (math.pi / total) ** 1.5
    weights = product * distance.new_tensor(np.outer(c_a, c_b))
    integrals = torch.stack([(weights * m).sum((1, 2)) for m in _moments(l_a, l_b, from_a, from_b, variance)], 1)
    norms = _square_norm(a[:, :, 0], c_a, l_a) * _square_norm(b[:, 0], c_b, l_b)
    return integrals / torch.sqrt(norms)[:, None]


def _square_norm(exponents: Tensor, coefficients: np.ndarray, l: int) -> Tensor:
    total = exponents[:, :, None] + exponents[:, None]
    products = exponents.new_tensor(np.outer(coefficients, coefficients))
    return ((math.pi / total) ** 1.5 * (0.5 / total) ** l * products).sum((1, 2))


def _moments(l_a: int, l_b: int, x: Tensor, y: Tensor, v: Tensor) -> list[Tensor]:
    """Return E[f_a(r + x ẑ) f_b(r + y ẑ)] over a normal distribution of variance v in each direction, for each |m|.

    f are s: 1; p: z, x; d: (2z² − x² − y²)/√12, xz, xy.
    """
    if l_a > l_b:
        return _moments(l_b, l_a, y, x, v)
    if l_a == 0:
        return [(torch.ones_like(x), y, y.square() / math.sqrt(3))[l_b]]
    if (l_a, l_b) == (1, 1):
        return [x * y + v, v]
    if (l_a, l_b) == (1, 2):
        return [(x * y.square() + 2 * v * y) / math.sqrt(3), v * y]
    xx, yy = x.square(), y.square()
    fourth = xx * yy + v * (xx + yy + 4 * x * y) + 3 * v * v
    sigma = (4 * fourth - 4 * v * (xx + v) - 4 * v * (yy + v) + 8 * v * v) / 12
    return [sigma, v * (x * y + v), v * v]


def bond_frames(unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that turn s, p and d orbitals from the frames of bonds to that of the crystal.

    In closed form, in the order of the orbitals here. Matrices of e3nn (:func:`e3nn.o3.wigner_D`) need angles, know another
    order, and take a third longer (2,000 bonds on one core: 2.4 ms against 1.8 ms by :mod:`timeit`).

    :param unit: directions of the bonds, shape (P, 3).
    :return: for each l, shape (P, 2l+1 in the crystal, 2l+1 in the bond's frame).
    """
    axis = torch.nn.functional.one_hot(unit.abs().argmin(1), 3).to(unit)
    first = torch.nn.functional.normalize(torch.linalg.cross(axis, unit), dim=1)
    second = torch.linalg.cross(unit, first)
    rotation = torch.stack([first, second, unit], -1)
    d = _d_matrices().to(unit)
    turned = torch.einsum("pab,kbc,pdc->pkad", rotation, d, rotation)
    p = torch.stack([unit, first, second], -1)
    return torch.ones_like(unit[:, :1, None]), p, 2 * torch.einsum("jad,pkad->pjk", d, turned)


@functools.cache
def _d_matrices() -> Tensor:
    """Write the five d functions as rᵀMr, shape (5, 3, 3); all have the Frobenius norm 1/√2."""
    m = torch.zeros(5, 3, 3, dtype=torch.float64)
    m[0] = torch.diag(torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64)) / math.sqrt(12)
    for index, (i, j) in enumerate([(0, 2), (1, 2), (0, 1)], 1):
        m[index, i, j] = m[index, j, i] = 0.5
    m[4] = torch.diag(torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64))
    return m
