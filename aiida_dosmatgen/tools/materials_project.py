"""Densities of states of the Materials Project, by the client of its makers (mp-api)."""

from __future__ import annotations

import json
import os
import re
import warnings
from typing import Any

from ..core.errors import ContentError
from ..core.target.files import target_from_text
from ..data.base import as_validation_error
from ..data.target import DosTargetData

_OTHERWISE = "or download its DOS in a browser and import the JSON file"


def target_from_mp(material_id: str, **options: Any) -> DosTargetData:
    """Return the unstored target that the density of states of a material makes, by site where the database has projections.

    :param material_id: such as ``mp-149``.
    :param options: as in :meth:`.DosTargetData.from_file`.
    :raises ContentError: without mp-api, a key or a density of states; one line that says what to do.
    """
    if not re.fullmatch(r"(?:mp|mvc)-[A-Za-z\d]+", material_id):
        raise ContentError(f"{material_id!r} is no id of the Materials Project, such as mp-149")
    record, n_atoms = _fetched(material_id)
    if "structure" not in record and n_atoms is not None:
        options.setdefault("n_atoms", n_atoms)
    with as_validation_error():
        read = target_from_text(json.dumps(record, default=float), material_id, **options)
    return DosTargetData(read.target, label_source=f"Materials Project, {material_id}", reading=read.said)


def _fetched(material_id: str) -> tuple[dict[str, Any], int | None]:
    """Return the record of a density of states, and the atoms of its cell."""
    try:
        from mp_api.client import MPRester
        from mp_api.client.core.exceptions import MPRestError
    except ImportError:
        raise ContentError(f"mp-api is not installed; pip install mp-api, {_OTHERWISE}") from None
    from pymatgen.core import SETTINGS

    if not (os.environ.get("MP_API_KEY") or SETTINGS.get("PMG_MAPI_KEY")):
        raise ContentError(
            "there is no key of the Materials Project; get one at https://materialsproject.org/api and set MP_API_KEY, "
            + _OTHERWISE
        )
    try:
        with warnings.catch_warnings(), MPRester() as client:
            warnings.simplefilter("ignore")
            dos = client.get_dos_by_material_id(material_id, load_projections=True)
            record = json.loads(dos.to_json())
            n_atoms = None if "structure" in record else len(client.get_structure_by_material_id(material_id))
    except (MPRestError, OSError, LookupError, ValueError) as exception:  # of the network, OSErrors by way of requests
        reason = (str(exception).splitlines() or [type(exception).__name__])[0]
        raise ContentError(f"the Materials Project gives no density of states of {material_id}: {reason[:150]}") from None
    return record, n_atoms
