"""Campaigns that no computer has run: the graph that the work chains leave, with made-up crystals and curves, in bulk.

For what depends on size: queries on large databases, pages of large campaigns. Crystals, curves and distances are drawn by
chance; the kinds of nodes, links and attributes are those of a real campaign.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from synthetic_graph import Graph

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.files import checksum
from aiida_dosmatgen.core.screening.geometries import GEOMETRIES
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.distances import rank_key
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.target import DosTargetData

ELEMENTS = [5, 6, 7, 13, 14, 15, 31, 32, 33, 49, 50, 51]
_REJECTED = ("relaxation: max steps", "formation energy too high", "atoms too close", "duplicate")
_FAILURE = "the bands could not be computed: PwBaseWorkChain failed with exit status 410"


def shared_nodes(folder: Path) -> dict[str, orm.Node]:
    """Store what campaigns have in common: models without weights, codes, a pseudopotential.

    :param folder: where their files are written first.
    """
    from aiida_pseudo.data.pseudo.upf import UpfData

    upf, model = folder / "Si.pbe.upf", folder / "mace.model"
    upf.write_text('<UPF version="2.0.1">\n<PP_HEADER element="Si" z_valence="4.0"/>\n</UPF>\n')
    with zipfile.ZipFile(model, "w") as archive:
        for name, content in (("mace/data.pkl", b"\x80\x02K\x01."), ("mace/version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time of now: the same file each time
    computer = orm.Computer("localhost", "localhost", "", "core.local", "core.direct", str(folder)).store()
    nodes = {
        "checkpoint": CheckpointData(_checkpoint(folder / "denoiser.safetensors", "denoiser"), label="a denoiser"),
        "predictor": CheckpointData(_checkpoint(folder / "predictor.safetensors", "predictor"), label="a predictor"),
        "force_field": ForceFieldData.from_file(model),
        "pseudo": UpfData(upf),
        **{
            name: orm.InstalledCode(computer, f"/opt/{name}", label=f"synthetic-{name}")
            for name in ("dosmatgen", "pw", "projwfc")
        },
    }
    return {name: node.store() for name, node in nodes.items()}


def _checkpoint(path: Path, kind: str, learnt_from: bytes | None = None) -> Path:
    """Write a checkpoint with a header and a few bytes for weights.

    :param learnt_from: of :meth:`TrainingCrystals.to_bytes`.
    """
    header = {
        "format": "dosmatgen-checkpoint",
        "version": 2,
        "kind": kind,
        "architecture": {"width": 16},
        "elements": [SYMBOLS[z] for z in ELEMENTS],
        "grid": {"emin": -10.0, "emax": 10.0, "n": 400},
        "sigma": 0.3,
        "training": {
            "dataset_sha256": "0" * 64,
            "n_crystals": 3,
            "seed": 1,
            "epochs": 2,
            "parameters": {},
            "parent_sha256": None,
        },
        "metrics": {},
        "engine_version": "0",
    }
    metadata = {"dosmatgen": json.dumps(header), checksum.KEY: checksum.PLACEHOLDER}
    tensors = {"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    data = bytes(16)
    if learnt_from is not None:
        ends = [len(data), len(data) + len(learnt_from)]
        tensors["training_crystals"] = {"dtype": "U8", "shape": [len(learnt_from)], "data_offsets": ends}
        data += learnt_from
    text = json.dumps({"__metadata__": metadata, **tensors}).encode()
    path.write_bytes(checksum.with_checksum(struct.pack("<Q", len(text)) + text + data))
    return path


def made_up(rng: np.random.Generator, count: int, largest: int = 8, with_curves: bool = True) -> CrystalSet:
    """Return crystals as the screening leaves them: random atoms in random cells, and curves of a few Gaussians.

    :param largest: number of atoms; the smallest is 2.
    """
    if count == 0:
        return made_up(rng, 1, largest, with_curves)[[]]
    n_atoms = rng.integers(2, largest + 1, count)
    total = int(n_atoms.sum())
    pairs = np.stack([rng.choice(ELEMENTS, 2, replace=False) for _ in range(count)])
    numbers = np.concatenate([np.resize(pair, n) for pair, n in zip(pairs, n_atoms, strict=True)])
    lattices = np.cbrt(18.0 * n_atoms)[:, None, None] * (np.eye(3) + rng.normal(0, 0.08, (count, 3, 3)))
    crystals = CrystalSet(n_atoms, numbers, rng.random((total, 3)), lattices).with_columns(
        crystal={
            "candidate": np.arange(count),
            "energy": rng.normal(-5, 1, count) * n_atoms,
            "predicted_dos_uncertainty": rng.uniform(0.02, 0.1, count),
        }
    )
    return crystals.with_columns(atom={"predicted_dos": curves(rng, total)}) if with_curves else crystals


def curves(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return curves in states/eV, shape (count, n)."""
    centres, heights = rng.uniform(-9, 8, (2, count, 6, 1))
    peaks = np.exp(-0.5 * ((DEFAULT_GRID.points - centres) / 0.8) ** 2) * np.abs(heights) / 12
    return peaks.sum(1).astype(np.float32)


