"""The target node: what it stores, from what it is made, what it refuses."""

import json

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_stored_and_loaded(target):
    node = load_node(DosTargetData(target, label_source="a test").store().pk)
    assert isinstance(node, DosTargetData)
    np.testing.assert_array_equal(node.target.curves, target.curves)
    assert node.base.attributes.all == {
        "kind": "sites",
        "n_sites": 2,
        "sites": None,
        "n_atoms": 2,
        "complete_below": 6.0,
        "low": -10.0,
        "high": 6.0,
        "sigma": 0.3,
        "zero": None,
        "gap": None,
        "meaning": "projections",
        "projected": None,
        "label_source": "a test",
        "sha256": node.sha256,
        "filename": "target.npz",
    }


def test_sha256_is_that_of_the_file_and_can_be_queried(target, tmp_path):
    target.save(tmp_path / "mine.npz")
    node = DosTargetData.from_file(tmp_path / "mine.npz").store()
    assert node.sha256 == sha256_of(tmp_path / "mine.npz")
    query = QueryBuilder().append(DosTargetData, filters=DosTargetData.fields.sha256 == node.sha256, project="uuid")
    assert node.uuid in query.all(flat=True)


def test_equal_targets_have_equal_hashes(target):
    first, second = DosTargetData(target).store(), DosTargetData(target).store()
    assert first.sha256 == second.sha256
    assert first.base.caching.get_hash() == second.base.caching.get_hash()


def test_from_csv_of_a_total_curve(tmp_path):
    path = tmp_path / "dos.csv"
    energies = np.linspace(-12, 5, 300)
    np.savetxt(path, np.column_stack([energies, 8 * np.exp(-(energies**2))]), delimiter=",", header="E,dos")
    node = DosTargetData.from_file(path, n_atoms=4)
    assert (node.target.kind, node.target.n_atoms, node.target.complete_below) == ("total", 4, 5.0)
    assert node.target.curves.max() == pytest.approx(2, abs=0.01)
    assert node.base.attributes.get("label_source") == "dos.csv"


def write_json(path, **changes):
    record = {"energies": [-1.0, 0.0, 1.0], "sites": [[1.0, 2.0, 1.0], [0.0, 1.0, 0.0]], **changes}
    path.write_text(json.dumps(record))
    return path


def test_from_json_of_sites(tmp_path):
    assert DosTargetData.from_file(write_json(tmp_path / "t.json")).target.n_atoms == 2


