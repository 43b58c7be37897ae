"""Densities of states by tight binding with fitted parameters: a little quantum mechanics below the networks."""

from .model import TightBinding

__all__ = ["TightBinding"]