def campaign(
    graph: Graph,
    target: int,
    name: str = "target",
    n_candidates: int = 1000,
    n_ranked: int | None = None,
    n_validated: int = 50,
    n_failed: int = 2,
    crystals: CrystalSet | None = None,
    label: str = "",
    wanted: DosTarget | None = None,
) -> str:
    """Collect one campaign, and return its uuid.

    :param target: place of its ``DosTargetData``.
    :param n_ranked: how many candidates pass the screening, all by default.
    :param n_failed: how many validations fail, besides those that do not.
    :param crystals: that pass, ``n_ranked`` of them; if none are given they are drawn, with curves.
    :param wanted: the target itself, if it has wishes; what becomes of them is measured.
    """
    rng, n_ranked = graph.rng, n_candidates if n_ranked is None else n_ranked
    crystals = made_up(rng, n_ranked) if crystals is None else crystals
    formulas, columns = crystals.formulas, crystals.crystal_columns
    distances = np.sort(rng.gamma(4, 0.03, n_ranked))
    candidates = columns["candidate"].tolist()
    ranking = [
        {
            "rank": i + 1,
            "candidate": candidates[i],
            "geometry": GEOMETRIES[i % 2],
            "index": i,
            "formula": formulas[i],
            "n_atoms": int(crystals.n_atoms[i]),
            "formation_energy": float(rng.normal(0, 0.2)),
            "relaxation_energy": 0.2 * (i % 2),
            "hull_distance": None,
            "predicted_distance": float(distances[i]),
            "predicted_distance_total": float(0.8 * distances[i]),
            "wasserstein": float(rng.gamma(2, 0.2)),
            "uncertainty": float(rng.uniform(0.02, 0.1)),
            "known": None,
            "status": "converged",
            "score": float(distances[i]),
        }
        for i in range(n_ranked)
    ]
    if wanted is not None:
        ranking = [row | _wished(wanted, crystals[i], "predicted_dos") for i, row in enumerate(ranking)]
    left_out = np.array_split(np.arange(n_ranked, n_candidates), len(_REJECTED))
    report_content = {
        "funnel": {"candidates": n_candidates, "valid": n_candidates - len(left_out[2]), "unique": n_ranked},
        "ranking": ranking,
        "rejected": {reason: group.tolist() for reason, group in zip(_REJECTED, left_out, strict=True) if len(group)},
    }
    use = graph.use
    parameters, seed, top_k = graph.dict(sampler="ode", steps=30), graph.int(int(rng.integers(1e6))), graph.int(n_validated)
    relaxation, criteria = graph.dict(fmax=0.05), graph.dict(max_formation_energy=0.5)
    models = {"candidates__checkpoint": use("checkpoint"), "candidates__predictor": use("predictor")}
    shared = {**models, "candidates__force_field": use("force_field"), "candidates__seed": seed}
    shared |= {"candidates__n_candidates": graph.int(n_candidates), "candidates__criteria": criteria, "top_k": top_k}
    shared |= {"candidates__sample__code": use("dosmatgen"), "candidates__sample__parameters": parameters}
    shared |= {"validate__dos__pseudos__Si": use("pseudo"), "validate__dos__pw__pw__code": use("pw")}
    top = graph.process(
        "workchain", "CampaignWorkChain", "aiida.workflows:dosmatgen.campaign", {f"targets__{name}": target, **shared}, {}
    )
    graph.set_label(top, label)

    made = {step: graph.crystals(crystals) for step in ("sampled", "relaxed", "predicted", "screened")}
    report, references = graph.dict(**report_content), graph.dict(energies={SYMBOLS[z]: -4.0 for z in ELEMENTS})
    inner = graph.process(
        "workchain",
        "CandidatesWorkChain",
        "aiida.workflows:dosmatgen.candidates",
        {"target": target, "checkpoint": use("checkpoint"), "seed": seed},
        {"crystals": made["screened"], "report": report, "predicted": made["predicted"]},
        (top, f"candidates_{name}"),
    )
    code = {"code": use("dosmatgen")}
    inputs = {"checkpoint": use("checkpoint"), "target": target, "seed": seed, "parameters": parameters}
    graph.job("Sample", code | inputs, {"crystals": made["sampled"]}, (inner, "sample"))
    inputs = {"crystals": made["sampled"], "force_field": use("force_field"), "parameters": relaxation}
    graph.job("Relax", code | inputs, {"crystals": made["relaxed"]}, (inner, "relax"))
    inputs = {"crystals": made["relaxed"], "checkpoint": use("predictor")}
    graph.job("Predict", code | inputs, {"crystals": made["predicted"]}, (inner, "predict"))
    inputs = {"crystals": made["predicted"], "references": references, "criteria": criteria, "target": target}
    graph.function("screen", inputs, {"crystals": made["screened"], "report": report}, (inner, "screen"))

    scores, failures = {}, {}
    for i in range(n_validated + n_failed):
        failed = i >= n_validated
        found = _validation(
            graph, top, name, target, made["screened"], crystals[i], candidates[i], distances[i], failed, wanted
        )
        if failed:
            failures[candidates[i]] = _FAILURE
        else:
            scores[candidates[i]] = found
    rows = [
        {**row, "status": "validated", "dft": scores[row["candidate"]]["content"]}
        for row in ranking
        if row["candidate"] in scores
    ]
    rows.sort(key=lambda row: rank_key(row["dft"]))
    rows += [{**row, "status": "not validated"} for row in ranking if row["candidate"] not in {*scores, *failures}]
    rows += [
        {**row, "status": "failed", "reason": failures[row["candidate"]]} for row in ranking if row["candidate"] in failures
    ]
    rows = [{**row, "rank": i} for i, row in enumerate(rows, 1)]
    one = graph.dict(ranking=rows)
    inputs = {"report": report, **{f"failure_{key}": graph.dict(reason=reason) for key, reason in failures.items()}}
    inputs |= {f"candidate_{candidate}": found["score"] for candidate, found in scores.items()}
    graph.function("rank", inputs, {"result": one}, (top, f"rank_{name}"))
    ranked = graph.dict(targets={name: rows}, failed={})
    graph.function("collect_rankings", {f"ranking_{name}": one}, {"result": ranked}, (top, "collect_rankings"))
    graph.returned(top, ranking=ranked, **{f"reports__{name}": report, f"candidates__{name}": made["screened"]})
    return graph.uuid(top)


