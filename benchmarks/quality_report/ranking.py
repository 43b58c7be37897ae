"""The best candidate of each target, chosen as a campaign chooses: relaxed, predicted, screened, ranked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.job import ForceField, ReferencesJob, RelaxJob, RelaxParameters, Runtime, SampleParameters
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.engine.commands import references, relax

from .work import key_of

PROTOCOLS = Path(__file__).parents[2] / "aiida_dosmatgen" / "workflows" / "protocols" / "candidates.yaml"


class Protocol(NamedTuple):
    """What the default protocol of the campaign says of its candidates."""

    sample: SampleParameters
    relax: RelaxParameters
    criteria: ScreenCriteria


def protocol() -> Protocol:
    """Read the default protocol, so that the report is about what users get."""
    text = yaml.safe_load(PROTOCOLS.read_text(encoding="utf-8"))
    default, own = text["default_inputs"], text["protocols"][text["default_protocol"]]

    def merged(*keys: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for level in (default, own):
            for key in keys:
                level = level.get(key, {})
            found |= level
        return found

    return Protocol(
        SampleParameters(**merged("sample", "parameters")),
        RelaxParameters(**merged("relax", "parameters")),
        ScreenCriteria(**merged("criteria")),
    )


def relaxed(
    crystals: CrystalSet, force_field: ForceField, parameters: RelaxParameters, folder: Path, threads: int | None
) -> tuple[CrystalSet, dict[str, float]]:
    """Relax candidates and elements by the jobs that a campaign runs; it continues where it was stopped.

    :return: the crystals with the columns of the relaxation, and the elements' energies by the force field (eV/atom).
    """
    folder = folder / key_of(crystals, force_field.model_dump(), parameters.model_dump())
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / "done.json"
    if not marker.exists():
        crystals.save(folder / "candidates.npz")
        job = RelaxJob(
            crystals="candidates.npz", force_field=force_field, parameters=parameters, runtime=Runtime(threads=threads)
        )
        relax.run(job, folder)
        elements = sorted({SYMBOLS[z] for z in crystals.numbers.tolist()})
        given = {"force_field": force_field, "parameters": parameters, "runtime": Runtime(threads=threads)}
        outcome = references.run(ReferencesJob(elements=elements, **given), folder)
        marker.write_text(json.dumps(outcome.details["energies"]), encoding="utf-8")
    return CrystalSet.load(folder / "relaxed.npz"), json.loads(marker.read_text(encoding="utf-8"))


def displacements(before: CrystalSet, after: CrystalSet) -> np.ndarray:
    """Return the root mean square displacement of each crystal's atoms in Å, shape (N,).

    In fractional coordinates to the nearest image, without a common translation, measured in the mean of the two cells: the
    change of the cell alone counts for nothing.
    """
    found, offsets = np.empty(len(before)), before.offsets
    for i in range(len(before)):
        atoms = slice(offsets[i], offsets[i + 1])
        change = after.fractional[atoms] - before.fractional[atoms]
        change = change - change[:1]
        change = change - np.round(change)
        change = (change - change.mean(0)) @ ((before.lattices[i] + after.lattices[i]) / 2)
        found[i] = np.sqrt((change**2).sum(1).mean())
    return found
