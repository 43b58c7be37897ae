"""The header of a checkpoint, read without torch and without safetensors.

A checkpoint is a safetensors file: eight bytes with the length of a JSON text, the text, the tensors. The text's
``__metadata__`` has two keys: ``dosmatgen``, whose value is the JSON of a :class:`CheckpointHeader`, and ``sha256``, by which
a single changed byte is noticed (:mod:`.checksum`). One tensor is none of the model: :data:`TRAINING_CRYSTALS`, the bytes of
:class:`..screening.training_crystals.TrainingCrystals`.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..curves import Meaning
from ..dos import EnergyGrid
from ..errors import ContentError
from ..strict import explain
from . import checksum

FORMAT = "dosmatgen-checkpoint"
VERSION: Literal[2] = 2
METADATA_KEY = "dosmatgen"
TRAINING_CRYSTALS = "training_crystals"

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingHeader(_Part):
    """Where the weights come from.

    :param dataset_sha256: hash of the data set's file.
    :param n_crystals: crystals trained on, held-out ones not counted.
    :param epochs: passes over the data until the weights that are kept.
    :param largest: the number of atoms of the largest crystal that was trained on; None in checkpoints before 0.3.
    :param parent_sha256: hash of the checkpoint that training started from, or None.
    :param pseudolabelled_sha256: hash of the file of crystals with predicted curves that were trained on besides, or None.
    """

    dataset_sha256: str
    n_crystals: int = Field(ge=0)
    seed: int
    epochs: int = Field(ge=0)
    parameters: dict[str, Any]
    largest: int | None = None
    parent_sha256: str | None = None
    pseudolabelled_sha256: str | None = None


class CheckpointHeader(_Part):
    """What a checkpoint is, and where it comes from.

    :param kind: which model the tensors belong to.
    :param architecture: the sizes from which the model is built.
    :param elements: symbols in the order of the type index.
    :param grid: energies of the curves that the model takes or gives.
    :param sigma: Gaussian broadening of those curves in eV (standard deviation).
    :param meaning: what those of the sites hold (:data:`..curves.Meaning`); checkpoints before 0.3 do not say it, and learnt
        sums of projections.
    :param metrics: errors on the held-out crystals.
    """

    format: Literal["dosmatgen-checkpoint"] = "dosmatgen-checkpoint"
    version: Literal[2] = VERSION
    kind: Literal["denoiser", "classifier", "predictor"]
    architecture: dict[str, Any]
    elements: list[str] = Field(min_length=1)
    grid: EnergyGrid
    sigma: float = Field(gt=0)
    meaning: Meaning = "projections"
    training: TrainingHeader
    metrics: dict[str, Any] = {}
    engine_version: str

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], name: str = "checkpoint header") -> CheckpointHeader:
        """Make a header from its JSON.

        :raises ContentError: naming the keys that are missing, unknown or wrong.
        """
        try:
            return cls.model_validate(record)
        except ValidationError as exception:
            raise ContentError(f"{name}: {explain(exception)}") from None

    def to_metadata(self) -> dict[str, str]:
        """Return the ``__metadata__`` of the safetensors file, before :func:`.checksum.with_checksum`."""
        return {METADATA_KEY: self.model_dump_json(), checksum.KEY: checksum.PLACEHOLDER}


def read_header(source: str | Path | BinaryIO, name: str = "the file") -> CheckpointHeader:
    """Read and check the header of a checkpoint, and that each byte of the file is what was written.

    :param source: a path, or a binary stream that can seek.
    :param name: what messages call a stream.
    :raises ContentError: one line, for a pickle, a foreign file, one of another version, a truncated one, trailing bytes, a
        changed byte, missing keys.
    """
    if isinstance(source, str | Path):
        with open_checkpoint(source) as stream:
            return _read(stream, str(source))
    return _read(source, name)


def read_training_crystals(stream: BinaryIO) -> bytes | None:
    """Return the bytes of the tensor :data:`TRAINING_CRYSTALS` of a checkpoint that was checked before, None if it has none."""
    stream.seek(0)
    (length,) = struct.unpack("<Q", stream.read(8))
    entry = json.loads(stream.read(length)).get(TRAINING_CRYSTALS)
    if entry is None:
        return None
    first, last = entry["data_offsets"]
    stream.seek(8 + length + first)
    return stream.read(last - first)


def open_checkpoint(path: str | Path) -> BinaryIO:
    """Open a file to read.

    :raises ContentError: if that is not possible.
    """
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise ContentError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ContentError(f"{path} is a folder, not a checkpoint file") from None
    except OSError as exception:
        raise ContentError(f"{path} cannot be read: {exception.strerror}") from None


def _read(stream: BinaryIO, name: str) -> CheckpointHeader:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start, brace = stream.read(8), stream.read(1)
    stream.seek(8)
    # a header of 128 bytes more than a multiple of 256 starts like a pickle too, but then comes JSON
    if start.startswith((b"PK\x03\x04", b"\x80")) and brace != b"{":
        raise ContentError(
            f"{name} is a pickle (.pt, .pth, .ckpt or .model), not a checkpoint of this package; "
            "pickles can run code when they are loaded, so only safetensors files are accepted"
        )
    if len(start) < 8:
        raise ContentError(f"{name} has {size} bytes and is no checkpoint; it is empty or truncated")
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= _LONGEST_HEADER:
        raise ContentError(f"{name} is not a safetensors file, hence no checkpoint")
    text = stream.read(length)
    if text and not text.startswith(b"{"):
        raise ContentError(f"{name} is not a safetensors file, hence no checkpoint")
    if len(text) < length:
        raise ContentError(f"{name} is truncated: its header should have {length} bytes, {len(text)} are there")
    try:
        entries = json.loads(text)
        metadata = entries.pop("__metadata__", {})
        data = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        raise ContentError(f"{name} is not a safetensors file, hence no checkpoint") from None
    record = _record(metadata, name)
    expected = 8 + length + data
    if size < expected:
        raise ContentError(f"{name} is truncated: {size} of {expected} bytes are there; copy it again")
    if size > expected:
        raise ContentError(f"{name} has {size - expected} bytes too many after its tensors; it is damaged, copy it again")
    if not checksum.is_intact(stream, metadata.get(checksum.KEY)):
        raise ContentError(f"{name} is damaged: its content does not have the sha256 that it carries; copy it again")
    return CheckpointHeader.from_dict(record, f"{name}: checkpoint header")


def _record(metadata: Any, name: str) -> dict[str, Any]:
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ContentError(f"{name} is a safetensors file of another program: it has no {METADATA_KEY!r} header")
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as exception:
        raise ContentError(f"{name}: its {METADATA_KEY!r} header is not valid JSON: {exception}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ContentError(f"{name}: its {METADATA_KEY!r} header does not say {FORMAT!r}")
    version = record.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ContentError(f"{name} has checkpoint version {version}, newer than {VERSION}; update aiida-dosmatgen")
    if isinstance(version, int) and version < VERSION:
        raise ContentError(f"{name} has checkpoint version {version}, older than {VERSION} and without a hash; train it again")
    return record
