"""What models there are."""

from typing import Literal, TypeAlias

ModelKind: TypeAlias = Literal["denoiser", "classifier", "predictor", "forcefield"]
