"""Batched relaxation of crystals: cells and positions together."""

from .relax import STATUSES, Relaxed, gather, relax

__all__ = ["STATUSES", "Relaxed", "gather", "relax"]
