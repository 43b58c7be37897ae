"""Labels of the shards against the ``label`` work chain: crystals drawn at random, computed again with provenance.

    python benchmarks/twin.py --count 50 -o benchmarks/results/twin.json
    python benchmarks/twin.py --count 4 --most-seconds 20

The work chain runs in an AiiDA profile made for the purpose, by the recipe and on the pseudopotentials that the manifest names.
For each crystal: differences of energy, forces, zero of energy, gap and curves. The curves of the shards are in half precision,
so ``rounded_largest`` compares with those of the work chain in half precision, too, and ``dos_largest`` with what it computed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from labelling import temporary_profile

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.labelled.shards import load_shards, read_manifest

FOLDER = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"
SECONDS = 7200  # for a job


def draw(crystals: CrystalSet, count: int, most_seconds: float | None, seed: int) -> np.ndarray:
    """Return rows drawn at random, among those whose label took at most so many seconds."""
    seconds = crystals.crystal_columns["seconds"]
    rows = np.flatnonzero(seconds <= (np.inf if most_seconds is None else most_seconds))
    if len(rows) < count:
        raise SystemExit(f"only {len(rows)} crystals were labelled in {most_seconds:g} s; ask for fewer, or allow more")
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def by_work_chain(crystals: CrystalSet, manifest: dict, given: dict, workers: int) -> list[CrystalSet | str]:
    """Return what the work chain computes of each crystal, before it is rounded, or the reason why there is nothing."""
    from aiida.common.links import LinkType
    from aiida.engine import submit
    from aiida.orm import load_group

    from aiida_dosmatgen.data.crystals import CrystalSetData
    from aiida_dosmatgen.workflows.label import LabelWorkChain

    expected = manifest["settings"]["pseudopotentials"]
    for pseudo in load_group(given["family"]).nodes:
        found = hashlib.sha256(pseudo.get_content("rb")).hexdigest()
        if expected.get(f"{pseudo.element}.upf") not in (None, found):
            raise SystemExit(f"the pseudopotential of {pseudo.element} is not the one of the shards")
    recipe = {name: value for name, value in manifest["settings"]["recipe"].items() if value is not None}
    builder = LabelWorkChain.get_builder_from_protocol(
        given["codes"]["pw"],
        given["codes"]["projwfc"],
        CrystalSetData(crystals.replace(crystal_columns={}, atom_columns={})),
        protocol="fast",
        overrides={"pseudo_family": given["family"], "recipe": recipe},
        options={"withmpi": False, "max_wallclock_seconds": SECONDS},
        max_concurrent=workers,
    )
    node = submit(builder)
    while not node.is_terminated:
        time.sleep(1)
    if "report" not in node.outputs:
        raise SystemExit(f"the work chain failed ({node.exit_status}): {node.exit_message or node.process_state}")
    failed = node.outputs.report.get_dict()["failed"]
    results: list[CrystalSet | str] = [failed.get(str(row), "no result") for row in range(len(crystals))]
    for link in node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all():
        if link.link_label.startswith("dos_") and link.node.is_finished_ok:
            results[int(link.link_label.removeprefix("dos_"))] = link.node.outputs.dos.crystals
    return results


def differences(shard: CrystalSet, chain: CrystalSet) -> dict[str, Any]:
    """Return by how much two labels of one crystal differ."""
    one, other = ({name: column[0] for name, column in each.crystal_columns.items()} for each in (shard, chain))
    curves = [each.atom_columns["dos"].astype(np.float64) for each in (shard, chain)]
    rounded = chain.atom_columns["dos"].astype(np.float16).astype(np.float64)
    sites = np.abs(curves[0].sum((1, 2)) - curves[1].sum((1, 2)))
    return {
        "formula": shard.formulas[0],
        "atoms": len(shard.numbers),
        "elements": sorted(set(shard.to_ase()[0].symbols)),
        "energy_meV_per_atom": 1000 * abs(float(one["energy"] - other["energy"])) / len(shard.numbers),
        "forces_eV_per_A": float(np.abs(shard.atom_columns["forces"] - chain.atom_columns["forces"]).max()),
        "zero_eV": abs(float(one["zero"] - other["zero"])),
        "gap_eV": abs(float(one["gap"] - other["gap"])),
        "dos_mean": float(sites.mean()),
        "dos_largest": float(sites.max()),
        "rounded_largest": float(np.abs(curves[0] - rounded).max()),
    }


def main() -> None:
    """Draw, compute, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--most-seconds", type=float, help="draw among crystals whose label took at most so long")
    parser.add_argument("--workers", type=int, default=1, help="crystals at a time, one core each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    crystals, manifest = load_shards(FOLDER), read_manifest(FOLDER)
    rows = draw(crystals, given.count, given.most_seconds, given.seed)
    drawn, start = crystals[rows], time.monotonic()
    with temporary_profile(pseudodojo=True) as profile:
        chains = by_work_chain(drawn, manifest, profile, given.workers)
    compared, failed = [], {}
    for number, (row, chain) in enumerate(zip(rows.tolist(), chains, strict=True)):
        if isinstance(chain, str):
            failed[row] = chain
        else:
            compared.append({"row": row, **differences(drawn[number], chain)})
    keys = [key for key, value in (compared[0] if compared else {}).items() if isinstance(value, float)]
    result = {
        "compared": len(compared),
        "failed": failed,
        "most_seconds": given.most_seconds,
        "seed": given.seed,
        "seconds": round(time.monotonic() - start),
        "largest": {key: float(f"{max(one[key] for one in compared):.3g}") for key in keys},
        "crystals": compared,
    }
    text = json.dumps(result, indent=1)
    if given.output:
        given.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
