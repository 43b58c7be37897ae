"""``dosmatgen inspect``: what is read of a file."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core.crystal_files.structures import read_structures
from ...core.crystals import CrystalSet
from ...core.curve_columns import curves_of
from ...core.curve_files import ReadCurves, read_curves
from ...core.curves import Curves
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.files.archive import NO_ARCHIVE
from ...core.files.checkpoint_header import open_checkpoint, read_header, read_training_crystals
from ...core.job import Results, card_of, sha256_of
from ...core.labelled.shards import MANIFEST
from ...core.paths import user_path
from ...core.screening.training_crystals import TrainingCrystals
from ...core.target import DosTarget
from .sources import column_of, curves_named, format_of, header_of, is_set, is_target, load_set, of_target

_MOST = 20  # entries that are written out in text
_STRUCTURES = (".cif", ".xyz", ".extxyz", ".vasp", ".poscar", ".traj", ".db", ".xsf", ".mcif", ".gen", ".res")


def write(reference: str, as_json: bool = False) -> None:
    """Print what is read of a file or folder, or of crystal K of a set, ``FILE#K``.

    :raises ContentError: if it cannot be read.
    """
    record = describe(reference)
    if as_json:
        print(json.dumps(record, indent=1, ensure_ascii=False))
        return
    lines = {key: value for key, value in record.items() if key != "metrics"}
    lines |= {name: value for name, value in _flat(record.get("metrics", {}))}
    width = max(len(key) for key in lines) + 2
    for key, value in lines.items():
        print(f"{key.replace('_', ' '):{width}}{_text(value)}")


def _flat(metrics: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield figures one by one, those of a part after its name."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}: ")
        else:
            yield f"{before}{name}", value


def describe(reference: str) -> dict[str, Any]:
    """Return what is read of a file as JSON values, ``kind`` first.

    :raises ContentError: if it cannot be read.
    """
    path = user_path(reference)
    if not path.exists():
        if "#" in reference:
            return {"kind": "density of states", "file": reference, **of_curves(curves_named(reference))}
        raise ContentError(f"{path} does not exist")
    kind, content = _describe(path)
    size = path.stat().st_size if path.is_file() else None
    return {"kind": kind, "file": str(path), **content, **({} if size is None else {"bytes": size})}


def _describe(path: Path) -> tuple[str, dict[str, Any]]:
    if is_target(path):
        target = DosTarget.load(path)
        wishes = {"wishes": [str(one) for one in target.wishes]} if target.wishes else {}
        return "target", {**of_curves(of_target(target, path.name)), **wishes}
    if is_set(path):
        crystals = load_set(path)
        content = of_crystals(crystals)
        if path.suffix == ".npz":
            content |= {"header": {k: v for k, v in header_of(path).items() if k not in ("format", "version")}}
        elif path.is_dir() or path.name == MANIFEST:
            folder = path if path.is_dir() else path.parent
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            content |= {"shards": len(manifest["shards"]), "settings": manifest.get("settings", {})}
        return "structures" if column_of(crystals) is None else "data set", content
    if path.is_file():
        with open(path, "rb") as stream:
            start = stream.read(9)
        if path.suffix == ".safetensors" or (start[8:9] == b"{" and start[:1] != b"{"):
            return "checkpoint", of_checkpoint(path)
        if start.startswith(b"PK\x03\x04") and (archive := _archive(path)) is not None:
            return archive
        if _is_structure(path):
            crystals = read_structures(path)
            return "structures", of_crystals(crystals)
    read = read_curves(path)
    return "density of states", of_curves(read)


def _is_structure(path: Path) -> bool:
    name = path.name.upper()
    if path.suffix.lower() in _STRUCTURES or name.startswith(("POSCAR", "CONTCAR")):
        return True
    with open(path, "rb") as stream:
        start = stream.read(20_000).decode("utf-8", errors="replace")
    if start.lstrip()[:1] in ("{", "["):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            return False
        first = content[0] if isinstance(content, list) and content else content
        return isinstance(first, dict) and "lattice" in first and "sites" in first and "energies" not in first
    return "_cell_length_a" in start or 'Lattice="' in start


def _archive(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Describe a file of torch, which is never opened: a pickle runs code. None for other archives.

    :raises ContentError: for a file of this package that is none of curves or crystals.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except NO_ARCHIVE:
        raise ContentError(f"{path} is a truncated or damaged archive; copy it again") from None
    if any(name.split("/")[-1] == "data.pkl" for name in names):
        note = "a pickle of torch; it is not opened, because loading it runs the code in it"
        return "force field", {"format": "torch", "sha256": sha256_of(path), "note": note, **of_card(path)}
    kind = format_of(path)
    if kind is not None:
        raise ContentError(f"{path} is an archive of {len(names)} files ({kind}), of no kind known here")
    return None


# --- what each kind says --------------------------------------------------------------------------------------------------


def of_curves(read: ReadCurves) -> dict[str, Any]:
    """Return what curves hold, as JSON values."""
    curves = read.curves
    return {
        "read_as": read.kind,
        "said": read.said,
        "sites": len(curves) if curves.resolved and read.rows == "sites" else None,
        "curves_of": read.rows if curves.resolved else None,
        "atoms": read.n_atoms,
        "elements": list(dict.fromkeys(read.elements)) if read.elements else None,
        "spins": curves.values.shape[1],
        "channels": [c for i, c in enumerate(curves.channels) if curves.values[:, :, i].any()],
        "energies": _energies(curves, read.unit),
        "known": [_rounded(curves.low), _rounded(curves.high)],
        "zero": "unknown" if "zero" in read.unknown else curves.zero or "as given",
        "fermi": _rounded(read.fermi),
        "gap": _rounded(curves.gap),
        "sigma": None if "sigma" in read.unknown else _rounded(curves.sigma),
        "electrons_below_zero": _rounded(curves.electrons),
        "electrons": _rounded(curves.n_electrons),
        "scale": "per atom" if read.per_atom else "unknown" if "scale" in read.unknown else "states/eV of the cell",
        "projected": _rounded(curves.projected),
        "meaning": curves.meaning,
        "warnings": list(read.warnings),
    }


def of_crystals(crystals: CrystalSet) -> dict[str, Any]:
    """Return what a set of crystals holds, as JSON values."""
    sizes = crystals.n_atoms
    content: dict[str, Any] = {
        "crystals": len(crystals),
        "sites": int(sizes.sum()),
        "atoms_of_a_crystal": [int(sizes.min()), int(sizes.max())] if len(crystals) else [],
        "elements": [SYMBOLS[z] if 0 <= z < len(SYMBOLS) else str(z) for z in sorted(set(crystals.numbers.tolist()))],
        "formulas": len(set(crystals.formulas)),
        "columns": {"crystal": sorted(crystals.crystal_columns), "atom": sorted(crystals.atom_columns)},
    }
    if "status" in crystals.crystal_columns:
        names, counts = np.unique(crystals.crystal_columns["status"], return_counts=True)
        most = sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])[:8]
        content["status"] = dict(most)
    column = column_of(crystals)
    if column is None:
        return content
    finite = np.isfinite(crystals.atom_columns[column]).reshape(len(crystals.numbers), -1).all(1)
    good = [i for i, (a, b) in enumerate(zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True)) if finite[a:b].all()]
    content["densities_of_states"] = {"column": column, "crystals": len(good)}
    try:
        many = [curves_of(crystals, i, column) for i in good]
    except ContentError as exception:
        content["densities_of_states"]["problem"] = str(exception)
        return content
    if many:
        curves = many[0]
        ratios = [c.electrons / c.n_electrons for c in many if c.n_electrons]
        zeros, counts = np.unique([c.zero or "unknown" for c in many], return_counts=True)
        content["densities_of_states"] |= {
            "energies": _energies(curves, "eV"),
            "spins": curves.values.shape[1],
            "channels": list(curves.channels),
            "sigma": _rounded(curves.sigma),
            "zero": dict(zip(zeros.tolist(), counts.tolist(), strict=True)),
            "with_a_gap": sum(bool(c.gap) for c in many),
            "known_up_to": [_rounded(min(c.high for c in many)), _rounded(max(c.high for c in many))],
            "electrons_below_zero": [_rounded(min(c.electrons for c in many)), _rounded(max(c.electrons for c in many))],
            "share_of_electrons": _rounded(float(np.mean(ratios))) if ratios else None,
            "projected": _mean([c.projected for c in many]),
            "meaning": sorted({c.meaning for c in many}),
        }
    return content


def of_checkpoint(path: Path) -> dict[str, Any]:
    """Return what the header of a checkpoint says, as JSON values.

    :raises ContentError: if it is none, or damaged.
    """
    header = read_header(path)
    grid = header.grid
    return {
        "model": header.kind,
        "elements": header.elements,
        "energies": {
            "first": _rounded(grid.emin),
            "last": _rounded(grid.emax),
            "spacing": _rounded(grid.spacing),
            "number": grid.n,
            "unit": "eV",
        },
        "sigma": header.sigma,
        "architecture": header.architecture,
        "trained_on": {"crystals": header.training.n_crystals, "dataset_sha256": header.training.dataset_sha256},
        "training_crystals": _training_crystals(path),
        "epochs": header.training.epochs,
        "metrics": header.metrics,
        "engine_version": header.engine_version,
        "sha256": sha256_of(path),
        **of_card(path),
    }


def _training_crystals(path: Path) -> dict[str, int] | None:
    """Return how many crystals that it learnt from a checkpoint carries, and in how many bytes; None if none."""
    with open_checkpoint(path) as stream:
        content = read_training_crystals(stream)
    return None if content is None else {"number": len(TrainingCrystals.from_bytes(content)), "bytes": len(content)}


def of_card(path: Path) -> dict[str, Any]:
    """Return what the card beside a model says of its training, as JSON values; nothing if there is none of this very file."""
    card = path.with_name(card_of(path.name))
    try:
        results = Results.load(card.read_text(encoding="utf-8"))
    except (ContentError, OSError, UnicodeDecodeError):
        return {}
    if results.output_sha256 != sha256_of(path):
        return {}
    said = results.details
    effort = said.get("effort", {})
    trained = {
        "command": results.command,
        "seconds": effort.get("seconds", results.seconds),
        "cpu_seconds": effort.get("cpu_seconds", results.cpu_seconds),
        "device": results.device,
        "torch": results.torch_version,
        **{name: said.get(name) for name in ("dataset_sha256", "pseudolabelled_sha256", "parent_sha256", "seed")},
    }
    return {
        "card": card.name,
        "trained_by": {name: value for name, value in trained.items() if value is not None},
        "metrics": said.get("metrics", {}),
    }


def _energies(curves: Curves, unit: str) -> dict[str, Any]:
    return {
        "first": _rounded(float(curves.energies[0])),
        "last": _rounded(float(curves.energies[-1])),
        "spacing": _rounded(curves.spacing),
        "number": len(curves.energies),
        "unit": unit,
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(float(np.mean(known))) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict) and len(value) > _MOST:
        return f"{len(value)} entries"
    if isinstance(value, dict):
        if {"first", "last", "spacing"} <= value.keys():
            read = "" if value["unit"] == "eV" else f", read in {value['unit']}"
            return f"{value['first']:g} to {value['last']:g} eV, {value['number']} every {value['spacing']:g} eV{read}"
        return "; ".join(f"{str(key).replace('_', ' ')} {_text(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(_text(entry) for entry in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
