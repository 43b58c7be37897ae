"""The checkpoint's header: read without torch, every other file refused in one line."""

import io
import json
import struct

import pytest

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files import checksum
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, read_header

HEADER = CheckpointHeader(
    kind="denoiser",
    architecture={"width": 8},
    elements=["C", "Si"],
    grid=EnergyGrid(),
    sigma=0.3,
    training={"dataset_sha256": "ab", "n_crystals": 3, "seed": 1, "epochs": 2, "parameters": {}},
    metrics={"loss": 0.5},
    engine_version="0.1.0",
)


def safetensors_bytes(metadata: dict | None, data: bytes = b"\0" * 8, checksummed: bool = True) -> bytes:
    """A safetensors file with one float32 tensor, as the format's specification says; with a checksum if it has metadata."""
    entries: dict = {"w": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}
    if metadata is not None:
        entries["__metadata__"] = {checksum.KEY: checksum.PLACEHOLDER, **metadata}
    text = json.dumps(entries).encode()
    content = struct.pack("<Q", len(text)) + text + data
    return checksum.with_checksum(content) if metadata is not None and checksummed else content


WHOLE = safetensors_bytes(HEADER.to_metadata())
NO_HASH = WHOLE.replace(b'"sha256"', b'"sha257"')


def changed(**entries) -> bytes:
    record = {**json.loads(HEADER.model_dump_json()), **entries}
    return safetensors_bytes({"dosmatgen": json.dumps({k: v for k, v in record.items() if v is not ...})})


def test_a_whole_file_is_read(tmp_path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(WHOLE)
    assert read_header(path) == read_header(str(path)) == read_header(io.BytesIO(WHOLE)) == HEADER


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty or truncated"),
        (b"abc", "empty or truncated"),
        (b"PK\x03\x04" + b"\0" * 100, "is a pickle"),
        (b"\x80\x02}q\x00." + b"\0" * 100, "is a pickle"),
        (b"#!/bin/sh\necho hello\n", "not a safetensors file"),
        (struct.pack("<Q", 20) + b"not json not json not", "not a safetensors file"),
        (struct.pack("<Q", 20) + b"{not json not json n", "not a safetensors file"),
        (struct.pack("<Q", 7) + b'{"w":1}', "not a safetensors file"),
        (safetensors_bytes(None), "another program"),
        (safetensors_bytes({"format": "pt"}), "another program"),
        (safetensors_bytes({"dosmatgen": "{"}), "not valid JSON"),
        (safetensors_bytes({"dosmatgen": "[]"}), "does not say"),
        (changed(format="other"), "does not say"),
        (changed(version=3), "version 3, newer than 2; update"),
        (changed(version=1), "version 1, older than 2 and without a hash; train it again"),
        (changed(version="2"), "version: Input should be 2"),
        (safetensors_bytes(HEADER.to_metadata(), checksummed=False), "does not have the sha256 that it carries"),
        (NO_HASH, "does not have the sha256 that it carries"),
        (struct.pack("<Q", 36) + b'{"w":{"data_offsets":[0, Infinity]}}', "not a safetensors file"),
        (struct.pack("<Q", 40_006) + b'{"w": ' + b"[" * 40_000, "not a safetensors file"),
        (changed(kind="oracle"), "kind: Input should be"),
        (changed(elements=[]), "elements: "),
        (changed(grid=...), "grid: Field required"),
        (changed(training={"seed": 1}), "training.dataset_sha256: Field required"),
        (changed(grid={"emin": 1.0, "emax": 0.0, "n": 400}), "grid: .*no energy grid"),
        (changed(surprise=1), "surprise: unknown key"),
        (WHOLE + b"x", "1 bytes too many"),
    ],
)
def test_other_files_are_refused_in_one_line(content, message):
    with pytest.raises(ContentError, match=message) as caught:
        read_header(io.BytesIO(content))
    assert "\n" not in str(caught.value)


def test_a_header_that_starts_like_a_pickle():
    paddings = (HEADER.model_copy(update={"metrics": {"note": "x" * n}}) for n in range(256))
    headers = {safetensors_bytes(header.to_metadata())[0]: header for header in paddings}
    assert len(headers) == 256  # each first byte that the length of a header can give
    for header in headers.values():
        assert read_header(io.BytesIO(safetensors_bytes(header.to_metadata()))) == header


def test_every_byte_counts():
    for place in range(len(WHOLE)):
        for flip in (1, 0x20, 0x80):  # 0x20 is the case of a letter, and a space is a NUL
            content = bytearray(WHOLE)
            content[place] ^= flip
            with pytest.raises(ContentError) as caught:
                read_header(io.BytesIO(content))
            assert "\n" not in str(caught.value)


def test_every_truncation_is_refused():
    for length in range(len(WHOLE)):
        with pytest.raises(ContentError, match="truncated"):
            read_header(io.BytesIO(WHOLE[:length]))


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(ContentError, match="does not exist"):
        read_header(tmp_path / "missing")
    with pytest.raises(ContentError, match="is a folder"):
        read_header(tmp_path)