def _validation(
    graph: Graph,
    top: int,
    name: str,
    target: int,
    screened: int,
    crystal: CrystalSet,
    candidate: int,
    near: float,
    failed: bool,
    wanted: DosTarget | None = None,
) -> dict[str, Any]:
    rng, n = graph.rng, len(crystal.numbers)
    structure = graph.node("data.core.structure.StructureData.", _structure(crystal), label=crystal.formulas[0])
    inputs = {"crystals": screened, "candidate": graph.int(candidate)}
    graph.function("extract_candidate", inputs, {"result": structure}, (top, f"extract_{name}_{candidate}"))
    outcome: dict[str, Any] = {}
    if failed:
        outcome = {"exit_status": 302, "exit_message": _FAILURE}
    chain = graph.process(
        "workchain",
        "ValidateWorkChain",
        "aiida.workflows:dosmatgen.validate",
        {"structure": structure, "target": target, "dos__pseudos__Si": graph.use("pseudo")},
        {},
        (top, f"validate_{name}_{candidate}"),
        **outcome,
    )
    inner = graph.process(
        "workchain",
        "DosWorkChain",
        "aiida.workflows:dosmatgen.dos",
        {"structure": structure, "pseudos__Si": graph.use("pseudo")},
        {},
        (chain, "dos"),
        exit_status=301 if failed else 0,
    )
    common = {"code": graph.use("pw"), "structure": structure, "pseudos__Si": graph.use("pseudo")}
    remote = None
    for run, step in enumerate(("scf", "bands"), 1):
        base = graph.process(
            "workchain",
            "PwBaseWorkChain",
            "aiida.workflows:quantumespresso.pw.base",
            {"pw__structure": structure},
            {},
            (inner, f"{step}_{run}"),
        )
        inputs = common | {"parameters": graph.dict(CONTROL={"calculation": step}), "kpoints": _kpoints(graph)}
        if remote is not None:
            inputs["parent_folder"] = remote
        remote = graph.node("data.core.remote.RemoteData.", {"remote_path": f"/scratch/{structure}/{step}"})
        parameters = graph.dict(
            energy=float(-110.0 * n), number_of_electrons=4.0 * n, creator_name="pw.x", creator_version="7.4.1"
        )
        outputs = {"remote_folder": remote, "output_parameters": parameters}
        if step == "bands":
            bands = graph.node("data.core.array.bands.BandsData.", {"array|bands": [10, 8 * n], "units": "eV"})
            outputs["output_band"] = bands
        graph.job("Pw", inputs, outputs, (base, "iteration_01"))
        graph.returned(base, output_parameters=parameters)
        if failed:
            return {"structure": structure, "validation": chain}
    projections = graph.node("data.core.array.projection.ProjectionData.", {"array|proj_array_0": [10, 8 * n]})
    graph.job(
        "Projwfc", {"code": graph.use("projwfc"), "parent_folder": remote}, {"projections": projections}, (inner, "projwfc_3")
    )
    bare = CrystalSet(crystal.n_atoms, crystal.numbers, crystal.fractional, crystal.lattices)
    computed = bare.with_columns(
        crystal={
            "complete_below": np.array([float(rng.uniform(5, 9))]),
            "n_electrons": np.array([4.0 * n]),
            "projected_electrons": np.array([4.0 * n]),
        },
        atom={"dos": curves(rng, n)} if "predicted_dos" in crystal.atom_columns else {"dos": np.ones((n, 1), np.float32)},
    )
    dos = graph.crystals(computed)
    inputs = {"structure": structure, "bands": bands, "projections": projections, "parameters": parameters}
    graph.function("count_states", inputs, {"result": dos}, (inner, "count_states_1"))
    graph.returned(inner, dos=dos)
    mae = float(near * rng.uniform(0.7, 1.6))
    content = {"mae": mae, "mae_window": 1.2 * mae, "mae_total": 0.8 * mae, "wasserstein": 5 * mae, "compared_below": 6.0}
    content["gap"] = max(0.0, round(float(rng.uniform(-1, 3)), 3))
    content |= {"n_electrons": 4.0 * n, "projected_electrons": 4.0 * n, "n_atoms": n, "formula": crystal.formulas[0]}
    if wanted is not None:
        content |= _wished(wanted, computed, "dos")
    score = graph.dict(**content)
    graph.function("score_dos", {"dos": dos, "target": target}, {"result": score}, (chain, "score_dos"))
    graph.returned(chain, structure=structure, dos=dos, score=score)
    return {"structure": structure, "validation": chain, "score": score, "content": content}


