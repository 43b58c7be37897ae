"""Inputs of aiida-quantumespresso's work chains that fit any structure.

Its protocols want a structure. They are asked with one atom in its place; what depends on the structure (pseudopotentials,
cutoffs, thresholds, which are per atom) is taken out again, unless the overrides gave it, and filled in when there is one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.orm import StructureData
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_quantumespresso.workflows.pdos import PdosWorkChain
from aiida_quantumespresso.workflows.protocols.utils import recursive_merge
from aiida_quantumespresso.workflows.pw.relax import PwRelaxWorkChain

from .protocols.utils import with_defaults

_PER_STRUCTURE = (("SYSTEM", "ecutwfc"), ("SYSTEM", "ecutrho"), ("ELECTRONS", "conv_thr"), ("CONTROL", "etot_conv_thr"))


def pdos_inputs(
    codes: Mapping[str, orm.AbstractCode],
    pseudo: UpfData,
    protocol: str | None,
    overrides: Mapping,
    options: Mapping | None = None,
) -> dict:
    """Return inputs of a ``PdosWorkChain`` for any structure.

    :param codes: by the names ``pw``, ``dos`` and ``projwfc``.
    :param pseudo: any pseudopotential, for the stand-in.
    """
    steps = ("scf", "nscf")
    with warnings.catch_warnings():
        # PdosWorkChain exposes a port that it fills in itself, and warns that it is empty
        warnings.filterwarnings("ignore", message=".*parent_folder. not provided")
        builder = PdosWorkChain.get_builder_from_protocol(
            codes["pw"],
            codes["dos"],
            codes["projwfc"],
            _stand_in(pseudo),
            protocol,
            overrides=_with_placeholders(overrides, steps, pseudo),
            options=with_defaults(codes["pw"], options),
        )
    inputs = _any_structure(builder, overrides, steps)
    inputs["nscf"]["pw"].pop("parent_folder", None)
    for name in ("dos", "projwfc"):
        metadata = inputs[name]["metadata"]
        metadata["options"] = recursive_merge(metadata["options"], with_defaults(codes[name], options))
    return inputs


def relax_inputs(
    pw_code: orm.AbstractCode, pseudo: UpfData, protocol: str | None, overrides: Mapping, options: Mapping | None = None
) -> dict:
    """Return inputs of a ``PwRelaxWorkChain`` for any structure: positions and cell, without a coarse relaxation before."""
    steps = ("base_relax",)
    builder = PwRelaxWorkChain.get_builder_from_protocol(
        pw_code,
        _stand_in(pseudo),
        protocol,
        overrides=_with_placeholders(overrides, (*steps, "base_init_relax"), pseudo),
        options=with_defaults(pw_code, options),
    )
    builder.pop("base_init_relax", None)
    return _any_structure(builder, overrides, steps)


def _stand_in(pseudo: UpfData) -> StructureData:
    structure = StructureData(cell=[[5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0]])
    structure.append_atom(position=(0, 0, 0), symbols=pseudo.element)
    return structure


def _with_placeholders(overrides: Mapping, steps: tuple[str, ...], pseudo: UpfData) -> dict:
    """Return the overrides with a pseudopotential and cutoffs, so that no family is looked up."""
    filled = copy.deepcopy(dict(overrides))
    for step in steps:
        pw = filled.setdefault(step, {}).setdefault("pw", {})
        pw["pseudos"] = {pseudo.element: pseudo}
        system = pw.setdefault("parameters", {}).setdefault("SYSTEM", {})
        system.setdefault("ecutwfc", 1.0)
        system.setdefault("ecutrho", 4.0)
    return filled


def _any_structure(builder: Any, overrides: Mapping, steps: tuple[str, ...]) -> dict:
    inputs = builder._inputs(prune=True)
    inputs.pop("structure", None)
    inputs.pop("clean_workdir", None)
    for step in steps:
        pw = inputs[step]["pw"]
        pw.pop("pseudos", None)
        given = overrides.get(step, {}).get("pw", {}).get("parameters", {})
        parameters = pw["parameters"].get_dict()
        for namelist, key in _PER_STRUCTURE:
            if key not in given.get(namelist, {}):
                parameters.get(namelist, {}).pop(key, None)
        pw["parameters"] = orm.Dict(parameters)
    return _share(inputs, {})


def _share(inputs: dict, seen: dict) -> dict:
    """Return the inputs with equal unstored numbers as one node: a campaign has few nodes of its own."""
    shared = {}
    for key, value in inputs.items():
        if isinstance(value, Mapping):
            shared[key] = _share(dict(value), seen)
        elif isinstance(value, orm.Bool | orm.Int | orm.Float) and not value.is_stored:
            shared[key] = seen.setdefault((type(value), value.value), value)
        else:
            shared[key] = value
    return shared
