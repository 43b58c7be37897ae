"""Archives: written whole or not at all, never unpickled."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.archive import load_arrays, save_arrays

HEADER = {"format": "things", "version": 2}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "things.npz"
    save_arrays(path, HEADER, {"a": np.arange(1000.0), "b": np.array(["Ω", "x"])})
    return path


@given(
    st.dictionaries(
        st.text("abcxyz:_-", min_size=1, max_size=8),
        hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), hnp.array_shapes(min_side=0)),
        max_size=3,
    ),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3),
)
def test_round_trip(tmp_path_factory, arrays, extra):
    path = tmp_path_factory.mktemp("archive") / "things.npz"
    header = {**extra, **HEADER}
    save_arrays(path, header, arrays)
    loaded_header, loaded = load_arrays(path, "things", 2)
    assert loaded_header == header
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_nothing_partial_is_left_behind(path):
    assert [p.name for p in path.parent.iterdir()] == ["things.npz"]


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 0.3, 0.9, -1])
def test_a_truncated_file_is_refused(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    refused(path, "not a whole things file|damaged")


def test_a_damaged_file_is_refused(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 50] = b"\xff" * 50
    path.write_bytes(content)
    refused(path, "not a whole things file|damaged")


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "no.npz", "does not exist")


def test_a_foreign_npz_is_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    refused(tmp_path / "foreign.npz", "no things header")


def test_a_foreign_text_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    refused(tmp_path / "text.npz", "not a whole things file")


def test_pickles_are_refused_unopened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("the file was unpickled",)

    path = tmp_path / "pickled.npz"
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "not a whole things file")
    np.savez(path, a=np.array([Bomb()], dtype=object))
    refused(path, "not a whole things file")


def test_a_bomb_is_refused_unread(tmp_path):
    """A hundred thousand bytes that are 96 MB when they are unpacked, in a path and in a stream."""
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(12_000_000))
    assert (tmp_path / "bomb.npz").stat().st_size < 150_000
    refused(tmp_path / "bomb.npz", "bytes and says that they are 96[0-9]{6};")
    with open(tmp_path / "bomb.npz", "rb") as stream, pytest.raises(ContentError, match="the file has"):
        load_arrays(stream, "things", 2)


def test_what_compresses_well_is_no_bomb(tmp_path):
    save_arrays(tmp_path / "zeros.npz", HEADER, {"a": np.zeros(8_000_000)})
    assert load_arrays(tmp_path / "zeros.npz", "things", 2)[1]["a"].shape == (8_000_000,)


@pytest.mark.parametrize("header", ["no JSON", "[1]", "[" * 100_000, '{"format": "things", "version": "x"}'])
def test_a_header_that_is_none(tmp_path, header):
    np.savez(tmp_path / "odd.npz", __header__=np.array(header))
    refused(tmp_path / "odd.npz", "holds None|format version x")


def test_another_kind_and_a_newer_version_are_refused(path):
    with pytest.raises(ContentError, match="holds 'things', not 'stuff'"):
        load_arrays(path, "stuff", 2)
    with pytest.raises(ContentError, match="version 2, newer than 1"):
        load_arrays(path, "things", 1)


def refused(path, message):
    with pytest.raises(ContentError, match=message) as info:
        load_arrays(path, "things", 2)
    assert path.name in str(info.value)
    assert "\n" not in str(info.value)
