"""Labels by the recipe, with real pw.x and projwfc.x on Debian's pseudopotentials: any folder of one for each element does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.bands import irreducible_mesh
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.core.job import LabelJob
from aiida_dosmatgen.core.labelled.shards import add_shard, read_manifest
from aiida_dosmatgen.engine.commands.label import run as run_job
from aiida_dosmatgen.engine.labelling import label as label_module
from aiida_dosmatgen.engine.labelling.espresso import MissingProgram, RunFailure
from aiida_dosmatgen.engine.labelling.label import label_crystal, symmetrised
from aiida_dosmatgen.engine.labelling.records import Records, compute_all

DEBIAN = Path("/usr/share/espresso/pseudo")
COARSE = Recipe(cutoff=18, scf_distance=0.7, bands_distance=0.5, points_per_atom=0)
SILICON = CrystalSet.from_ase(bulk("Si"))


@pytest.fixture(scope="module")
def pseudos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pseudopotentials")
    for name in ("Si.pbe-rrkj.UPF", "Fe.pbe-nd-rrkjus.UPF"):
        shutil.copy(DEBIAN / name, folder)
    return read_folder(folder)


@pytest.fixture(scope="module")
def silicon(pseudos):
    return label_crystal(symmetrised(SILICON), COARSE, pseudos)


def test_the_states_of_silicon_are_all_there(silicon):
    dos = silicon.atom_columns["dos"].astype(float)
    columns = silicon.crystal_columns
    assert dos.shape == (2, 2, 4, len(COARSE.energies))
    occupied = dos[..., COARSE.energies <= 0.3].sum() * COARSE.spacing
    assert occupied == pytest.approx(8, rel=0.03)
    assert 0.2 < columns["gap"][0] < 1.0
    assert 0.95 < columns["projected"][0] < 1.0
    assert columns["high"][0] > 4
    np.testing.assert_array_equal(columns["magnetization"], [[0, 0]])
    np.testing.assert_allclose(dos[0], dos[1], atol=2e-3)
    np.testing.assert_allclose(dos[:, 0], dos[:, 1])
    assert (dos[:, :, 2:] == 0).all()  # the pseudopotential has s and p
    assert np.abs(silicon.atom_columns["forces"]).max() < 1e-4


def test_a_denser_mesh_says_nearly_the_same(silicon, pseudos):
    dense = label_crystal(symmetrised(SILICON), COARSE.model_copy(update={"bands_distance": 0.25}), pseudos)
    difference = np.abs(dense.atom_columns["dos"].astype(float) - silicon.atom_columns["dos"].astype(float)).sum((1, 2))
    near = np.abs(COARSE.energies) < 8
    assert difference[:, near].mean() < 0.1


def test_iron_is_magnetic(pseudos):
    recipe = Recipe(cutoff=28, density_factor=9, scf_distance=0.5, bands_distance=0.5, points_per_atom=0)
    iron = label_crystal(symmetrised(CrystalSet.from_ase(bulk("Fe"))), recipe, pseudos)
    assert iron.crystal_columns["magnetization"][0, 0] == pytest.approx(2.2, rel=0.1)
    assert iron.atom_columns["moment"][0] == pytest.approx(2.2, rel=0.15)
    assert iron.crystal_columns["gap"][0] == 0
    up, down = iron.atom_columns["dos"][0].astype(float).sum(1)
    below = recipe.energies <= 0
    assert (up - down)[below].sum() * recipe.spacing == pytest.approx(2.2, rel=0.15)


def test_what_starts_magnetised():
    recipe = Recipe()
    assert recipe.starting_moments(["Fe", "Fe", "O"]) == {"Fe": 4.0, "O": 0.1}
    assert recipe.starting_moments(["O", "O"]) == {"O": 1.0}  # a triplet
    assert recipe.starting_moments(["Si", "O"]) == {} and not recipe.magnetic(["Si", "O"])
    assert Recipe(moments={"Gd": 7.0}).starting_moments(["Gd", "Fe"]) == {"Fe": 0.1, "Gd": 7.0}


def test_what_does_not_converge_is_tried_in_other_ways(pseudos, monkeypatch):
    monkeypatch.setattr(label_module, "FALLBACKS", ({"electron_maxstep": 1}, {}))
    assert label_crystal(symmetrised(SILICON), COARSE, pseudos).crystal_columns["fallback"][0] == 1
    monkeypatch.setattr(label_module, "FALLBACKS", ({"electron_maxstep": 1}, {"electron_maxstep": 2}))
    with pytest.raises(RunFailure, match="did not converge in any of 2 ways"):
        label_crystal(symmetrised(SILICON), COARSE, pseudos)


CRASHES = """#!/bin/bash
text=$(cat)
case "$text" in *diago_david_ndim*) kill -SEGV $$ ;; esac
exec pw.x <<< "$text"
"""


def test_a_crash_in_davidsons_scheme_is_got_over(pseudos, silicon, tmp_path):
    """The program crashes as pw.x 6.7 rarely does, and is the real one otherwise."""
    program = tmp_path / "pw.x"
    program.write_text(CRASHES)
    program.chmod(0o755)
    label = label_crystal(symmetrised(SILICON), COARSE, pseudos, pw=[str(program)])
    dos, other = (one.atom_columns["dos"].astype(float) for one in (label, silicon))
    np.testing.assert_allclose(dos, other, atol=2e-3)


def test_a_pseudopotential_that_projects_nothing_is_refused_before_anything_runs(pseudos):
    blind = {"Si": pseudos["Si"]._replace(wavefunctions=0)}
    with pytest.raises(RunFailure, match="no atomic wavefunctions"):
        label_crystal(SILICON, COARSE, blind, pw=["/nowhere"])
    with pytest.raises(RunFailure, match="no pseudopotential for Ge"):
        label_crystal(CrystalSet.from_ase(bulk("Ge")), COARSE, pseudos, pw=["/nowhere"])


def test_a_program_that_is_not_there_is_no_crystals_fault(pseudos):
    with pytest.raises(MissingProgram, match="not installed"):
        label_crystal(SILICON, COARSE, pseudos, pw=["/nowhere/pw.x"])


def test_records_are_kept_and_failures_have_reasons(pseudos, tmp_path):
    records = Records(tmp_path, COARSE, pseudos)
    crystals = CrystalSet.concatenate([SILICON, CrystalSet.from_ase(bulk("Ge"))]).with_columns(
        crystal={"source": np.array(["here", "here"]), "id": np.array(["1", "2"])}
    )
    assert dict(compute_all(records, crystals, 2, 300)) == {0: "ok", 1: "no pseudopotential for Ge"}
    # nothing is computed again: the program is not there
    assert dict(compute_all(records, crystals, 1, 300, pw=["/nowhere/pw.x"])) == {0: "ok", 1: "no pseudopotential for Ge"}
    labelled, counts = records.gather(crystals)
    assert counts == {"ok": 1, "no pseudopotential for Ge": 1}
    assert labelled.crystal_columns["id"].tolist() == ["1"]
    other = Records(tmp_path, COARSE.model_copy(update={"cutoff": 20.0}), pseudos)
    assert other.status(crystals[0]) is None


def test_what_shards_have_is_not_computed_again_on_another_machine(silicon, pseudos, tmp_path):
    names = {"source": np.array(["own", "own"]), "id": np.array(["silicon", "no such element"])}
    crystals = CrystalSet.from_ase([bulk("Si"), bulk("Xe")]).with_columns(crystal=names)
    crystals.save(tmp_path / "crystals.npz")
    job = LabelJob(
        kind="label",
        crystals="crystals.npz",
        recipe=COARSE,
        pseudo_directory=str(next(iter(pseudos.values())).path.parent),
        shards="shards",
        settings={"pw_command": ["no-such-program"]},
    )
    files = {upf.path.name: upf.sha256 for upf in pseudos.values()}
    made_by = {"recipe": json.loads(COARSE.fitted(pseudos.values()).text()), "pseudopotentials": files}
    labelled = silicon.with_columns(crystal={name: values[:1] for name, values in names.items()})
    shard = add_shard(tmp_path / "shards", labelled, made_by)
    content = shard.read_bytes()
    results = run_job(job, tmp_path)
    assert results.finished and results.done == 2
    assert results.details["in_shards_before"] == 1
    assert results.details["statuses"] == {"not computed": 1, "no pseudopotential for Xe": 1}
    assert shard.read_bytes() == content and len(read_manifest(tmp_path / "shards")["shards"]) == 1


def test_bands_that_do_not_reach_far_enough_are_computed_again(silicon, pseudos):
    far = label_crystal(symmetrised(SILICON), COARSE.model_copy(update={"high": 40.0, "least_high": 20.0}), pseudos)
    assert far.crystal_columns["high"][0] > 20
    both = np.s_[..., COARSE.energies < 2]
    wide = far.atom_columns["dos"][..., : len(COARSE.energies)]
    np.testing.assert_allclose(wide[both], silicon.atom_columns["dos"][both], atol=0.01)


def test_what_was_killed_is_computed_again(pseudos, tmp_path):
    records = Records(tmp_path, COARSE, pseudos)
    crystals = SILICON.with_columns(crystal={"source": np.array(["here"]), "id": np.array(["1"])})
    (status,) = dict(compute_all(records, crystals, 1, 300, pw=["sh", "-c", "kill -9 $$"])).values()
    assert "was killed by signal 9" in status
    assert records.status(crystals) is None
    (status,) = dict(compute_all(records, crystals, 1, 300, pw=["sh", "-c", "kill -SEGV $$"])).values()
    assert "crashed with signal 11" in status
    assert records.status(crystals) == status


@pytest.mark.parametrize("command", ["rm -rf $PWD", "pw.x; rm -rf $PWD", "pw.x; rm -rf $PWD; exit 1"])
def test_what_lost_its_folder_is_computed_again(pseudos, tmp_path, command):
    records = Records(tmp_path, COARSE, pseudos)
    crystals = SILICON.with_columns(crystal={"source": np.array(["here"]), "id": np.array(["1"])})
    (status,) = dict(compute_all(records, crystals, 1, 300, pw=["sh", "-c", command])).values()
    assert "was removed while it was in use" in status
    assert records.status(crystals) is None


def test_a_crystal_that_is_almost_symmetric_is_made_so():
    off = bulk("Si", cubic=True)
    off.positions += np.random.default_rng(0).normal(scale=2e-5, size=off.positions.shape)
    primitive = symmetrised(CrystalSet.from_ase(off))
    assert len(primitive.numbers) == 2
    with pytest.raises(RunFailure):
        symmetrised(CrystalSet.from_ase(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0]], cell=[3, 3, 3], pbc=True)))


def test_headers_of_pseudopotentials(pseudos, tmp_path):
    assert (pseudos["Si"].valence, pseudos["Si"].wavefunctions) == (4, 2)
    (tmp_path / "Si.upf").write_text("nothing of the kind")
    with pytest.raises(ValueError, match="is it a UPF file"):
        read_folder(tmp_path)


def test_thin_metals_have_denser_meshes():
    silicon, potassium = bulk("Si"), bulk("K")
    recipe = Recipe()
    assert recipe.bands_mesh(silicon.cell.array, 2) == (9, 9, 9)
    assert recipe.bands_mesh(potassium.cell.array, 1) == (11, 11, 11)
    assert Recipe(points_per_atom=0).bands_mesh(potassium.cell.array, 1) == (7, 7, 7)


def test_a_symmetric_mesh_has_fewer_points_to_compute_and_is_interpolated():
    """Body-centred tetragonal: the vectors of the primitive cell are equal, those of the reciprocal lattice are not."""
    lattice = 0.5 * np.array([[-3.2, 3.2, 5.4], [3.2, -3.2, 5.4], [3.2, 3.2, -5.4]])
    cell = (lattice, np.zeros((1, 3)), np.array([14]))
    plain, symmetric = Recipe(), Recipe(symmetric_mesh=True)
    assert plain.text() != symmetric.text() and "symmetric_mesh" not in plain.text()
    few, more = plain.bands_mesh(lattice, 1), symmetric.bands_mesh(lattice, 1)
    assert few[2] > few[0] and more == (few[2],) * 3
    computed = [len(np.unique(irreducible_mesh(mesh, cell)[0])) for mesh in (few, more)]
    assert computed[1] < 0.6 * computed[0]
    for unit in (np.eye(3), [[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 1.6]], np.eye(3) + 0.1 * np.tri(3, k=-1)):
        mesh = plain.bands_mesh(4 * np.array(unit), 1)
        assert symmetric.bands_mesh(4 * np.array(unit), 1) == mesh  # of the lattice's symmetry as it is