def test_chosen_sites_are_attributes_to_query(tmp_path):
    node = DosTargetData.from_file(write_json(tmp_path / "t.json", site_indices=[3, 1])).store()
    assert load_node(node.pk).target.sites == (1, 3)
    assert (node.base.attributes.get("sites"), node.base.attributes.get("n_atoms")) == ([1, 3], None)

    def found(site: int) -> int:
        filters = {"id": node.pk, "attributes.sites": {"contains": [site]}}
        return QueryBuilder().append(DosTargetData, filters=filters).count()

    assert (found(3), found(2)) == (1, 0)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"site_indices": [2, 2]}, "site 2 is given 2 times"),
        ({"sites": [[1.0, float("nan"), 1.0]]}, "NaN"),
        ({"sites": [[1.0, -2.0, 1.0]]}, "negative"),
        ({"energies": [0.0, -1.0, 1.0]}, "neither rise nor fall throughout: -1 eV follows 0 eV"),
        ({"sites": [[1.0, 2.0]]}, "3 energies but 2 values"),
        ({"sites": [[1.0, 2.0, 1.0], [1.0, 2.0]]}, "all of one length"),
        ({"sites": [[0.0, 0.0, 0.0]]}, "zero everywhere"),
        ({"n_atoms": 3}, "2 site curves but 3 atoms"),
        ({"unit": "eV"}, "unknown: ['unit']"),
    ],
)
def test_bad_content_is_refused_with_one_line(tmp_path, changes, words):
    with pytest.raises(ValidationError) as error:
        DosTargetData.from_file(write_json(tmp_path / "t.json", **changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_foreign_and_truncated_files(tmp_path, target, crystals):
    binary = tmp_path / "picture.csv"
    binary.write_bytes(b"\x89PNG\xff\xfe\x00")
    foreign = tmp_path / "crystals.npz"
    crystals.save(foreign)
    whole = tmp_path / "target.npz"
    target.save(whole)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole.read_bytes()[:-40])
    for path, words in [
        (tmp_path / "none.csv", "does not exist"),
        (tmp_path / "none.npz", "does not exist"),
        (binary, "picture.csv is a picture; digitise the curve"),
        (foreign, "holds 'dosmatgen-crystals', not 'dosmatgen-target'"),
        (cut, "not a whole dosmatgen-target file"),
    ]:
        with pytest.raises(ValidationError, match=words) as error:
            DosTargetData.from_file(path)
        assert "\n" not in str(error.value)


def test_an_empty_node_cannot_be_stored():
    with pytest.raises(ValidationError):
        DosTargetData().store()


def test_from_labelled(labelled):
    node = LabelledCrystalSetData(labelled).store()
    made = DosTargetData.from_labelled(node, 2)
    np.testing.assert_allclose(made.target.curves, labelled[2].atom_columns["dos"])
    assert made.target.complete_below == 6.0
    with pytest.raises(ValidationError, match="there is no crystal 3; the set has crystals 0 to 2"):
        DosTargetData.from_labelled(node, 3)


def test_from_crystals_without_labels(crystals):
    with pytest.raises(ValidationError, match="no columns dos and complete_below"):
        DosTargetData.from_labelled(CrystalSetData(crystals), 0)


# --- pymatgen ---------------------------------------------------------------------------------------------------------


def complete_dos(crystals, gap, efermi, spins=1):
    """Two sites with flat bands of three states below zero and some above ``gap``, in absolute energies shifted by 5 eV."""
    from pymatgen.electronic_structure.core import Orbital, Spin
    from pymatgen.electronic_structure.dos import CompleteDos, Dos

    structure = crystals[1].to_pymatgen()[0]
    energies = np.linspace(-15, 25, 4001)
    relative = energies - 5.0
    curve = np.where((relative > -3) & (relative <= 0), 1.0, 0.0) + np.where((relative > gap) & (relative < 4), 0.5, 0.0)
    density = {Spin.up: curve / spins} if spins == 1 else {Spin.up: curve / 2, Spin.down: curve / 2}
    pdos = {site: {Orbital.s: density, Orbital.px: density} for site in structure}
    total = Dos(efermi, energies, {spin: 4 * values for spin, values in density.items()})
    return CompleteDos(structure, total, pdos)


@pytest.mark.parametrize("spins", [1, 2])
def test_from_complete_dos_of_an_insulator_is_aligned_by_its_valence_band(crystals, spins):
    node = DosTargetData.from_complete_dos(complete_dos(crystals, gap=2.0, efermi=6.3, spins=spins), sigma=0.1)
    target = node.target
    assert (target.kind, target.n_atoms) == ("sites", 2)
    np.testing.assert_allclose(target.curves.sum(1) * target.grid.spacing, 2 * (3 + 0.5 * 2), rtol=0.01)
    below = target.grid.points < 0
    np.testing.assert_allclose(target.curves[:, below].sum(1) * target.grid.spacing, 2 * 3, rtol=0.05)
    assert (target.low, target.high) == (pytest.approx(-20, abs=0.3), pytest.approx(19.8, abs=0.3))
    assert (target.dos.zero, target.dos.gap, target.sigma) == ("vbm", pytest.approx(2, abs=0.02), 0.1)
    assert (target.dos.meaning, target.dos.projected) == ("partition", pytest.approx(1))
    assert target.dos.channels == ("s", "p", "d", "f") and target.dos.values.shape[1:3] == (spins, 4)
    np.testing.assert_allclose(target.dos.values[:, :, 0], target.dos.values[:, :, 1])


def test_from_complete_dos_of_a_metal_is_aligned_by_its_fermi_energy(crystals):
    node = DosTargetData.from_complete_dos(complete_dos(crystals, gap=0.0, efermi=4.0), sigma=0)
    points = node.target.grid.points
    assert (node.target.dos.zero, node.target.dos.gap, node.target.sigma) == ("fermi", 0, None)
    assert node.target.curves[0, np.argmin(abs(points - 0.5))] == pytest.approx(2.0)
    assert node.target.curves[0, np.argmin(abs(points + 2.5))] == pytest.approx(0.0)


def test_sites_of_a_complete_dos_are_scaled_to_the_total(crystals):
    whole, seen = (complete_dos(crystals, gap=2.0, efermi=6.3) for _ in range(2))
    for orbitals in seen.pdos.values():
        for orbital, densities in orbitals.items():
            orbitals[orbital] = {spin: 0.43 * values for spin, values in densities.items()}
    first, second = (DosTargetData.from_complete_dos(dos) for dos in (whole, seen))
    np.testing.assert_allclose(second.target.curves, first.target.curves, atol=1e-9)
    assert second.base.attributes.get("projected") == pytest.approx(0.43)
    assert "scaled from 43.0%" in second.base.attributes.get("label_source")


def test_a_complete_dos_without_its_electrons_is_refused(crystals):
    dos = complete_dos(crystals, gap=2.0, efermi=6.3)
    assert DosTargetData.from_complete_dos(dos, n_electrons=12).target.dos.n_electrons == 12
    with pytest.raises(ValidationError, match=r"holds 11.98 of 200 electrons below its Fermi energy"):
        DosTargetData.from_complete_dos(dos, n_electrons=200)
    for spin in dos.densities:
        dos.densities[spin] = 0.05 * dos.densities[spin]
    with pytest.raises(ValidationError, match="SiC: 2 atoms with 0.60 electrons below zero"):
        DosTargetData.from_complete_dos(dos)


def test_a_coarse_mesh_of_energies_is_warned_of(crystals):
    from pymatgen.electronic_structure.dos import CompleteDos, Dos

    fine = complete_dos(crystals, gap=2.0, efermi=6.3)

    def every(densities):
        return {spin: values[::20] for spin, values in densities.items()}

    pdos = {site: {orbital: every(d) for orbital, d in orbitals.items()} for site, orbitals in fine.pdos.items()}
    coarse = CompleteDos(fine.structure, Dos(fine.efermi, fine.energies[::20], every(fine.densities)), pdos)
    with pytest.warns(UserWarning, match=r"energies 0.2 eV apart: the zero may be off by as much; compute 801 energies"):
        DosTargetData.from_complete_dos(coarse)


def test_from_complete_dos_with_nan(crystals):
    from pymatgen.electronic_structure.core import Spin

    dos = complete_dos(crystals, gap=2.0, efermi=6.0)
    for orbitals in dos.pdos.values():
        for density in orbitals.values():
            density[Spin.up][7] = np.nan
    with pytest.raises(ValidationError, match="NaN"):
        DosTargetData.from_complete_dos(dos)


def test_from_complete_dos_without_projections(crystals):
    dos = complete_dos(crystals, gap=2.0, efermi=6.0)
    dos.pdos = {}
    with pytest.raises(ValidationError, match="no site projections"):
        DosTargetData.from_complete_dos(dos)


def test_a_target_without_limit_is_stored_as_none():
    node = DosTargetData(DosTarget(np.ones(DEFAULT_GRID.n), "total", 2))
    assert node.base.attributes.get("complete_below") is None
    assert node.target.complete_below == np.inf
