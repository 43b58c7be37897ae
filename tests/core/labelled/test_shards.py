"""Sets that grow by shards: nothing is written again, nothing moves from one split to another."""

import itertools
import json

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import Splits
from aiida_dosmatgen.core.labelled.prototypes import UNKNOWN, prototype_of
from aiida_dosmatgen.core.labelled.reserved import RESERVED, digest_of, reserved_in
from aiida_dosmatgen.core.labelled.shards import (
    MANIFEST,
    add_shard,
    complete_manifest,
    in_shards,
    load_shards,
    read_manifest,
)
from aiida_dosmatgen.core.labelled.splits import SPLIT_NAMES, assign, chosen, systems_of


@pytest.fixture
def named(crystals):
    return crystals.with_columns(crystal={"source": np.array(["mp", "mp", "own"]), "id": np.array(["1", "2", "1"])})


def without_prototypes(crystals):
    return crystals.replace(crystal_columns={k: v for k, v in crystals.crystal_columns.items() if k != "prototype"})


def test_a_set_grows_by_shards_that_are_never_written_again(named, tmp_path):
    first = add_shard(tmp_path, named[[0, 2]], {"cutoff": 70})
    content = first.read_bytes()
    assert add_shard(tmp_path, named[[0, 2]], {"cutoff": 70}) is None
    second = add_shard(tmp_path, named, {"cutoff": 70})
    assert first.read_bytes() == content
    assert [shard["n_crystals"] for shard in read_manifest(tmp_path)["shards"]] == [2, 1]
    assert second.name == "shard-0002.npz"
    assert without_prototypes(load_shards(tmp_path)) == named[[0, 2, 1]]


def test_crystals_of_a_source_without_ids_are_told_apart(crystals, tmp_path):
    nameless = crystals.with_columns(crystal={"source": np.array(["own"] * 3), "id": np.array(["own"] * 3)})
    add_shard(tmp_path, nameless[[0]], {})
    add_shard(tmp_path, nameless, {})
    assert without_prototypes(load_shards(tmp_path)) == nameless


def test_crystals_that_the_shards_have_are_found_in_spite_of_the_last_digits(named, tmp_path):
    assert not in_shards(tmp_path, named).any()
    add_shard(tmp_path, named[[0, 2]], {})
    noise = np.random.default_rng(0).normal(0, 1e-7, named.fractional.shape)
    assert in_shards(tmp_path, named.replace(fractional=named.fractional + 1 + noise)).tolist() == [True, False, True]
    elsewhere = named.with_columns(crystal={"id": np.array(["1", "2", "9"])})
    assert in_shards(tmp_path, elsewhere).tolist() == [True, False, False]
    assert not in_shards(tmp_path, named.replace(lattices=named.lattices * 1.01)).any()


def test_labels_of_other_settings_do_not_mix(named, tmp_path):
    add_shard(tmp_path, named[[0]], {"cutoff": 70})
    with pytest.raises(ContentError, match="other settings"):
        add_shard(tmp_path, named, {"cutoff": 80})


def test_a_shard_that_changed_is_noticed(named, tmp_path):
    path = add_shard(tmp_path, named, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContentError, match="not the file"):
        load_shards(tmp_path)


def test_what_is_no_manifest_is_refused(crystals, named, tmp_path):
    with pytest.raises(ContentError, match="no column 'source'"):
        add_shard(tmp_path, crystals, {})
    with pytest.raises(ContentError, match="lists shards"):
        load_shards(tmp_path)
    add_shard(tmp_path, named, {})
    manifest = tmp_path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
    with pytest.raises(ContentError, match="newer"):
        load_shards(tmp_path)
    manifest.write_text("{}")
    with pytest.raises(ContentError, match="not a manifest"):
        load_shards(tmp_path)


