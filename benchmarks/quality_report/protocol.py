"""What a campaign does with its candidates by default: how it samples, relaxes and screens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aiida_dosmatgen.core.job import RelaxParameters, SampleParameters
from aiida_dosmatgen.core.screening import ScreenCriteria

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
