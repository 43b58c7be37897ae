"""A run of the report, target by target: what is done is kept, and the result is written after each of them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sampling_report.tables import rounded

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.pseudodojo import fetch
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import open_checkpoint, read_header, read_training_crystals
from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals
from aiida_dosmatgen.engine.training.dataset import hash_of

from . import accuracy, summary, unseen
from .figures import DRAWS
from .jobs import References, made
from .modes import START_TIME
from .one_target import Setting, run_target
from .protocol import protocol
from .work import dumps, key_of, say


class Report:
    """A run of the report: what is given, and what each target and the predictor gave."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.seed, self.work = given, given.seed, made(given.work)
        if given.threads:
            torch.set_num_threads(given.threads)
        self.labels = unseen.read(given.dataset)
        self.header, predictor = read_header(given.denoiser), read_header(given.predictor)
        self.protocol = protocol()
        changes = {name: value for name, value in (("steps", given.steps),) if value is not None}
        self.protocol = self.protocol._replace(sample=_changed(self.protocol.sample, precision="float32", **changes))
        if given.relax_steps is not None:
            self.protocol = self.protocol._replace(relax=_changed(self.protocol.relax, max_steps=given.relax_steps))
        self.force_field = _force_field(given.force_field)
        self.hashes = {name: sha256_of(getattr(given, name)) for name in ("denoiser", "predictor")}
        self.hashes |= {"force_field": self.force_field.sha256, "dataset": hash_of(given.dataset, "data set")}
        self.known = [symbol for symbol in self.header.elements if symbol in predictor.elements]
        self.seconds: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Run all targets that are not done, and return the result, which is written after each."""
        given = self.given
        held_out = self.labels.of(given.split)
        most = min(given.max_atoms, self.header.architecture.get("max_atoms") or given.max_atoms)
        rows = unseen.choose(held_out, given.targets, self.seed, self.known, most)
        targets = held_out[rows]
        say(f"{len(targets)} targets of {len(held_out)} crystals of the split {given.split}")
        surrogate = self._kept(
            f"surrogate-{given.split}", lambda: accuracy.accuracy(given.predictor, given.dataset, given.split, self.seed)
        )
        surrogate["split"] = given.split
        allotropes = None
        if given.allotropes is not None:
            labelled = CrystalSet.load(given.allotropes)
            key = f"allotropes-{sha256_of(given.allotropes)[:12]}"
            allotropes = self._kept(key, lambda: accuracy.allotropes(given.predictor, labelled, self.seed))
        setting = self._setting()
        records: list[dict[str, Any]] = []
        for number in range(len(targets)):
            crystal = targets[number]
            name = f"{number:03d}-{crystal.formulas[0]}"
            say(f"target {name}")
            bare = crystal.replace(crystal_columns={}, atom_columns={})
            key = key_of(self._depends_on(), bare, crystal.atom_columns["dos"], number)
            folder = made(self.work / "targets" / f"{name}-{key[:8]}")
            records.append(self._kept(key, lambda n=number, c=crystal, f=folder: run_target(n, c, setting, f), folder))
            self._write(self._result(records, len(targets), targets, surrogate, allotropes))
        return self._result(records, len(targets), targets, surrogate, allotropes)

    def _setting(self) -> Setting:
        given = self.given
        pseudos = None
        if given.dft and self.labels.recipe is not None:
            pseudos = given.pseudos or self.work / "pseudopotentials"
            fetch(pseudos)
        runtime = {"device": given.device, **({"threads": given.threads} if given.threads else {})}
        relaxation = {
            "force_field": self.force_field.model_dump(exclude_none=True),
            "parameters": self.protocol.relax.model_dump(mode="json"),
            "runtime": runtime,
        }
        references = References(self.work / "references", relaxation, self.force_field.sha256)
        phases = self.labels.crystals[unseen.at_rest(self.labels.crystals)]
        if given.phases is not None:
            bare = [s.replace(crystal_columns={}, atom_columns={}) for s in (phases, CrystalSet.load(given.phases))]
            phases = CrystalSet.concatenate(bare)
        return Setting(
            denoiser=given.denoiser.resolve(), predictor=given.predictor.resolve(), header=self.header,
            force_field=self.force_field, references=references, protocol=self.protocol, train=self.labels.of("train"),
            phases=phases, learnt=_learnt_from(given.denoiser), candidates=given.candidates,
            seed=self.seed, runtime=runtime, dft=given.dft,
            pseudos=None if pseudos is None else pseudos.resolve(), recipe=self.labels.recipe, workers=given.workers,
            seconds=given.seconds,
        )  # fmt: skip

    def _depends_on(self) -> dict[str, Any]:
        """Return what the record of a target depends on, besides the target."""
        given = self.given
        return {
            "sha256": self.hashes,
            "phases": None if given.phases is None else sha256_of(given.phases),
            "protocol": [part.model_dump(mode="json") for part in self.protocol],
            "candidates": given.candidates,
            "seed": self.seed,
            "dft": given.dft,
            "version": version("aiida-dosmatgen"),
        }

    def _kept(self, key: str, make: Any, folder: Path | None = None) -> dict[str, Any]:
        """Return what an earlier run found, or find it and keep it."""
        path = (folder or self.work) / "record.json" if folder is not None else self.work / f"{key}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["key"] == key_of(self._depends_on(), key):
                return found["found"]
        with self._timed("targets" if folder is not None else key.split("-")[0]):
            found = json.loads(json.dumps(make()))
        path.write_text(json.dumps({"key": key_of(self._depends_on(), key), "found": found}), encoding="utf-8")
        return found

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 1)

    def _result(
        self,
        records: list[dict[str, Any]],
        of: int,
        targets: CrystalSet,
        surrogate: dict[str, Any],
        allotropes: dict[str, Any] | None,
    ) -> dict[str, Any]:
        given = self.given
        relaxed = None if given.relaxed_by_dft is None else json.loads(given.relaxed_by_dft.read_text(encoding="utf-8"))
        rows = summary.summed_up(records, surrogate, allotropes, relaxed, self.seed)
        settings = {
            "command": given.command,
            "targets": len(records),
            "targets_asked_for": of,
            "candidates": given.candidates,
            "bootstrap_draws": DRAWS,
            "template_start_time": START_TIME,
            "dft": given.dft,
            **{part: getattr(self.protocol, part).model_dump(mode="json") for part in ("sample", "relax", "criteria")},
            "seed": self.seed,
            "sha256": self.hashes,
        }
        data = {
            "split": given.split,
            "crystals_of_split": len(self.labels.of(given.split)),
            "train": len(self.labels.of("train")),
            "elements_of_targets": unseen.elements_of(targets[: len(records)]) if records else [],
            "systems_of_targets": len({record["system"] for record in records}),
            "models_trained_on_this_set": {
                name: read_header(getattr(given, name)).training.dataset_sha256 == self.hashes["dataset"]
                for name in ("denoiser", "predictor")
            },
        }
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "device": given.device,
            **{name: version(name) for name in ("torch", "numpy", "aiida-dosmatgen")},
        }
        result = {
            **{name: rows[name]["value"] for name in summary.KEYS},
            "figures": rows,
            "settings": settings,
            "data": data,
            "machine": machine,
            "modes": summary.table_of_ways(records, self.seed),
            "default_mode": records[0]["main"] if records else None,
            "surrogate": surrogate,
            "allotropes_ranked": allotropes,
            "relaxed_by_pw": relaxed,
            "targets": [_in_short(record) for record in records],
            "seconds": self.seconds,
        }
        return rounded(json.loads(json.dumps(result)))

    def _write(self, result: dict[str, Any]) -> None:
        self.given.output.parent.mkdir(parents=True, exist_ok=True)
        self.given.output.write_text(dumps(result), encoding="utf-8")


def _learnt_from(checkpoint: Path) -> TrainingCrystals:
    """Return the crystals that a checkpoint says it learnt from, those with predicted curves too; none if it says nothing."""
    with open_checkpoint(checkpoint) as stream:
        return TrainingCrystals.from_bytes(read_training_crystals(stream) or b"")


def _in_short(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the result says of a target: what it is, and what became of the crystals that were picked."""
    kept = ("formula", "system", "prototype", "n_atoms", "picks", "relaxed")
    return {name: record[name] for name in kept}


def _changed(parameters: Any, **changes: Any) -> Any:
    return type(parameters).model_validate(parameters.model_dump(exclude_unset=True) | changes)


def _force_field(name: str) -> ForceField:
    """Return a MACE file, a calculator by its name, or a foundation model, ``mace:NAME``."""
    if Path(name).is_file():
        return ForceField(file=str(Path(name).resolve()), sha256=sha256_of(name))
    if name.startswith("mace:"):
        return ForceField(foundation=name.removeprefix("mace:"))
    if "/" in name or name.endswith(".model"):
        raise ContentError(f"there is no force field {name}")
    return ForceField(calculator=name)
