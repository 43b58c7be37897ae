"""Make the crystals of a data set."""

from __future__ import annotations

from typing import Any

from aiida.orm import Int, List, to_aiida_type
from aiida_pseudo.data.pseudo.upf import UpfData

from ..core.errors import ContentError
from ..core.job import CrystalsJob, CrystalsParameters
from ..core.labelled.reserved import digests_of
from ..data.crystals import CrystalSetData
from .base import DosmatgenCalculation, Files
from .ports import port_from_field, port_from_model


def define_reserved(spec: Any, what: str) -> None:
    """Define the input that names chemical systems which a job leaves out.

    :param what: what it does with them.
    """
    spec.input(
        "reserved",
        valid_type=List,
        required=False,
        serializer=to_aiida_type,
        validator=_validate_reserved,
        help=f"Chemical systems, e.g. `Ga-N`, or digests of such, {what}.",
    )


def reserved_of(inputs: Any) -> list[str] | None:
    """Return the reserved systems as a job file has them."""
    return sorted(inputs.reserved.get_list()) if "reserved" in inputs else None


def _validate_reserved(node: List | None, _: Any) -> str | None:
    try:
        digests_of([] if node is None else node.get_list())
    except ContentError as exception:
        return str(exception)
    return None


class CrystalsCalculation(DosmatgenCalculation):
    """Make the crystals of a data set, in the order in which to label them: the elements, then cheap ones first, balanced."""

    KIND = "crystals"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input_namespace(
            "structures",
            valid_type=CrystalSetData,
            dynamic=True,
            required=False,
            help="Real crystals, with the columns `source` and `id`; any names.",
        )
        spec.input_namespace(
            "pseudos",
            valid_type=UpfData,
            dynamic=True,
            help="The pseudopotential of each element; crystals of other elements are left out.",
        )
        spec.input("parameters", **port_from_model(CrystalsParameters))
        spec.input("seed", **port_from_field(CrystalsJob, "seed", Int))
        define_reserved(spec, "of which no crystal is made")
        spec.output(
            "crystals",
            valid_type=CrystalSetData,
            help="The crystals, with `source`, `id`, `kind` and `prototype` of each.",
        )

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that real crystals name their origin, and that there are pseudopotentials."""
        for name, node in sorted(inputs.get("structures", {}).items()):
            columns = (node.base.attributes.get("columns", None) or {}).get("crystal", [])
            missing = [column for column in ("source", "id") if column not in columns]
            if missing:
                return f"structures.{name}: the crystals have no column {missing[0]!r}, which names their origin"
        return None if inputs.get("pseudos", None) else "pseudos: there are none"

    def job(self) -> tuple[CrystalsJob, Files]:
        """Return the job file and the files it needs."""
        structures = sorted(self.inputs.structures.items()) if "structures" in self.inputs else []
        files: Files = [(node, f"structures_{name}.npz") for name, node in structures]
        job = CrystalsJob(
            **CrystalsParameters.model_validate(self.inputs.parameters.get_dict()).model_dump(),
            structures=[name for _, name in files],
            valences={upf.element: float(upf.z_valence) for _, upf in sorted(self.inputs.pseudos.items())},
            reserved=reserved_of(self.inputs),
            seed=self.inputs.seed.value,
            runtime=self.runtime(),
        )
        return job, files
