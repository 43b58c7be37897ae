"""Probabilities of elements with an exact composition: a projection onto the transport polytope."""

import torch
from torch import Tensor

__all__ = ["project"]

_TOLERANCE = 1e-7  # of the composition, in atoms
_LARGEST_STEPS = 200


def project(logits: Tensor, allowed: Tensor, counts: Tensor) -> Tensor:
    """Return log p nearest to softmax(logits) in relative entropy, with Σ_k p_ik = 1 and Σ_i p_ik = counts_k.

    The solution is p_ik ∝ exp(logits_ik + g_k), where g minimises the convex Σ_i logsumexp_k(logits_ik + g_k) − g·counts
    (Peyré and Cuturi, arXiv:1803.00567, section 4).
    Sinkhorn's step, g_k += ln(counts_k / Σ_i p_ik), alternates with a damped Newton step: alone it converges sublinearly where
    logits are far apart.

    :param logits: shape (B, N, K), any precision; computed in double precision where the device has it.
    :param allowed: shape (B, N, K) bool; each allowed pair must occur in some assignment
        (:func:`~aiida_dosmatgen.core.constraints.assignment.supported`).
    :param counts: shape (B, K), with the sum N.
    :return: shape (B, N, K), a large negative number where not allowed. Crystals of a batch do not influence each other.
    """
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    lowest = torch.finfo(logits.dtype).min / 2
    used = counts.sum(0) > 0
    goal = counts[:, used].to(dtype)
    kernel = logits[..., used].to(dtype).masked_fill(~allowed[..., used], -torch.inf)
    goal_log = goal.log()  # −inf for an element that this crystal lacks, which is allowed nowhere in it
    potential = torch.zeros_like(goal)
    identity = torch.eye(goal.shape[-1], dtype=dtype, device=goal.device)
    for _ in range(_LARGEST_STEPS):
        p_log = torch.log_softmax(kernel + potential[:, None], -1)
        excess = goal_log - torch.logsumexp(p_log, 1)
        sinkhorn = potential + excess.nan_to_num(0.0, 0.0, 0.0)
        p = torch.softmax(kernel + sinkhorn[:, None], -1)
        columns = p.sum(1)
        hessian = torch.diag_embed(columns) - (p[..., :, None] * p[..., None, :]).sum(1)
        step, _ = torch.linalg.solve_ex(hessian + 1e-12 * identity, (goal - columns)[..., None])
        step = step[..., 0].nan_to_num(0.0, 0.0, 0.0)
        largest = step.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        stepped = sinkhorn + step * (torch.log1p(largest) / largest)
        wrong = (p_log.exp().sum(1) - goal).abs().amax(-1, keepdim=True) > _TOLERANCE
        if not wrong.any():
            break
        potential = torch.where(wrong, stepped, potential)
    result = torch.full_like(logits, lowest)
    result[..., used] = torch.log_softmax(kernel + potential[:, None], -1).clamp_min(lowest).to(logits.dtype)
    return result
