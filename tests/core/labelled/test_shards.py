import json

import numpy as np
import pytest

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.shards import MANIFEST, add_shard, load_shards, read_manifest


@pytest.fixture
def named(crystals):
    return crystals.with_columns(crystal={"source": np.array(["mp", "mp", "own"]), "id": np.array(["1", "2", "1"])})


def test_a_set_grows_by_shards_that_are_never_written_again(named, tmp_path):
    first = add_shard(tmp_path, named[[0, 2]], {"cutoff": 70})
    content = first.read_bytes()
    assert add_shard(tmp_path, named[[0, 2]], {"cutoff": 70}) is None
    second = add_shard(tmp_path, named, {"cutoff": 70})
    assert first.read_bytes() == content
    assert [shard["n_crystals"] for shard in read_manifest(tmp_path)["shards"]] == [2, 1]
    assert second.name == "shard-0002.npz"
    assert load_shards(tmp_path) == named[[0, 2, 1]]


def test_crystals_of_a_source_without_ids_are_told_apart(crystals, tmp_path):
    nameless = crystals.with_columns(crystal={"source": np.array(["own"] * 3), "id": np.array(["own"] * 3)})
    add_shard(tmp_path, nameless[[0]], {})
    add_shard(tmp_path, nameless, {})
    assert load_shards(tmp_path) == nameless


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
