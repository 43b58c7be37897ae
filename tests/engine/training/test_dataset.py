"""Data sets: nothing is lost or rotated on the way, batches hold each crystal once, no formula is on both sides."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID, EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.engine.batch import to_dense
from aiida_dosmatgen.engine.niggli import niggli
from aiida_dosmatgen.engine.training import dataset as ds

from ..labelled import labelled


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    return labelled()


def neighbours(crystal: CrystalSet, count: int = 8) -> np.ndarray:
    """Distances of each ordered pair of atoms to the nearest images, shape (N, N, count)."""
    shifts = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), -1).reshape(-1, 3) @ crystal.lattices[0]
    difference = crystal.positions[None] - crystal.positions[:, None]
    return np.sort(np.linalg.norm(difference[:, :, None] + shifts, axis=-1), -1)[..., :count]


def test_niggli_cells_hold_the_same_crystals(crystals):
    skewed = crystals.replace(lattices=np.array([[[1, 0, 0], [2, 1, 0], [-1, 1, 1]]]) @ crystals.lattices)
    inverse = np.linalg.inv(np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]]))
    skewed = skewed.replace(fractional=crystals.fractional @ inverse)
    reduced = niggli(skewed)
    for before, after in zip(crystals, reduced, strict=True):
        np.testing.assert_allclose(neighbours(after), neighbours(before), atol=1e-6)
    assert (np.linalg.det(reduced.lattices) > 0).all()
    assert ((reduced.fractional >= 0) & (reduced.fractional < 1)).all()
    np.testing.assert_array_equal(reduced.numbers, crystals.numbers)
    # a Niggli cell's shape is unique, whatever cell it came from
    metrics = [np.sort(np.linalg.norm(niggli(c).lattices, axis=-1), -1) for c in (crystals, skewed)]
    np.testing.assert_allclose(*metrics, atol=1e-6)
    # a crystal that is not rotated keeps its lattice points: the new vectors are whole combinations of the old
    combinations = reduced.lattices @ np.linalg.inv(crystals.lattices)
    np.testing.assert_allclose(combinations, np.round(combinations), atol=1e-6)


def test_a_left_handed_cell_becomes_right_handed(crystals):
    mirrored = crystals[5].replace(lattices=crystals[5].lattices[:, [1, 0, 2]], fractional=crystals[5].fractional[:, [1, 0, 2]])
    reduced = niggli(mirrored)
    assert np.linalg.det(reduced.lattices[0]) > 0
    np.testing.assert_allclose(neighbours(reduced), neighbours(crystals[5]), atol=1e-6)


def test_niggli_leaves_broken_cells_to_others(crystals):
    broken = crystals[:2].replace(lattices=np.stack([np.full((3, 3), np.nan), crystals.lattices[1]]))
    assert np.isnan(niggli(broken).lattices[0]).all()
    assert niggli(broken)[1] == ds.niggli(crystals[1])


def test_dense_batches_hold_every_crystal_once(crystals):
    elements = ds.vocabulary(crystals)
    assert elements == ["C", "Si", "Ge"]
    data = ds.LabelledDataset(ds.with_formation_energies(crystals), elements)
    sampler = ds.SizeBuckets(crystals.n_atoms, 7, seed=3)
    seen = []
    for batch in DataLoader(data, batch_sampler=sampler):
        dense = to_dense(batch)
        for row in range(len(dense)):
            n = int(dense.n_atoms[row])
            assert not dense.dos[row, n:].any()
            seen.append(
                (float(dense.lattices[row].det().abs()), float(dense.dos[row, :n].sum()), float(batch.formation_energy[row]))
            )
    sums = np.bincount(crystals.crystal_of_atom, weights=crystals.atom_columns["dos"].sum(-1))
    energies = ds.with_formation_energies(crystals).crystal_columns["formation_energy"]
    np.testing.assert_allclose(
        np.sort(seen, 0), np.sort(np.stack([crystals.volumes, sums, energies], -1), 0), rtol=1e-4, atol=1e-5
    )


def test_buckets_are_another_division_each_epoch_and_the_same_when_repeated():
    sizes = np.repeat([1, 2, 4, 8], 10)
    sampler = ds.SizeBuckets(sizes, 8, seed=1)
    first = list(sampler)
    assert sorted(i for batch in first for i in batch) == list(range(40))
    assert list(ds.SizeBuckets(sizes, 8, seed=1)) == first
    sampler.epoch = 1
    assert list(sampler) != first
    assert len(first) == len(sampler) == 5
    assert np.mean([len(set(sizes[b])) for b in first]) < 2.5


def test_labels_are_required(crystals, tmp_path):
    with pytest.raises(ContentError, match="no column 'dos'"):
        ds.check_labels(crystals.replace(atom_columns={}))
    with pytest.raises(ContentError, match="no column 'complete_below'"):
        ds.check_labels(crystals.replace(crystal_columns={}))
    dos = crystals.atom_columns["dos"].copy()
    dos[crystals.offsets[7]] = np.nan
    with pytest.raises(ContentError, match="crystal 7: the dos has NaN"):
        ds.check_labels(crystals.with_columns(atom={"dos": dos}))
    limit = np.where(np.arange(len(crystals)) == 4, -11.0, 5.0)
    with pytest.raises(ContentError, match="crystal 4: its bands are complete below -11 eV"):
        ds.check_labels(crystals.with_columns(crystal={"complete_below": limit}))
    with pytest.raises(ContentError, match="contain Ge; the model knows only C Si"):
        ds.LabelledDataset(crystals, ["C", "Si"])
    failed = crystals.with_columns(crystal={"status": np.full(len(crystals), "did not converge")})
    failed.save(tmp_path / "failed.npz")
    with pytest.raises(ContentError, match="no labelled crystals"):
        ds.load_labelled(tmp_path / "failed.npz")


def test_mp_dos_records_load_alike(tmp_path):
    record = {
        "structure_id": "mp-1",
        "positions": [[0.0, 0.0, 0.0], [1.1, 1.1, 1.1]],
        "cell": [[0, 2.2, 2.2], [2.2, 0, 2.2], [2.2, 2.2, 0]],
        "atomic_numbers": [14, 6],
        "y": np.ones((2, 400)).tolist(),
    }
    (tmp_path / "records.json").write_text(json.dumps([record]))
    crystals = ds.load_labelled(tmp_path / "records.json")
    data = ds.LabelledDataset(crystals, ds.vocabulary(crystals))[0]
    assert data.types.tolist() == [1, 0]
    assert float(data.complete_below) == 10.0
    assert torch.isnan(data.formation_energy).all()


def test_a_set_is_read_on_the_energies_of_its_header(tmp_path, crystals):
    grid = EnergyGrid(-15.0, 5.0, 401)
    points = DEFAULT_GRID.points
    some = crystals[:3].with_columns(crystal={"complete_below": np.full(3, np.inf)})
    moved = np.stack([np.interp(grid.points, points, c, left=0) for c in some.atom_columns["dos"]])
    some.with_columns(atom={"dos": moved}).save(tmp_path / "wide.npz", grid=dataclasses.asdict(grid))
    read = ds.load_labelled(tmp_path / "wide.npz")
    assert read.crystal_columns["complete_below"].tolist() == [5.0] * 3
    known = points < 5
    np.testing.assert_allclose(read.atom_columns["dos"][:, known], some.atom_columns["dos"][:, known], atol=0.01)
    sharper = EnergyGrid(-10.0, 10.0, 400)
    some.save(tmp_path / "same.npz", grid=dataclasses.asdict(sharper))
    with pytest.raises(ContentError, match=r"crystal 0 .* is broadened by 0.3 eV already") as info:
        ds.load_labelled(tmp_path / "same.npz", sigma=0.2)
    assert "\n" not in str(info.value)


def test_what_is_not_known_below_does_not_count(crystals):
    low = np.where(np.arange(len(crystals)) % 2, -4.0, -10.0)
    data = ds.LabelledDataset(crystals.with_columns(crystal={"low": low}), ds.vocabulary(crystals))
    assert [float(data[i].low) for i in (0, 1)] == [-np.inf, -4.0]
    assert to_dense(next(iter(DataLoader(data, batch_size=2)))).low.tolist() == [-np.inf, -4.0]
