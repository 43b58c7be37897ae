"""A trained denoiser, classifier or predictor as a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.files.checkpoint_header import CheckpointHeader, read_header, read_training_crystals
from ..core.screening.training_crystals import TrainingCrystals
from .base import ContentFileData, as_validation_error, attribute


class CheckpointData(ContentFileData):
    """A checkpoint: a safetensors file with the header of this package. Its weights are never loaded here.

    :param file: path or binary stream of the checkpoint.
    :raises ValidationError: for a pickle, a foreign or newer file, and a truncated one.
    """

    DEFAULT_FILENAME = "checkpoint.safetensors"

    class AttributesModel(ContentFileData.AttributesModel):
        kind: str = attribute("kind", "'denoiser', 'classifier' or 'predictor'")
        version: int = attribute("version", "version of the checkpoint format")
        elements: list[str] = attribute("elements", "chemical symbols that the model knows")
        architecture: dict[str, Any] = attribute("architecture", "sizes of the network")
        grid: dict[str, float] = attribute("grid", "emin and emax (eV) and n of the energies of the DOS")
        sigma: float = attribute("sigma", "broadening of the DOS in eV (standard deviation)")
        training: dict[str, Any] = attribute("training", "how the model was trained")
        dataset_sha256: str = attribute("dataset_sha256", "sha256 of the file of the training set")
        metrics: dict[str, Any] = attribute("metrics", "errors on held-out crystals")
        engine_version: str = attribute("engine_version", "version of the package that trained the model")

    @classmethod
    def describe(cls, path: Path) -> dict[str, Any]:
        """Return the attributes of a checkpoint file."""
        header = read_header(path).model_dump(mode="json", exclude={"format"})
        return {**header, "dataset_sha256": header["training"]["dataset_sha256"]}

    @classmethod
    def from_file(cls, path: str | Path, **kwargs: Any) -> CheckpointData:
        """Make a node from a checkpoint file.

        :raises ValidationError: for a pickle, a foreign or newer file, and a truncated one.
        """
        return cls(path, **kwargs)

    @property
    def training_crystals(self) -> TrainingCrystals | None:
        """The crystals that the model learnt from; None if the checkpoint does not keep them, as those before 0.3."""
        with self.open(mode="rb") as stream:
            content = read_training_crystals(stream)
        return None if content is None else TrainingCrystals.from_bytes(content)

    @property
    def header(self) -> CheckpointHeader:
        """What the checkpoint says about itself."""
        with as_validation_error(), self.open(mode="rb") as stream:
            return read_header(stream)
