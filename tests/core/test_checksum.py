"""The hash inside a safetensors file."""

import hashlib
import io
import json
import struct

import pytest

from aiida_dosmatgen.core.files import checksum


def unsealed(metadata: dict, data: bytes = b"abcd") -> bytes:
    text = json.dumps({"__metadata__": metadata, "w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_it_is_the_hash_of_the_file_with_zeros_in_its_place():
    content = unsealed({"a": "b", checksum.KEY: checksum.PLACEHOLDER})
    sealed = checksum.with_checksum(content)
    digest = hashlib.sha256(content).hexdigest()
    assert sealed == content.replace(checksum.PLACEHOLDER.encode(), digest.encode())
    assert checksum.is_intact(io.BytesIO(sealed), digest)
    assert not checksum.is_intact(io.BytesIO(sealed), digest.upper())
    assert not checksum.is_intact(io.BytesIO(sealed[:-1] + b"e"), digest)
    for other in (None, 1, "", checksum.PLACEHOLDER, "a" * 64):
        assert not checksum.is_intact(io.BytesIO(sealed), other)


def test_other_zeros_stay_zeros():
    inner = json.dumps({checksum.KEY: checksum.PLACEHOLDER, "dataset_sha256": checksum.PLACEHOLDER})
    sealed = checksum.with_checksum(unsealed({"first": inner, checksum.KEY: checksum.PLACEHOLDER, "last": inner}))
    metadata = json.loads(sealed[8:-4])["__metadata__"]
    assert metadata["first"] == metadata["last"] == inner
    assert checksum.is_intact(io.BytesIO(sealed), metadata[checksum.KEY])


def test_only_what_asks_for_it_is_sealed():
    with pytest.raises(ValueError, match="no entry 'sha256' of 64 zeros"):
        checksum.with_checksum(unsealed({"a": checksum.PLACEHOLDER}))
