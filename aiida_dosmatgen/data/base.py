"""What the nodes of this package share."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from aiida.common import ValidationError
from aiida.orm import Computer, Node, SinglefileData

from ..aiida_internals.nodes import OrmMetadataField
from ..core.errors import ContentError
from ..core.job import sha256_of


@contextlib.contextmanager
def as_validation_error() -> Iterator[None]:
    """Turn a ``ContentError`` into AiiDA's ``ValidationError`` with the same line."""
    try:
        yield
    except ContentError as exception:
        raise ValidationError(str(exception)) from None


def attribute(name: str, description: str, default: Any = ...) -> Any:
    """Declare an attribute of a node, so that ``Node.fields.<name>`` works in queries."""

    def read(node: Any) -> Any:
        return node.base.attributes.get(name, None)

    if default is ...:
        return OrmMetadataField(description=description, orm_to_model=read, read_only=True)
    return OrmMetadataField(default, description=description, orm_to_model=read, read_only=True)


def pk_of(node: Node | Computer) -> int:
    """Return the pk of a stored node or computer.

    :raises ValueError: if it is not stored.
    """
    if node.pk is None:
        raise ValueError(f"{type(node).__name__}<{node.uuid}> is not stored")
    return node.pk


def storable(value: Any) -> Any:
    """Return a value as JSON can hold it: numpy scalars and arrays as Python's own, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(key): storable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return storable(value.tolist())
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, np.generic):
        return storable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class ContentFileData(SinglefileData):
    """One file under a fixed name, with attributes that are read from it, its sha256 among them.

    Subclasses say in :meth:`describe` how to read the file; a file that cannot be read is refused with one line.
    """

    class AttributesModel(SinglefileData.AttributesModel):
        sha256: str = attribute("sha256", "sha256 of the file")

    @classmethod
    def describe(cls, path: Path) -> dict[str, Any]:
        """Return the attributes of a file.

        :raises ContentError: if the file is not what this node holds.
        """
        raise NotImplementedError

    def set_file(self, file: str | Path | IO[Any], filename: str | Path | None = None) -> None:
        """Take over a file (path or binary stream), whatever its name.

        :raises ValidationError: if it is not a file of this kind.
        """
        if not isinstance(file, str | Path):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / self.DEFAULT_FILENAME
                path.write_bytes(file.read())
                self.set_file(path)
            return
        path = Path(file).expanduser().absolute()
        with as_validation_error():
            attributes = self.describe(path)
        super().set_file(path, filename=self.DEFAULT_FILENAME)
        self.base.attributes.set_many(storable({**attributes, "sha256": sha256_of(path)}))

    def _validate(self) -> bool:
        super()._validate()
        if not self.base.attributes.get("sha256", None):
            raise ValidationError(f"{type(self).__name__} has no file; make it with its constructor or from_file")
        return True

    @property
    def sha256(self) -> str:
        """The sha256 of the file."""
        return self.base.attributes.get("sha256")


def saved(content: Any, **header: Any) -> io.BytesIO:
    """Return the file of a ``CrystalSet`` or ``DosTarget`` as a stream."""
    stream = io.BytesIO()
    content.save(stream, **header)
    stream.seek(0)
    return stream
