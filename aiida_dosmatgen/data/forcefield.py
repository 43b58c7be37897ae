"""A force field as a node: a model file, or the name of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from aiida.common import ValidationError
from aiida.orm import Data

from ..core.elements import atomic_number
from ..core.errors import ContentError
from ..core.forcefields import problem_of_calculator
from ..core.job import ForceField, sha256_of
from .base import as_validation_error, attribute, storable
from .model_file import check_model_file
from .trust import problem_of, trust

FILENAME = "forcefield.model"

Kind = Literal["mace-file", "foundation", "calculator"]


class ForceFieldData(Data):
    """A MACE model file, the name of a MACE foundation model, or an ASE calculator.

    A model file is a pickle: it is stored and hashed here but never loaded, and no job loads it unless it ships with the
    package, was trained here, or the user of this profile said that its hash is trusted (:meth:`trust`). Calculators are those
    of :data:`~aiida_dosmatgen.core.forcefields.ASE_CALCULATORS` and entry points. Make a node with :meth:`from_file`,
    :meth:`from_foundation` or :meth:`from_calculator`.

    :param kind: ``mace-file``, ``foundation`` or ``calculator``.
    :param path: the model file of a ``mace-file``.
    :param name: the foundation model, the calculator, or a name for the file.
    :param arguments: keyword arguments of a calculator, JSON values.
    :param elements: chemical symbols that the force field knows, if that is known.
    :raises ValidationError: if these do not fit together, or the file is no model.
    """

    class AttributesModel(Data.AttributesModel):
        kind: str = attribute("kind", "'mace-file', 'foundation' or 'calculator'")
        name: str = attribute("name", "file name, foundation model or calculator")
        sha256: str | None = attribute("sha256", "sha256 of the model file", None)
        size: int | None = attribute("size", "bytes of the model file", None)
        arguments: dict[str, Any] = attribute("arguments", "keyword arguments of the calculator", {})
        elements: list[str] | None = attribute("elements", "chemical symbols that the force field knows", None)

    def __init__(
        self,
        kind: Kind,
        name: str | None = None,
        *,
        path: str | Path | None = None,
        arguments: dict[str, Any] | None = None,
        elements: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        attributes: dict[str, Any] = {"kind": kind, "name": name, "arguments": storable(arguments or {})}
        with as_validation_error():
            if (kind == "mace-file") != (path is not None):
                raise ContentError("a force field of kind 'mace-file' has a file, the other kinds have none")
            if path is not None:
                path = Path(path).expanduser().absolute()
                check_model_file(path)
                attributes |= {"name": name or path.name, "sha256": sha256_of(path), "size": path.stat().st_size}
                self.base.repository.put_object_from_file(str(path), FILENAME)
            if elements is not None:
                attributes["elements"] = sorted(elements, key=atomic_number)
        self.base.attributes.set_many(attributes)
        self._check()

    def _check(self) -> None:
        get = self.base.attributes.get
        kind, name = get("kind", None), get("name", None)
        objects = self.base.repository.list_object_names()
        if kind not in ("mace-file", "foundation", "calculator"):
            raise ValidationError(f"a force field is of kind 'mace-file', 'foundation' or 'calculator', not {kind!r}")
        if objects != ([FILENAME] if kind == "mace-file" else []):
            raise ValidationError(f"a force field of kind {kind!r} should not hold the files {objects}")
        if not isinstance(name, str) or not name.strip():
            raise ValidationError("the force field has no name")
        problem = problem_of_calculator(name) if kind == "calculator" else None
        if problem:
            raise ValidationError(problem)

    def _validate(self) -> bool:
        super()._validate()
        self._check()
        return True

    @classmethod
    def from_file(cls, path: str | Path, *, trusted_sha256: str | None = None, **kwargs: Any) -> ForceFieldData:
        """Make a node from a MACE model file.

        :param trusted_sha256: says that a file with this hash may be loaded, as :meth:`trust` does.
        :raises ValidationError: for an empty, truncated or foreign file, or one with another hash.
        """
        node = cls("mace-file", path=path, **kwargs)
        return node if trusted_sha256 is None else node.trust(trusted_sha256)

    @classmethod
    def from_foundation(cls, name: str, **kwargs: Any) -> ForceFieldData:
        """Name a MACE foundation model, e.g. ``medium-mpa-0``; it must be in MACE's cache of the compute node."""
        return cls("foundation", name, **kwargs)

    @classmethod
    def from_calculator(cls, calculator: str, **arguments: Any) -> ForceFieldData:
        """Name an ASE calculator: one of ``ASE_CALCULATORS``, or an entry point of ``dosmatgen.calculators``.

        :param arguments: what it is called with on the compute node.
        """
        return cls("calculator", calculator, arguments=arguments)

    # --- access ---------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """``mace-file``, ``foundation`` or ``calculator``."""
        return self.base.attributes.get("kind")

    @property
    def name(self) -> str:
        """The file's name, the foundation model or the calculator."""
        return self.base.attributes.get("name")

    @property
    def sha256(self) -> str | None:
        """The sha256 of the model file, or None."""
        return self.base.attributes.get("sha256", None)

    # --- trust ----------------------------------------------------------------------------------------------------

    def trust(self, sha256: str) -> ForceFieldData:
        """Say that the model file may be loaded, in this profile, which runs the code in it; return the node.

        :param sha256: the hash of the file that you trust.
        :raises ValidationError: if the node's file has another one.
        """
        trust(self, sha256)
        return self

    @property
    def is_trusted(self) -> bool:
        """Whether a job may use it: a foundation model, a calculator that may be named, a file that is shipped or trusted."""
        return problem_of(self) is None

    def job_section(self) -> ForceField:
        """Return the force field as a job file names it; a model file is expected under ``FILENAME``."""
        if self.kind == "mace-file":
            return ForceField(file=FILENAME, sha256=self.sha256)
        if self.kind == "foundation":
            return ForceField(foundation=self.name, arguments=self.base.attributes.get("arguments"))
        return ForceField(calculator=self.name, arguments=self.base.attributes.get("arguments"))
