"""A run of the report: its stages in order, and the figures that they give."""

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

import numpy as np
import torch
from sampling_report.tables import rounded
from sampling_report.targets import targets_of

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.core.screening.geometries import RELAXED, UNRELAXED
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.batch import type_indices
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.sampler import precision
from aiida_dosmatgen.engine.relaxation.forcefields import load

from . import accuracy, equilibrium, figures, ranking, surrogate, validation
from .candidates import Models, candidates_of
from .figures import Figure
from .modes import START_TIME, modes
from .targets import Data, chemical_systems, choose, divided, near_equilibrium
from .work import say

KEYS = (
    "valid", "surrogate_mean_ratio", "surrogate_best_ratio", "exact_composition", "surrogate_over_baseline", "dft_best_ratio",
    "surrogate_dft_rank_correlation", "converged", "energy_mae_meV", "force_mae",
)  # fmt: skip
ROUTES = ("campaign", "relaxed", "unrelaxed")
"""Which candidates DFT computes: each in the geometry that is closer to the target; relaxed, as in a campaign; unrelaxed,
without limits on convergence and formation energy. The report has the first one."""
PANELS = 6


class Report:
    """A run of the report: what is given, what is loaded, and what each stage found."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.seed = given, given.seed
        self.figures: list[Figure] = []
        self.result: dict[str, Any] = {}
        self.protocol = ranking.protocol()
        parameters = self.protocol.sample.model_copy(update={"precision": "float32"})
        if given.steps is not None:
            parameters = parameters.model_copy(update={"steps": given.steps})
        self.parameters = parameters
        dtype = precision(parameters)
        self.denoiser, header = load_model(given.denoiser, given.device, dtype, "denoiser")
        classifier, classifier_header = load_model(given.classifier, given.device, dtype, "classifier")
        predictor, predictor_header = load_model(given.predictor, kind="predictor")
        self.predictor = predictor
        self.headers = {"denoiser": header, "classifier": classifier_header, "predictor": predictor_header}
        self.hashes = {
            n: sha256_of(getattr(given, n)) for n in ("denoiser", "classifier", "predictor", "force_field", "dataset")
        }
        self.models = Models(self.denoiser, classifier, (self.hashes["denoiser"], self.hashes["classifier"]))
        self.surrogate = surrogate.Surrogate(
            given.predictor, self.hashes["predictor"], given.work / "predictions", given.workers
        )
        self.force_field = ForceField(file=str(given.force_field.resolve()), sha256=self.hashes["force_field"])
        self.data: Data
        self.crystals: CrystalSet
        self.targets: list[DosTarget]
        self.worst = 0.0

    def add(self, name: str, title: str, value: float | None, n: int, of: str, **more: Any) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, title, value, n, of, **more))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what is done, and add up how long it takes over all runs that it takes."""
        say(name)
        start, path = time.perf_counter(), self.given.work / "seconds.json"
        yield
        seconds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - start, 1)
        path.write_text(json.dumps(seconds), encoding="utf-8")
        self.result["seconds"] = seconds

    # --- stages -----------------------------------------------------------------------------------------------------

    def choose_targets(self) -> None:
        """Take the targets from the held-out crystals."""
        given = self.given
        self.data = divided(given.dataset, self.headers)
        if given.split not in self.data.held_out:
            raise ContentError(
                f"{given.dataset} has no crystals of the split {given.split}; it has {sorted(self.data.held_out)}"
            )
        held_out = self.data.held_out[given.split]
        most = min(given.max_atoms, self.denoiser.sizes.max_atoms)
        rows = choose(held_out, given.targets, self.seed, list(self.denoiser.elements), most)
        self.crystals = held_out[rows]
        self.targets = targets_of(self.crystals)
        trained_on = {name: header.training.dataset_sha256 for name, header in self.headers.items()}
        columns = self.crystals.crystal_columns
        self.result["targets"] = [
            {
                "formula": self.crystals.formulas[i],
                "system": chemical_systems(self.crystals)[i],
                "prototype": str(columns["prototype"][i]) if "prototype" in columns else "",
                "n_atoms": int(self.crystals.n_atoms[i]),
                "formation_energy": _number(columns["formation_energy"][i]),
                "near_equilibrium": bool(near_equilibrium(self.crystals)[i]),
            }
            for i in range(len(self.crystals))
        ]
        self.result["data"] = {
            "train": len(self.data.train),
            **{name: len(part) for name, part in self.data.held_out.items()},
            "split": given.split,
            "split_by": "the data set's own column" if self.data.by_column else "the models' headers",
            "models_trained_on_this_set": all(sha == self.hashes["dataset"] for sha in trained_on.values()),
            "chemical_systems_of_targets": len({row["system"] for row in self.result["targets"]}),
        }
        say(f"{len(self.crystals)} targets of {len(held_out)} crystals of the split {given.split}")

    def sample(self) -> None:
        """Generate and evaluate the candidates of all modes."""
        given = self.given
        known = type_indices(self.data.train.numbers, self.denoiser.elements) >= 0
        whole = np.bincount(self.data.train.crystal_of_atom, ~known, len(self.data.train)) == 0
        train = self.data.train[np.flatnonzero(whole)]
        asked = modes(self.crystals, train, self.parameters, given.scales, given.classifier_scales, self.seed)
        self.default = f"sites-{self.parameters.guidance_scale:g}"
        self.candidates: dict[str, CrystalSet] = {}
        for name, mode in asked.items():
            with self.stage(f"candidates, {mode.group}"):
                self.candidates[name] = candidates_of(self.models, mode, given.candidates, self.seed, given.work / "candidates")
        found, bases = {}, {}
        with self.stage("predicting"):
            for name, mode in asked.items():
                wanted = [wish.evaluated for wish in mode.wishes]
                found[name] = surrogate.evaluated(self.surrogate, self.candidates[name], self.crystals, wanted)
                bases[name] = surrogate.evaluated(self.surrogate, self.candidates[mode.baseline], self.crystals, wanted)
            predicted = self.surrogate.predicted(self.crystals)
            own = surrogate.distances(predicted, np.arange(len(predicted)), self.targets)
        self.worst = float(np.nanmax(np.concatenate([j.distances for j in (*found.values(), *bases.values())])))
        rows = {name: surrogate.row(found[name], bases[name], self.worst, self.seed) for name in asked}
        self.result["modes"] = {
            name: {"title": mode.title, "group": mode.group, "scale": mode.parameters.guidance_scale, **rows[name]}
            for name, mode in asked.items()
        }
        self.result["default_mode"] = self.default
        self.result["distance_of_targets_themselves"] = _number(float(np.nanmean(own)))
        self._sampling_figures(rows)

    def _sampling_figures(self, rows: dict[str, dict[str, Any]]) -> None:
        row, n = rows[self.default], len(self.targets)
        of = f"targets, {self.given.candidates} candidates each"
        self.add("valid", "valid: all distances > 0.5 Å, volume > 0.1 Å³", row["valid"], row["candidates"], "candidates",
                 bar=0.97, below=False)  # fmt: skip
        self.add("strictly_valid", "the screening's contacts and volumes", row["strict"], row["candidates"], "candidates")
        for name, which in (("mean", "mean"), ("best", "best")):
            self.add(
                f"surrogate_{name}_ratio",
                f"DOS distance by the surrogate, {which} of {self.given.candidates}, over unconditional",
                row[f"{name}_ratio"], n, of, bar=0.6, interval=row[f"{name}_ratio_95"],
            )  # fmt: skip
        self.add("exact_composition", "exact composition, site curves given", row["composition"], row["candidates"],
                 "candidates", bar=0.75, below=False)  # fmt: skip
        candidates, wanted = self.candidates[self.default], self.candidates[self.default].crystal_columns["target"]
        right = surrogate.composition_right(candidates, wanted, self.crystals)
        same = surrogate.structure_right(candidates, wanted, self.crystals)
        self.add("structure_of_exact_compositions", "of these, the target's structure (scaled; StructureMatcher)",
                 float(same[right].mean()) if right.any() else None, int(right.sum()), "candidates", below=False)  # fmt: skip
        free = {name: r for name, r in rows.items() if name.startswith("sites-")}
        steered = {name: r for name, r in rows.items() if name.startswith("classifier-")}

        def least(among: dict[str, dict[str, Any]]) -> str:
            return min(among, key=lambda name: among[name]["mean"])

        best = least(free)
        if steered:
            value, interval = self._between(rows, best, least(steered))
            self.add("cfg_over_classifier", f"distance of {best} over that of {least(steered)} (each its best scale)", value, n,
                     of, bar=1.0, interval=interval)  # fmt: skip
        guided = {name: r for name, r in free.items() if name != "sites-0"}
        if "sites-0" in free and guided:
            value, interval = self._between(rows, least(guided), "sites-0")
            self.add("best_scale_over_zero", f"distance of {least(guided)} over that of scale 0", value, n, of, bar=1.0,
                     interval=interval)  # fmt: skip

    def _between(self, rows: dict[str, dict[str, Any]], a: str, b: str) -> tuple[float | None, tuple[float, float] | None]:
        means = [np.array(rows[name]["mean_of_targets"]) for name in (a, b)]
        return figures.ratio(means[0], means[1], self.seed)

    def measure_errors(self) -> None:
        """Compare the surrogate and the force field with labels that they have not seen."""
        evaluator = load(self.force_field, Path(), "cpu", torch.float64)
        evaluated, field = {}, {}
        for name, crystals in self.data.held_out.items():
            with self.stage("errors on held-out crystals"):
                evaluated[name] = accuracy.surrogate_errors(self.surrogate, self.predictor, crystals, self.seed)
                field[name] = accuracy.force_field_errors(evaluator, crystals, self.seed)
        self.result["surrogate_errors"], self.result["force_field_errors"] = evaluated, field
        for name, errors in evaluated.items():
            main = name == self.given.split
            key = "surrogate_over_baseline" if main else f"surrogate_over_baseline_{name.replace('-', '_')}"
            self.add(key, f"surrogate's DOS error over that of the elements' mean curves, {name}", errors.get("over_baseline"),
                     errors["n"], "crystals", bar=0.6, interval=errors.get("over_baseline_95"))  # fmt: skip
        main, near = field[self.given.split]["all"], field[self.given.split].get("near_equilibrium", {"n": 0})
        self.add("energy_mae_meV", "force field's energy against pw.x, meV/atom", main.get("energy_mae_meV"), main["n"],
                 "crystals", bar=30.0, interval=main.get("energy_mae_meV_95"))  # fmt: skip
        self.add("force_mae", "force field's forces against pw.x, eV/Å", main.get("force_mae"), main["n"], "crystals", bar=0.15)
        self.add("energy_mae_near_equilibrium_meV", "the same energies, near to equilibrium", near.get("energy_mae_meV"),
                 near["n"], "crystals", bar=30.0, interval=near.get("energy_mae_meV_95"))  # fmt: skip
        self.add("force_mae_near_equilibrium", "the same forces, near to equilibrium", near.get("force_mae"), near["n"],
                 "crystals", bar=0.15)  # fmt: skip

    def relax(self) -> None:
        """Relax and rank the candidates of the default mode and the unconditional ones, on each route to DFT."""
        given, unmoved = self.given, self.protocol.relax.model_copy(update={"max_steps": 0, "symmetry": None})
        asis = self.protocol.criteria.model_copy(
            update={"require_converged": False, "max_formation_energy": None, "min_formation_energy": -np.inf}
        )
        self.picks: dict[str, dict[int, ranking.Best]] = {}
        summaries, evaluated = {}, {}
        for who, mode in (("conditional", self.default), ("unconditional", "unconditional")):
            before, folder = self.candidates[mode], given.work / "relaxed"
            with self.stage("relaxation"):
                after, references = ranking.relaxed(before, self.force_field, self.protocol.relax, folder, given.threads)
                still, _ = ranking.relaxed(before, self.force_field, unmoved, folder, given.threads)
            summaries[mode] = ranking.relaxation_summary(before, after)
            with self.stage("ranking"):
                criteria = self.protocol.criteria.model_copy(update={"geometries": [RELAXED, UNRELAXED]})
                for route, crystals, used, other in (
                    ("campaign", after, criteria, still), ("relaxed", after, criteria, None), ("unrelaxed", still, asis, None)
                ):  # fmt: skip
                    self.picks[f"{who}, {route}"] = ranking.best_of_targets(
                        self.surrogate, crystals, references, self.targets, used, other
                    )
                wanted = after.crystal_columns["target"]
                evaluated[mode] = surrogate.evaluated(self.surrogate, after, self.crystals, self.targets)
                summaries[mode]["composition"] = float(surrogate.composition_right(after, wanted, self.crystals).mean())
        summaries[self.default]["surrogate_mean_ratio"], _ = figures.ratio(
            evaluated[self.default].of_targets(self.worst)[0], evaluated["unconditional"].of_targets(self.worst)[0], self.seed
        )
        self.result["relaxation"] = summaries
        row = summaries[self.default]
        self.add("converged", "relaxations that converge", row["converged"], row["n"], "candidates", bar=0.95, below=False)
        self.add("rmsd", "RMS displacement of the atoms in converged relaxations, Å", row["rmsd_mean"],
                 row["statuses"].get("converged", 0), "candidates")  # fmt: skip
        self._keep_at_rest()
        unrelaxed = [
            b.crystal.crystal_columns["geometry"][0] == UNRELAXED for b in self.picks["conditional, campaign"].values()
        ]
        self.result["route"] = {
            "predicted_distance_of_the_best": {
                route: _number(np.mean([b.distance for b in self.picks[f"conditional, {route}"].values()] or [np.inf]))
                for route in ROUTES
            },
            "picked_unrelaxed": int(sum(unrelaxed)),
            "targets_without_a_pick": {name: len(self.targets) - len(picks) for name, picks in self.picks.items()},
            "lenient_picks": {name: sum(b.lenient for b in picks.values()) for name, picks in self.picks.items()},
        }

    def _keep_at_rest(self) -> None:
        held_out = self.data.held_out[self.given.split]
        rest = held_out[equilibrium.at_rest(held_out)]
        if not len(rest):
            return
        with self.stage("relaxation"):
            kept = equilibrium.compare(
                rest, self.force_field, self.protocol.relax, self.surrogate, self.given.work / "relaxed", self.given.threads
            )
        self.result["at_rest"] = kept
        self.add("volume_kept", "crystals at rest by pw.x that stay within 10 % of their volume when relaxed",
                 kept["within_10_percent"], kept["n"], "held-out crystals", below=False)  # fmt: skip

    def validate(self) -> None:
        """Compute the best candidates by DFT."""
        given = self.given
        self.result["dft"] = []
        if not given.dft:
            return
        routes, main = (ROUTES if given.route == "all" else ROUTES[:1]), ROUTES[0]
        picks = {f"{who}, {r}": self.picks[f"{who}, {r}"] for r in routes for who in ("conditional", "unconditional")}
        settings = validation.settings_of(given.dataset, given.seconds)
        with self.stage("pw.x and projwfc.x"):
            rows = validation.validate(
                picks, self.crystals, self.targets, given.dft, settings, given.work / "dft", given.workers
            )
        curves = [(row.pop("dos", None), row.pop("predicted", None)) for row in rows]
        ours = [k for k, row in enumerate(rows) if row["kind"] == f"conditional, {main}" and row["distance"] is not None]
        order = sorted(ours, key=lambda k: rows[k]["distance"])
        shown = (
            [order[k] for k in np.unique(np.linspace(0, len(order) - 1, min(PANELS, len(order))).astype(int))] if order else []
        )
        self.result["panels"] = [
            {
                **rows[k],
                "target_dos": np.round(self.targets[rows[k]["target"]].total, 3).tolist(),
                "dft_dos": curves[k][0],
                "predicted_dos": curves[k][1],
            }
            for k in shown
        ]
        self.result["dft"] = rows
        summary = self.result["dft_summary"] = {
            "runs": len({row["run"] for row in rows}),
            "failed": len({row["run"] for row in rows if row["distance"] is None}),
        }
        for route in routes:
            paired = validation.paired(rows, f"conditional, {route}", f"unconditional, {route}")
            value, interval = figures.ratio(*paired, self.seed)
            summary[route] = {
                "targets": len(paired[0]),
                "conditional": _number(paired[0].mean() if len(paired[0]) else None),
                "unconditional": _number(paired[1].mean() if len(paired[1]) else None),
                "ratio": value,
            }
            if route == main:
                self.add("dft_best_ratio", f"distance by DFT of the best of {given.candidates}, over the best unconditional",
                         value, len(paired[0]), "targets with both runs", bar=0.6, interval=interval)  # fmt: skip
        good = list({(row["run"], row["target"]): row for row in rows if row["distance"] is not None}.values())
        value, interval = figures.rank_correlation(
            np.array([row["surrogate"] for row in good]),
            np.array([row["distance"] for row in good]),
            np.array([row["target"] for row in good]),
            self.seed,
        )
        self.add("surrogate_dft_rank_correlation", "rank correlation of the distances by the surrogate and by DFT", value,
                 len(good), "crystals", bar=0.7, below=False, interval=interval)  # fmt: skip
        value, interval = figures.mean(np.array([row["surrogate_error"] for row in good]), self.seed)
        self.add("surrogate_error_on_candidates", "surrogate's DOS error on the candidates, states/eV/atom", value, len(good),
                 "crystals", interval=interval)  # fmt: skip
        summary["nearest_training_crystal"] = self._nearest_training_crystals()

    def _nearest_training_crystals(self) -> float | None:
        """Return the mean distance, by DFT, of the training crystal of the same size that is nearest to each target."""
        found = []
        for target in self.targets[: self.given.dft]:
            rows = np.flatnonzero(self.data.train.n_atoms == len(target.curves))
            near = [target.distances(curves_of(self.data.train, i))["mae"] for i in rows]
            found += [min(near)] if near else []
        return _number(np.mean(found)) if found else None

    # --- the result -------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Run all stages, and return the result."""
        given = self.given
        given.work.mkdir(parents=True, exist_ok=True)
        if given.threads:
            torch.set_num_threads(given.threads)
        self.choose_targets()
        self.sample()
        self.measure_errors()
        self.relax()
        self.validate()
        rows = {figure.name: figure.row(self.seed) for figure in self.figures}
        keys = {key: rows[key]["value"] if key in rows else None for key in KEYS}
        used = {
            "command": given.command,
            "seed": self.seed,
            "targets": len(self.targets),
            "candidates": given.candidates,
            "dft_targets": min(given.dft, len(self.targets)),
            "bootstrap_draws": figures.DRAWS,
            "template_start_time": START_TIME,
            "sample": self.parameters.model_dump(mode="json"),
            "relax": self.protocol.relax.model_dump(mode="json"),
            "criteria": self.protocol.criteria.model_dump(mode="json"),
            "sha256": self.hashes,
        }
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "device": str(self.denoiser.device),
            "workers": given.workers,
            **{name: version(name) for name in ("torch", "numpy", "aiida-dosmatgen")},
        }
        found = {**keys, "figures": rows, "settings": used, "machine": machine, **self.result}
        return rounded(json.loads(json.dumps(found)))


def _number(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