def test_crystals_stay_in_their_splits_when_a_shard_is_added(tmp_path):
    pairs = list(itertools.combinations(["Si", "C", "Ge", "Sn", "B", "Al", "Ga", "N", "P", "As"], 2))
    atoms = [bulk(f"{a}{b}", kind, a=5.0) for a, b in pairs for kind in ("zincblende", "rocksalt")]
    made = CrystalSet.from_ase(atoms)
    ids = np.array([str(i) for i in range(len(made))])
    made = made.with_columns(crystal={"source": np.full(len(made), "own"), "id": ids})
    splits = Splits(system_fraction=0.2, prototype_fraction=0.4, final_fraction=0.2, seed=0)
    add_shard(tmp_path, made[:30], {}, splits=splits)
    before = load_shards(tmp_path)
    add_shard(tmp_path, made, {})
    after = load_shards(tmp_path)
    columns = {name: after.crystal_columns[name] for name in ("split", "prototype", "id")}
    assert columns["split"][:30].tolist() == before.crystal_columns["split"].tolist()
    assert set(columns["split"]) == set(SPLIT_NAMES)
    assert columns["id"].tolist() == ids.tolist()
    alone = assign(after, **splits.model_dump())
    assert alone.tolist() == columns["split"].tolist()
    systems = np.array(systems_of(after))
    for name in ("test-system", "test-final"):
        assert not set(systems[columns["split"] == name]) & set(systems[columns["split"] != name])
    with pytest.raises(ContentError, match="splits of .* are others"):
        add_shard(tmp_path, made, {}, splits=Splits(seed=99))


def test_a_manifest_of_before_is_completed_without_a_shard_being_written(named, tmp_path):
    path = add_shard(tmp_path, named, {})
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    prototypes = manifest["shards"][0].pop("prototypes")
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert "prototype" not in load_shards(tmp_path).crystal_columns
    content = path.read_bytes()
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"splits": Splits(final_fraction=0.5).model_dump()}))
    loaded = load_shards(tmp_path)  # nothing is learnt from by mistake
    assert loaded.crystal_columns["prototype"].tolist() == prototypes and "split" in loaded.crystal_columns
    complete_manifest(tmp_path, splits=Splits(final_fraction=0.5))
    assert path.read_bytes() == content
    assert read_manifest(tmp_path)["shards"][0]["prototypes"] == prototypes
    assert load_shards(tmp_path) == loaded
    assert set(loaded.crystal_columns["split"]) <= set(SPLIT_NAMES)


def test_a_prototype_that_was_unknown_is_told_when_the_parent_is_there(tmp_path):
    parent = CrystalSet.from_ase(bulk("SiC", "zincblende", a=4.36))
    atoms = parent.to_ase()[0]
    atoms.rattle(0.05, seed=1)
    origin = {"source": np.array(["own"]), "id": np.array(["1 displaced 0.10"])}
    add_shard(tmp_path, CrystalSet.from_ase(atoms).with_columns(crystal=origin), {}, splits=Splits())
    assert read_manifest(tmp_path)["shards"][0]["prototypes"] == [UNKNOWN]
    parent = parent.with_columns(crystal={"source": np.array(["own"]), "id": np.array(["1"])})
    manifest = complete_manifest(tmp_path, [parent])
    assert manifest["shards"][0]["prototypes"] == [prototype_of(parent)]


def test_real_crystals_of_one_split(named, tmp_path):
    kinds = named.with_columns(crystal={"kind": np.array(["real", "scaled", "real"])})
    split = kinds.with_columns(crystal={"split": np.array(["train", "train", "test-final"])})
    assert chosen(split, ["train"], ["real"]) == split[[0]]
    assert chosen(split, ["test-final"]) == split[[2]] and chosen(split) == split
    with pytest.raises(ContentError, match="no split 'final'"):
        chosen(split, ["final"])
    with pytest.raises(ContentError, match="no crystal is of"):
        chosen(split, ["test-final"], ["scaled"])
    with pytest.raises(ContentError, match="no column 'kind'"):
        chosen(named, kinds=["real"])


def test_reserved_systems_never_enter(tmp_path):
    atoms = [bulk("GaN", "zincblende", a=4.5), bulk("Si"), bulk("NGa", "rocksalt", a=4.3)]
    made = CrystalSet.from_ase(atoms).with_columns(crystal={"source": np.full(3, "own"), "id": np.array(["1", "2", "3"])})
    (tmp_path / RESERVED).write_text(digest_of("N-Ga") + "\n" + digest_of("C-Si") + "\n")
    assert reserved_in(made, tmp_path) == ["Ga-N"] and reserved_in(made[[1]], tmp_path) == []
    with pytest.raises(ContentError, match="Ga-N: .* keeps these systems out"):
        add_shard(tmp_path, made, {})
    add_shard(tmp_path, made[[1]], {})
    assert len(load_shards(tmp_path)) == 1
