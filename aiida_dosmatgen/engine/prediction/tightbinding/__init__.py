"""Densities of states by tight binding with fitted parameters, the baseline that the networks correct."""

from .model import TightBinding

__all__ = ["TightBinding"]
