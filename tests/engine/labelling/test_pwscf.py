"""Labels by the real pw.x and projwfc.x."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID, check_electrons
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.engine.labelling.pwscf import gather, label, record_path

CHEAP = LabelSettings(kpoints_distance=0.6, max_seconds_per_crystal=120)
NOWHERE = LabelSettings(kpoints_distance=0.6, pw_command=["no-such-program"])


def silicon(displacement: float = 0.0) -> CrystalSet:
    atoms = bulk("Si")
    atoms.positions[1] += displacement
    return CrystalSet.from_ase(atoms)


def nearly(crystal: CrystalSet) -> CrystalSet:
    strain = 1e-7 * np.array([[0.3, -0.9, 0.4], [-0.9, -1.2, 0.7], [0.4, 0.7, 0.8]])
    return crystal.replace(lattices=crystal.lattices @ (np.eye(3) + strain))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Silicon, xenon (no pseudopotential) and displaced silicon, labelled in one run."""
    directory = tmp_path_factory.mktemp("labels")
    xenon = CrystalSet.from_ase(bulk("Xe"))
    crystals = CrystalSet.concatenate([silicon(), xenon, silicon(0.05)])
    statuses = dict(label(crystals, CHEAP, directory, workers=2))
    return directory, crystals, statuses


def test_statuses(run):
    _, _, statuses = run
    assert statuses == {0: "ok", 1: "no pseudopotential for Xe", 2: "ok"}


def test_labels_of_silicon(run):
    directory, crystals, _ = run
    labelled, counts = gather(crystals, CHEAP, directory)
    assert counts == {"ok": 2, "no pseudopotential for Xe": 1}
    columns, dos = labelled.crystal_columns, labelled.atom_columns["dos"]
    assert list(columns["n_electrons"]) == [8, 8]
    for electrons in columns["projected_electrons"]:
        assert check_electrons(electrons, 8) is None
    # diamond: by symmetry no force, both atoms alike, isotropic stress; displaced: opposite forces back to the middle
    forces = labelled.atom_columns["forces"]
    np.testing.assert_allclose(forces[:2], 0, atol=1e-4)
    np.testing.assert_allclose(dos[0], dos[1], atol=2e-3 * dos.max())
    np.testing.assert_allclose(columns["stress"][0], columns["stress"][0][0, 0] * np.eye(3), atol=1e-5)
    np.testing.assert_allclose(forces[2], -forces[3], atol=1e-3)
    assert (forces[3] < -0.5).all()
    assert columns["energy"][1] > columns["energy"][0]
    # four valence states an atom lie between the bottom of the bands and the gap
    filled = DEFAULT_GRID.points < 0.4
    assert dos[:2, filled].sum() * DEFAULT_GRID.spacing == pytest.approx(8, rel=0.1)
    assert (columns["complete_below"] > 2).all()


def test_the_energy_has_the_forces_as_its_slope(run, tmp_path):
    """Central difference of the energy against the force, so that units and signs are right."""
    directory, crystals, _ = run
    step = 0.01
    crystal = crystals[2]
    moved = []
    for sign in (1, -1):
        atoms = crystal.to_ase()[0]
        atoms.positions[1, 0] += sign * step
        moved.append(CrystalSet.from_ase(atoms))
    moved = CrystalSet.concatenate(moved)
    assert set(dict(label(moved, CHEAP, tmp_path, workers=2)).values()) == {"ok"}
    energies = gather(moved, CHEAP, tmp_path)[0].crystal_columns["energy"]
    force = gather(crystal, CHEAP, directory)[0].atom_columns["forces"][1, 0]
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(force, rel=0.05)


def test_finished_records_are_not_computed_again(run):
    directory, crystals, statuses = run
    # With a program that does not exist, only records can answer; settings of how to run do not enter their names.
    assert dict(label(crystals, NOWHERE, directory)) == statuses


def test_other_settings_and_other_crystals_have_other_records(run):
    directory, crystals, _ = run
    finer = CHEAP.model_copy(update={"kpoints_distance": 0.5})
    paths = {record_path(directory, crystal, settings) for crystal in crystals for settings in (CHEAP, finer)}
    assert len(paths) == 6
    labelled, counts = gather(crystals, finer, directory)
    assert (len(labelled), counts) == (0, {"not computed": 3})


def test_a_run_that_takes_too_long_is_recorded_with_its_reason(tmp_path):
    slow = CHEAP.model_copy(update={"pw_command": ["sleep", "60"], "max_seconds_per_crystal": 0.2})
    ((_, status),) = label(silicon(), slow, tmp_path)
    assert "took longer than 0.2 s" in status
    assert gather(silicon(), slow, tmp_path)[1] == {status: 1}


def test_pw_refusing_its_input_is_recorded_with_its_words(tmp_path):
    atoms = bulk("Si")
    atoms.positions[1] = atoms.positions[0] + 1e-7
    ((_, status),) = label(CrystalSet.from_ase(atoms), CHEAP, tmp_path)
    assert status.startswith("pw.x: ")
    assert "\n" not in status


def test_a_nearly_symmetric_crystal_is_labelled_without_symmetry(tmp_path):
    """pw.x finds 48 operations in a cell that is off by 1e-7, and projwfc.x stops at the first of them."""
    crystals = CrystalSet.concatenate([nearly(silicon()), silicon()])
    assert dict(label(crystals, CHEAP, tmp_path)) == {0: "ok", 1: "ok"}
    labelled, _ = gather(crystals, CHEAP, tmp_path)
    np.testing.assert_allclose(*labelled.crystal_columns["energy"], atol=1e-4)
    np.testing.assert_allclose(*labelled.atom_columns["dos"].reshape(2, 2, -1), atol=0.02)


def test_a_defective_crystal_is_recorded(tmp_path):
    flat = silicon().replace(lattices=np.ones((1, 3, 3)))
    ((_, status),) = label(flat, CHEAP, tmp_path)
    assert "its lattice vectors lie in a plane" in status


def test_a_missing_program_ends_the_run_and_is_no_crystals_fault(tmp_path):
    with pytest.raises(ContentError, match="no-such-program is not installed"):
        list(label(silicon(), NOWHERE, tmp_path))
    assert gather(silicon(), CHEAP, tmp_path)[1] == {"not computed": 1}


def test_outliers_are_left_out_with_the_reason_but_kept_as_records(run, tmp_path):
    """A crystal squeezed to a third of its volume: pw.x converges, nobody wants it."""
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell * (1 / 3) ** (1 / 3), scale_atoms=True)
    squeezed = CrystalSet.from_ase(atoms)
    assert dict(label(squeezed, CHEAP, tmp_path)) == {0: "ok"}
    labelled, counts = gather(squeezed, CHEAP, tmp_path)
    assert len(labelled) == 0
    assert counts == {"outlier: a stress above 500 GPa": 1}
    assert record_path(tmp_path, squeezed, CHEAP).exists()
