"""A data set that grows: shards of labelled crystals that are never written again, and a manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..crystals import CrystalSet
from ..curve_columns import with_energies
from ..dos import EnergyGrid
from ..errors import ContentError
from ..files.replacing import replacing, write_synced
from ..job import Splits, sha256_of
from ..strict import explain
from .prototypes import UNKNOWN, prototypes_of
from .reserved import RESERVED, reserved_in
from .splits import assign

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "dosmatgen-shards", 1
_NEAR = 1e-3  # Å


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder of shards; an empty one if there is none.

    :raises ContentError: if it is none, or newer than this version.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {"format": _FORMAT, "version": _VERSION, "shards": []}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exception:
        raise ContentError(f"{path} is not JSON: {exception}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ContentError(f"{path} is not a manifest of labelled crystals")
    if manifest["version"] > _VERSION:
        raise ContentError(f"{path} has version {manifest['version']}, newer than {_VERSION}; update aiida-dosmatgen")
    return manifest


def add_shard(
    folder: Path,
    crystals: CrystalSet,
    settings: Mapping[str, Any],
    parents: Sequence[CrystalSet] = (),
    splits: Splits | None = None,
    failures: Mapping[str, int] | None = None,
) -> Path | None:
    """Write the crystals that no shard has yet as a new shard, and list it in the manifest, last of all.

    Crystals are known by what :func:`names_of` calls them. The manifest keeps their prototypes, so that they stay in their
    splits whatever later versions make of a structure.

    :param settings: how the labels were computed; all shards of a manifest have the same.
    :param parents: sets that hold the crystals from which displaced ones were made, see :func:`.prototypes.prototypes_of`.
    :param splits: what is kept for tests; all shards of a manifest have the same. None leaves it as the manifest has it.
    :param failures: how many crystals of the labelling have no label so far, by the reason; the manifest keeps it.
    :return: the shard, None if there was nothing new.
    :raises ContentError: if the settings or splits differ from those of the manifest, or a chemical system is reserved.
    """
    manifest = read_manifest(folder)
    if manifest.setdefault("settings", dict(settings)) != dict(settings):
        raise ContentError(f"the labels of {folder} were computed with other settings; make a folder of their own for these")
    if splits is not None and manifest.setdefault("splits", splits.model_dump()) != splits.model_dump():
        raise ContentError(f"the splits of {folder} are others; crystals would move from one to another, so leave them")
    reserved = reserved_in(crystals, folder)
    if reserved:
        raise ContentError(f"{', '.join(reserved[:3])}: {folder / RESERVED} keeps these systems out of the set; leave them out")
    known = {name for shard in manifest["shards"] for name in shard["crystals"]}
    names = names_of(crystals)
    new = [i for i, name in enumerate(names) if name not in known]
    if not new:
        return None
    number = len(manifest["shards"]) + 1
    path = folder / f"shard-{number:04d}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    added = crystals[new]
    prototypes = prototypes_of(added, [*parents, crystals, *(_shards(folder, manifest) if manifest["shards"] else ())])
    added.save(path)
    if failures is not None:
        manifest["failures"] = dict(failures)
    manifest["shards"].append(
        {
            "file": path.name,
            "sha256": sha256_of(path),
            "n_crystals": len(new),
            "crystals": [names[i] for i in new],
            "prototypes": prototypes,
        }
    )
    _write_manifest(folder, manifest)
    return path


def complete_manifest(
    folder: Path,
    parents: Sequence[CrystalSet] = (),
    splits: Splits | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Add to a manifest the prototypes and splits that it lacks, as those of before do, and return it; no shard is written.

    A prototype that was unknown is told if the crystal's parent is there now; all others stay as they are.

    :param more: what else is known of the labelling: ``codes``, their versions by their names, and ``failures``, how many
        crystals have no label by the reason. It replaces what the manifest says of them.
    :raises ContentError: as :func:`load_shards`, or if the manifest has other splits.
    """
    manifest = read_manifest(folder)
    if splits is not None and manifest.setdefault("splits", splits.model_dump()) != splits.model_dump():
        raise ContentError(f"the splits of {folder} are others; crystals would move from one to another, so leave them")
    manifest.update(more or {})
    parts = _shards(folder, manifest)
    for shard, crystals in _pairs(manifest, parts):
        if UNKNOWN in shard.get("prototypes", [UNKNOWN]):
            found = prototypes_of(crystals, [*parents, *parts])
            before = shard.get("prototypes", found)
            shard["prototypes"] = [new if old == UNKNOWN else old for old, new in zip(before, found, strict=True)]
    if manifest != read_manifest(folder):
        _write_manifest(folder, manifest)
    return manifest


