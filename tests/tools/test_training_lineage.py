"""From a checkpoint back to each crystal that it learnt from: crystals made, labels collected, split, and trained on."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.orm import Dict, Int, QueryBuilder
from ase.build import bulk
from ase.symbols import Symbols

from aiida_dosmatgen.calculations.functions import (
    BAD_CONTENT,
    assemble_labelled,
    extract_candidate,
    join_labelled,
    select_labelled,
    split_labelled,
)
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.labelled.splits import systems_of
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.workflows.base import CrystalsBaseWorkChain, SampleBaseWorkChain, TrainBaseWorkChain
from tests.calculations.test_jobs import upf

SPLITS = {"system_fraction": 0.2, "prototype_fraction": 0.0, "final_fraction": 0.2, "seed": 1}
VALENCES = {"Ti": 12, "C": 4, "N": 5, "O": 6, "Zr": 12, "Hf": 26}


@pytest.fixture
def recipe(monkeypatch):
    """The function of the page, as it stands."""
    return recipes_of_the_page(monkeypatch)["crystals_learnt_from"]


@pytest.fixture
def plain(monkeypatch):
    """The function that needs nothing of this package."""
    return recipes_of_the_page(monkeypatch)["learnt_by_models_behind"]


def recipes_of_the_page(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("recipes").recipes()


@pytest.fixture
def code(aiida_profile, aiida_code, aiida_localhost):
    path = str(Path(sys.executable).with_name("dosmatgen"))
    return aiida_code("core.code.installed", label="dosmatgen-made", computer=aiida_localhost, filepath_executable=path)


def rocksalts():
    return [bulk(f"{a}{b}", "rocksalt", a=4.4) for a in ("Ti", "Zr", "Hf") for b in ("C", "N", "O")]


@pytest.fixture
def made(code):
    """Crystals as the job makes them, of real ones and of the elements."""
    atoms = rocksalts()
    ids = {"source": np.full(9, "tabulated"), "id": np.array([f"entry-{i}" for i in range(9)])}
    real = CrystalSetData(CrystalSet.from_ase(atoms).with_columns(crystal=ids)).store()
    inputs = {
        "code": code,
        "structures": {"tabulated": real},
        "pseudos": {symbol: upf(symbol, valence) for symbol, valence in VALENCES.items()},
        "parameters": Dict({"distorted": 0.3, "recipe": {"scf_distance": 1.0, "bands_distance": 1.0}}),
        "reserved": ["Hf-O"],
        "seed": Int(1),
        "metadata": {"options": {"device": "cpu", "threads": 1}},
    }
    outputs, node = run_get_node(CrystalsBaseWorkChain, crystals=inputs)
    assert node.is_finished_ok, node.exit_message
    return outputs["crystals"]


def curves_of(crystal):
    """Labels of the right form: a Gaussian band for each site."""
    energies = np.linspace(-20, 10, 201)
    values = np.zeros((len(crystal.numbers), 2, 4, len(energies)))
    centres = -2.0 - 0.02 * crystal.numbers
    values[:, :, 1] = 4 * np.exp(-0.5 * ((energies - centres[:, None, None]) / 0.5) ** 2)
    curves = Curves(values, energies, 0.3, -20.0, 10.0, "fermi", 0.0, channels=("s", "p", "d", "f"), projected=0.98)
    columns = {"energy": -10.0 * crystal.n_atoms}
    return with_curves(crystal, curves).with_columns(crystal=columns, atom={"forces": np.zeros((len(crystal.numbers), 3))})


def label(made):
    """Collect labels as the label work chain does."""
    chosen = {f"dos_{row}": CrystalSetData(curves_of(crystal)) for row, crystal in enumerate(made.crystals)}
    return assemble_labelled(crystals=made, recipe=Dict({"cutoff": 72}), **chosen)


def sample(code, checkpoint):
    """Sample a crystal with a denoiser, and take it out as a campaign does before its validation."""
    inputs = {
        "code": code,
        "checkpoint": checkpoint,
        "parameters": Dict({"n_atoms": 2, "steps": 2}),
        "seed": Int(1),
        "candidates": [0, 1],
        "metadata": {"options": {"device": "cpu", "threads": 1}},
    }
    outputs, node = run_get_node(SampleBaseWorkChain, sample=inputs)
    assert node.is_finished_ok, node.exit_message
    return extract_candidate(outputs["crystals"], Int(0))


def formula_of_ase(formula):
    return Symbols.fromsymbols(formula).get_chemical_formula("hill", empirical=True)


@pytest.mark.slow
def test_a_checkpoint_leads_back_to_the_crystals_it_learnt_from(recipe, plain, code, made):
    split = split_labelled(label(made), Dict(SPLITS))
    inputs = {
        "code": code,
        "dataset": split,
        "parameters": Dict({"epochs": 1, "architecture": {"width": 16, "layers": 1, "frequencies": 2}}),
        "seed": Int(1),
        "metadata": {"options": {"device": "cpu", "threads": 1}},
    }
    outputs, node = run_get_node(TrainBaseWorkChain, train=inputs)
    assert node.is_finished_ok, node.exit_message
    rows = recipe(outputs["checkpoint"], "Ti")
    crystals = split.crystals
    expected = [
        (formula, str(source), str(entry))
        for formula, source, entry, used, system in zip(
            crystals.formulas,
            crystals.crystal_columns["source"],
            crystals.crystal_columns["id"],
            crystals.crystal_columns["split"],
            systems_of(crystals),
            strict=True,
        )
        if used == "train" and "Ti" in system.split("-")
    ]
    assert sorted(tuple(row[:3]) for row in rows) == sorted(expected)
    assert ("Ti", "elements", "Ti") in expected and any(source == "tabulated" for _, source, _ in expected)
    assert {row[3] for row in rows} == {split.uuid} and {row[4] for row in rows} == {"split_labelled"}
    kept = {
        str(e) for e, s in zip(crystals.crystal_columns["id"], crystals.crystal_columns["split"], strict=True) if s != "train"
    }
    assert kept and not kept & {row[2] for row in rows}
    sampled = sample(code, outputs["checkpoint"])
    assert {row[1:] for row in plain(sampled)} == {
        (formula_of_ase(formula), str(source), str(entry))
        for formula, source, entry, used in zip(
            crystals.formulas,
            *(crystals.crystal_columns[name] for name in ("source", "id", "split")),
            strict=True,
        )
        if used == "train"
    }
    assert {row[0] for row in plain(sampled)} == {split.uuid}
    assert plain(extract_candidate(made, Int(0))) == set()  # made before any training
    query = QueryBuilder().append(type(made), filters={"uuid": made.uuid}, tag="made")
    query.append(type(outputs["checkpoint"]), with_ancestors="made", filters={"uuid": outputs["checkpoint"].uuid})
    assert query.count() == 1
    again = {**inputs, "parent": outputs["checkpoint"], "dataset": select_labelled(split, Dict({"kinds": ["element"]}))}
    tuned, node = run_get_node(TrainBaseWorkChain, train=again)
    assert node.is_finished_ok, node.exit_message
    of_both = recipe(tuned["checkpoint"], "Ti")
    assert {row[0] for row in plain(sample(code, tuned["checkpoint"]))} == {split.uuid, again["dataset"].uuid}
    assert sorted(map(tuple, of_both)) == sorted(
        [*map(tuple, rows), ("Ti", "elements", "Ti", again["dataset"].uuid, "select_labelled")]
    )


def test_sets_are_split_chosen_from_and_joined_on_record(aiida_profile):
    atoms = [*rocksalts()[:8], bulk("Ti"), bulk("C")]
    columns = {"source": np.full(10, "here"), "id": np.arange(10).astype(str), "kind": np.array(["real"] * 8 + ["element"] * 2)}
    labelled = label(CrystalSetData(CrystalSet.from_ase(atoms).with_columns(crystal=columns)))
    split = split_labelled(labelled, Dict(SPLITS))
    columns = split.crystals.crystal_columns
    assert set(columns["split"]) == {"train", "test-system", "test-final"}
    assert split.base.attributes.get("card")["splits"]["counts"]["train"]["n_crystals"] == (columns["split"] == "train").sum()
    final = select_labelled(split, Dict({"splits": ["test-final"], "kinds": ["real"]}))
    rest = select_labelled(split, Dict({"splits": ["train"]}))
    assert set(final.crystals.crystal_columns["kind"]) == {"real"}
    together = join_labelled(a=final, b=rest)
    assert len(together.crystals) == len(final.crystals) + len(rest.crystals) and together.grid == labelled.grid
    assert together.base.links.get_incoming(link_type=LinkType.CREATE).one().node.process_label == "join_labelled"
    bare = CrystalSet.concatenate([final.crystals]).replace(
        crystal_columns={"complete_below": np.full(len(final.crystals), 5.0)}
    )
    plain = LabelledCrystalSetData(bare.replace(atom_columns={"dos": np.ones((len(bare.numbers), 400))}))
    for function, inputs, message in (
        (split_labelled, {"dataset": labelled, "splits": Dict({"seed": -1})}, "splits: seed"),
        (select_labelled, {"dataset": labelled, "selection": Dict({"splits": ["train"]})}, "no column 'split'"),
        (join_labelled, {"a": final, "b": plain}, "not all sets have the column"),
    ):
        _, node = function.run_get_node(**inputs)
        assert node.exit_status == BAD_CONTENT and message in node.exit_message
    assert {SYMBOLS[z] for z in rest.crystals.numbers} <= set(VALENCES)
