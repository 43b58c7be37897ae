"""The hash inside a safetensors file."""

import hashlib
import io
import json
import struct

import pytest

from aiida_dosmatgen.core.files import checksum


def without_checksum(metadata: dict, data: bytes = b"abcd") -> bytes:
    text = json.dumps({"__metadata__": metadata, "w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_it_is_the_hash_of_the_file_with_zeros_in_its_place():
    content = without_checksum({"a": "b", checksum.KEY: checksum.PLACEHOLDER})
    found = checksum.with_checksum(content)
    digest = hashlib.sha256(content).hexdigest()
    assert found == content.replace(checksum.PLACEHOLDER.encode(), digest.encode())
    assert checksum.is_intact(io.BytesIO(found), digest)
    assert not checksum.is_intact(io.BytesIO(found), digest.upper())
    assert not checksum.is_intact(io.BytesIO(found[:-1] + b"e"), digest)
    for other in (None, 1, "", checksum.PLACEHOLDER, "a" * 64):
        assert not checksum.is_intact(io.BytesIO(found), other)


def test_other_zeros_stay_zeros():
    inner = json.dumps({checksum.KEY: checksum.PLACEHOLDER, "dataset_sha256": checksum.PLACEHOLDER})
    found = checksum.with_checksum(without_checksum({"first": inner, checksum.KEY: checksum.PLACEHOLDER, "last": inner}))
    metadata = json.loads(found[8:-4])["__metadata__"]
    assert metadata["first"] == metadata["last"] == inner
    assert checksum.is_intact(io.BytesIO(found), metadata[checksum.KEY])


def test_only_what_asks_for_it_gets_a_checksum():
    with pytest.raises(ValueError, match="no entry 'sha256' of 64 zeros"):
        checksum.with_checksum(without_checksum({"a": checksum.PLACEHOLDER}))
