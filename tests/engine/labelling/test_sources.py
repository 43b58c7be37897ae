"""Crystals of a data set: whence they come, what stays out, and in which order they are labelled."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.labelling.sources import distorted, elements, real_crystals, substituted, system_of

DEBIAN = Path("/usr/share/espresso/pseudo")
PSEUDOS = ("Si.pbe-rrkj.UPF", "C.pbe-rrkjus.UPF", "O.pbe-rrkjus.UPF", "Cu.pbe-kjpaw.UPF", "N.pbe-kjpaw.UPF")


def known(atoms, entry):
    atoms.info.update(source="tabulated", id=entry)
    return atoms


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pseudos").mkdir()
    for name in PSEUDOS:
        shutil.copy(DEBIAN / name, tmp_path / "pseudos")
    frames = [
        known(bulk("SiC", "zincblende", a=4.36, cubic=True), "a"),
        known(bulk("Cu2O", "fluorite", a=4.8), "b"),
        known(bulk("GaAs", "zincblende", a=5.65), "c"),
        known(bulk("Cu", "fcc", a=3.6), "d"),
    ]
    write(tmp_path / "real.extxyz", frames, format="extxyz")
    with (tmp_path / "real.extxyz").open("rb") as plain, gzip.open(tmp_path / "real.extxyz.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    (tmp_path / "reserved.txt").write_text("Cu-O\nN-Si\n")
    return tmp_path


def test_a_set_is_made_of_all_sources_without_reserved_systems_and_foreign_elements(folder):
    job = {"kind": "crystals", "structures": ["real.extxyz.gz"], "pseudo_directory": "pseudos", "reserved": "reserved.txt"}
    job |= {"substituted": 6, "distorted": 0.5, "seed": 3}
    (folder / "job.json").write_text(json.dumps(job))
    assert main(["crystals", str(folder / "job.json")]) == 0
    crystals = CrystalSet.load(folder / "crystals.npz")
    columns = {name: column.tolist() for name, column in crystals.crystal_columns.items()}
    assert set(columns) == {"source", "id", "kind", "spacegroup", "prototype"}
    systems = {system_of(SYMBOLS[z] for z in crystal.numbers) for crystal in crystals}
    assert not systems & {"Cu-O", "N-Si", "As-Ga"}
    by_kind = {
        kind: [i for i, k in zip(columns["id"], columns["kind"], strict=True) if k == kind] for kind in set(columns["kind"])
    }
    assert sorted(by_kind["real"]) == ["a", "d"] and sorted(by_kind["element"]) == ["C", "Cu", "N", "O", "Si"]
    assert 3 <= len(by_kind["substituted"]) <= 6  # some may have fallen to the reserved systems
    assert by_kind.keys() & {"scaled", "distorted"}
    assert crystals[columns["id"].index("a")].n_atoms[0] == 2  # the primitive cell
    first = CrystalSet.load(folder / "crystals.npz")
    assert main(["crystals", str(folder / "job.json")]) == 0
    np.testing.assert_array_equal(CrystalSet.load(folder / "crystals.npz").fractional, first.fractional)
    crystals.check()


def test_charges_of_substituted_prototypes_balance():
    from pymatgen.core import Composition

    made = list(substituted(["Na", "Mg", "Al", "O", "S", "Cl", "Si"], 8, 10, seed=1))
    assert len(made) == 8
    for crystal in made:
        name, _, formula = str(crystal.crystal_columns["id"][0]).rpartition(":")
        assert Composition(formula).oxi_state_guesses() and name
        assert crystal.to_pymatgen()[0].composition.reduced_formula == formula
        assert len(crystal.numbers) <= 10 and crystal.defect() is None


def test_distortions_depend_on_the_seed_and_the_name_alone():
    known_crystals = list(elements(["Si", "Cu", "Ga", "Se", "Al", "Te", "Mg", "Fe"]))
    together = list(distorted(known_crystals, 1.0, seed=5))
    alone = next(iter(distorted(known_crystals[3:4], 1.0, seed=5)))
    np.testing.assert_array_equal(together[3].fractional, alone.fractional)
    assert {str(c.crystal_columns["kind"][0]) for c in together} == {"scaled", "distorted"}
    for crystal, made in zip(known_crystals, together, strict=True):
        ratio = made.volumes[0] / len(made.numbers) / (crystal.volumes[0] / len(crystal.numbers))
        assert 0.85 < ratio < 1.2
        assert str(made.crystal_columns["id"][0]).startswith(str(crystal.crystal_columns["id"][0]))
        assert made.crystal_columns["prototype"] == crystal.crystal_columns["prototype"]
    assert list(distorted(known_crystals, 0.0, seed=5)) == []


def test_half_of_the_distorted_are_scaled_even_if_the_source_has_no_ids():
    cells = [known(bulk("Si", a=a), "tabulated") for a in np.linspace(5, 6, 40)]
    crystals = [CrystalSet.from_ase([atoms]).with_columns(crystal={"source": ["here"], "id": ["here"]}) for atoms in cells]
    kinds = [str(crystal.crystal_columns["kind"][0]) for crystal in distorted(crystals, 0.5, seed=0)]
    assert 10 < len(kinds) < 30 and 4 < kinds.count("scaled") < len(kinds) - 4


def test_a_crystal_without_an_origin_is_refused(tmp_path):
    write(tmp_path / "frames.extxyz", [known(bulk("Si"), "1"), Atoms("Si", cell=[3, 3, 3], pbc=True)], format="extxyz")
    with pytest.raises(ContentError, match="frame 1: it has no 'source'"):
        list(real_crystals(tmp_path / "frames.extxyz"))