def load_shards(folder: Path) -> CrystalSet:
    """Return all crystals of the shards that a manifest lists, with what the manifest says of them as columns.

    These are the energies of their curves, ``prototype``, and ``split``, so that nothing is trained on what is kept for tests.

    :raises ContentError: if a shard is missing, or not what the manifest says.
    """
    manifest = read_manifest(folder)
    parts = _shards(folder, manifest)
    crystals = CrystalSet.concatenate(parts)
    if "splits" in manifest or all("prototypes" in shard for shard in manifest["shards"]):
        named = [shard.get("prototypes") or prototypes_of(part, parts) for shard, part in _pairs(manifest, parts)]
        crystals = crystals.with_columns(crystal={"prototype": np.array([name for names in named for name in names])})
    if "splits" in manifest:
        splits = assign(crystals, **splits_of(manifest).model_dump())
        crystals = crystals.with_columns(crystal={"split": splits})
    recipe = manifest.get("settings", {}).get("recipe", {})
    if "dos" not in crystals.atom_columns or not {"low", "high", "sigma"} <= set(recipe):
        return crystals
    grid = EnergyGrid(recipe["low"], recipe["high"], crystals.atom_columns["dos"].shape[-1])
    return with_energies(crystals, grid, recipe["sigma"], "partition")


def in_shards(folder: Path, crystals: CrystalSet) -> np.ndarray:
    """Say which crystals the shards of a folder have, (N,) bool: of the same source and id, with each atom within 0.001 Å.

    :func:`names_of` tells structures apart to the last digit, which another machine may compute otherwise.

    :raises ContentError: as :func:`load_shards` for shards that are there, or if a column is missing.
    """
    manifest = read_manifest(folder)
    found = np.zeros(len(crystals), dtype=bool)
    if not manifest["shards"]:
        return found
    there: dict[str, list[CrystalSet]] = {}
    for part in _shards(folder, manifest):
        for name, crystal in zip(names_of(part), part, strict=True):
            there.setdefault(name.rpartition(":")[0], []).append(crystal)
    for row, (name, crystal) in enumerate(zip(names_of(crystals), crystals, strict=True)):
        found[row] = any(_same(crystal, other) for other in there.get(name.rpartition(":")[0], []))
    return found


def _same(one: CrystalSet, other: CrystalSet) -> bool:
    if not np.array_equal(one.numbers, other.numbers):
        return False
    shift = one.fractional - other.fractional
    distances = (shift - np.round(shift)) @ one.lattices[0]
    return bool(np.abs(one.lattices - other.lattices).max() < _NEAR and np.linalg.norm(distances, axis=1).max() < _NEAR)


def folder_of_shards(path: Path) -> Path | None:
    """Return the folder of shards that a path means, which may be its manifest; None if it is another file or folder."""
    path = path.expanduser()
    folder = path if path.is_dir() else path.parent
    return folder if (folder / MANIFEST).is_file() and (path.is_dir() or path.name == MANIFEST) else None


def card_of_shards(folder: Path) -> dict[str, Any]:
    """Return what a data card says of a set that is made of shards: their hashes, the settings of the labels, the splits."""
    manifest = read_manifest(folder)
    return {
        "origin": "shards",
        "shards": {shard["file"]: shard["sha256"] for shard in manifest["shards"]},
        **{name: manifest[name] for name in ("settings", "splits") if name in manifest},
    }


def splits_of(manifest: Mapping[str, Any]) -> Splits:
    """Return what a manifest keeps for tests.

    :raises ContentError: naming the key that is wrong.
    """
    try:
        return Splits.model_validate(manifest.get("splits", {}))
    except ValidationError as exception:
        raise ContentError(f"{MANIFEST}, splits: {explain(exception)}") from None


def _shards(folder: Path, manifest: Mapping[str, Any]) -> list[CrystalSet]:
    """Return the crystals of each shard.

    :raises ContentError: if there is none, or one is missing or not what the manifest says.
    """
    parts = []
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        if not path.exists() or sha256_of(path) != shard["sha256"]:
            raise ContentError(f"{path} is missing or not the file that {MANIFEST} lists; get the folder again")
        parts.append(CrystalSet.load(path))
    if not parts:
        raise ContentError(f"{folder} has no {MANIFEST} that lists shards")
    return parts


def _pairs(manifest: Mapping[str, Any], parts: Sequence[CrystalSet]) -> Iterator[tuple[dict[str, Any], CrystalSet]]:
    return zip(manifest["shards"], parts, strict=True)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    with replacing(folder / MANIFEST) as partial:
        write_synced(partial, (json.dumps(manifest, indent=1) + "\n").encode())


def names_of(crystals: CrystalSet) -> list[str]:
    """Return ``source:id:digest`` of each crystal; the digest is of the structure, because not every source has ids.

    :raises ContentError: if a column is missing.
    """
    columns = crystals.crystal_columns
    for name in ("source", "id"):
        if name not in columns:
            raise ContentError(f"the crystals have no column {name!r}, by which a shard knows them")
    names = []
    for source, entry, crystal in zip(columns["source"], columns["id"], crystals, strict=True):
        digest = hashlib.sha256()
        for array in (crystal.numbers, crystal.fractional, crystal.lattices):
            digest.update(np.ascontiguousarray(array).tobytes())
        names.append(f"{str(source).strip()}:{str(entry).strip()}:{digest.hexdigest()[:8]}")
    return names
