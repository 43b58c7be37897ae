"""The kinds of models."""

from typing import Literal, TypeAlias

ModelKind: TypeAlias = Literal["denoiser", "classifier", "predictor", "forcefield"]