def _wished(wanted: DosTarget, crystal: CrystalSet, column: str) -> dict[str, Any]:
    """Return what a score or a row of a ranking says of the wishes of a target, and no distances if it has no curve."""
    found = wanted.distances(curves_of(crystal, column=column))
    wished = {name: found[name] for name in ("wishes", "missed", "distance")}
    without = ("mae", "mae_window", "mae_total", "wasserstein") if column == "dos" else ("predicted_distance", "wasserstein")
    return {**wished, **(dict.fromkeys(without) if wanted.only_wishes else {})}


def _kpoints(graph: Graph) -> int:
    return graph.node("data.core.array.kpoints.KpointsData.", {"mesh": [6, 6, 6], "offset": [0.0, 0.0, 0.0]})


def _structure(crystal: CrystalSet) -> dict[str, Any]:
    symbols = [SYMBOLS[z] for z in crystal.numbers]
    positions = np.mod(crystal.fractional, 1.0) @ crystal.lattices[0]
    return {
        "cell": crystal.lattices[0].tolist(),
        "pbc1": True,
        "pbc2": True,
        "pbc3": True,
        "kinds": [{"name": s, "symbols": [s], "weights": [1.0], "mass": 1.0} for s in dict.fromkeys(symbols)],
        "sites": [{"kind_name": s, "position": p.tolist()} for s, p in zip(symbols, positions, strict=True)],
    }


def target(graph: Graph, label_source: str = "synthetic.csv", sites: int | None = None, wanted: DosTarget | None = None) -> int:
    """Collect a target, a given one, a total curve or one of sites, and return its place."""
    values = curves(graph.rng, sites or 1)
    made = DosTarget(values, "total" if sites is None else "sites", None if sites is None else sites, 8.0, low=-9.0)
    made = made if wanted is None else wanted
    attributes = {"kind": made.kind, "n_sites": len(values), "sites": None, "n_atoms": made.n_atoms, "complete_below": 8.0}
    return graph.file(DosTargetData, made, {**attributes, "label_source": label_source})
