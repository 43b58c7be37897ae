"""The nodes of checkpoints and force fields: described and hashed, never loaded."""

import pickle
import struct
from pathlib import Path

import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node

from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.trust import validate_trust

pytestmark = pytest.mark.usefixtures("aiida_profile")

SHIPPED = Path(__file__).parents[2] / "aiida_dosmatgen" / "models" / "forcefield.model"


def test_checkpoint_stored_and_loaded(checkpoint_file):
    path = checkpoint_file("predictor", name="mine.safetensors")
    node = load_node(CheckpointData.from_file(path).store().pk)
    get = node.base.attributes.get
    assert node.sha256 == sha256_of(path)
    assert (get("kind"), get("elements"), get("version")) == ("predictor", ["B", "C", "N", "Si"], 2)
    assert get("dataset_sha256") == "0" * 64 and get("metrics") == {"loss": 0.5}
    assert node.header.kind == "predictor" and node.filename == "checkpoint.safetensors"


def test_checkpoint_is_found_by_its_hash(checkpoint_file):
    node = CheckpointData.from_file(checkpoint_file()).store()
    query = QueryBuilder().append(CheckpointData, filters=CheckpointData.fields.sha256 == node.sha256, project="uuid")
    assert node.uuid in query.all(flat=True)


def test_checkpoints_that_are_none(checkpoint_file, tmp_path):
    whole = checkpoint_file().read_bytes()
    text = b'{"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    cases = {
        "cut.safetensors": (whole[:-1], "truncated"),
        "header.safetensors": (whole[:60], "truncated"),
        "empty.safetensors": (b"", "empty or truncated"),
        "longer.safetensors": (whole + b"\0", "too many"),
        "pickle.pt": (pickle.dumps([1, 2]), "pickle"),
        "zip.model": (b"PK\x03\x04" + bytes(30), "pickle"),
        "text.safetensors": (b"this is a text, and no checkpoint at all", "not a safetensors file"),
        "foreign.safetensors": (struct.pack("<Q", len(text)) + text + bytes(4), "another program"),
        "newer.safetensors": (checkpoint_file(version=99).read_bytes(), "newer than 2; update"),
        "older.safetensors": (checkpoint_file(version=1).read_bytes(), "older than 2 .*; train it again"),
        "changed.safetensors": (whole[:-1] + b"\1", "does not have the sha256 that it carries"),
        "other.safetensors": (checkpoint_file(kind="oracle").read_bytes(), "kind"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValidationError, match=words) as error:
            CheckpointData.from_file(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(ValidationError, match="does not exist"):
        CheckpointData.from_file(tmp_path / "none.safetensors")


def test_force_field_file(model_file):
    node = load_node(ForceFieldData.from_file(model_file, elements=["Si", "C"]).store().pk)
    get = node.base.attributes.get
    assert (node.kind, node.name, node.sha256) == ("mace-file", "mace.model", sha256_of(model_file))
    assert (get("size"), get("elements")) == (model_file.stat().st_size, ["C", "Si"])
    assert node.job_section() == ForceField(file="forcefield.model", sha256=node.sha256)
    query = QueryBuilder().append(ForceFieldData, filters=ForceFieldData.fields.sha256 == node.sha256, project="uuid")
    assert node.uuid in query.all(flat=True)


@pytest.mark.usefixtures("aiida_profile_clean")  # no other test trusted it before
def test_a_model_file_is_trusted_by_its_hash_and_in_this_profile_only(model_file):
    node = ForceFieldData.from_file(model_file).store()
    assert not node.is_trusted
    refusal = validate_trust(node, None)
    assert "loading it runs the code in it" in refusal and f"forcefield trust {node.pk} {node.sha256}" in refusal
    node.base.extras.set("dosmatgen_trusted_in", ["the profile of whoever sent an archive"])
    assert not node.is_trusted
    with pytest.raises(ValidationError, match=f"hashes to {node.sha256}, not to {'0' * 64}"):
        node.trust("0" * 64)
    assert not node.is_trusted

    again = ForceFieldData.from_file(model_file, name="the same file").store()
    node.trust(node.sha256)
    assert validate_trust(node, None) is None
    assert again.is_trusted  # what is trusted is the hash
    assert ForceFieldData.from_file(model_file, trusted_sha256=node.sha256).is_trusted


def test_what_ships_is_trusted():
    assert ForceFieldData.from_file(SHIPPED).is_trusted


def test_force_field_by_name():
    foundation = ForceFieldData.from_foundation("medium-mpa-0").store()
    assert foundation.sha256 is None and foundation.is_trusted
    assert foundation.job_section() == ForceField(foundation="medium-mpa-0")
    calculator = ForceFieldData.from_calculator("ase.calculators.lj:LennardJones", sigma=2.0).store()
    assert calculator.job_section() == ForceField(calculator="ase.calculators.lj:LennardJones", arguments={"sigma": 2.0})
    assert foundation.base.caching.get_hash() != calculator.base.caching.get_hash()


def test_force_field_files_that_are_none(model_file, tmp_path, crystals):
    (tmp_path / "empty.model").write_bytes(b"")
    (tmp_path / "cut.model").write_bytes(model_file.read_bytes()[:-30])
    (tmp_path / "text.model").write_text("not a model")
    crystals.save(tmp_path / "crystals.npz")
    for name, words in [
        ("none.model", "does not exist"),
        ("empty.model", "is empty"),
        ("cut.model", "truncated or damaged"),
        ("text.model", "not a torch model file"),
        ("crystals.npz", "has no data.pkl"),
    ]:
        with pytest.raises(ValidationError, match=words) as error:
            ForceFieldData.from_file(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ForceFieldData.from_foundation(" "), "no name"),
        (lambda: ForceFieldData.from_calculator("an EMT"), "is neither the name of an entry point"),
        (lambda: ForceFieldData.from_calculator("os:system('rm')"), "is neither the name of an entry point"),
        (lambda: ForceFieldData("chgnet", "small"), "not 'chgnet'"),
        (lambda: ForceFieldData("mace-file", "small"), "has a file"),
        (lambda: ForceFieldData("foundation", "small", elements=["Xx"]), "'Xx' is not a chemical element"),
    ],
)
def test_force_fields_that_are_none(make, words):
    with pytest.raises(ValidationError, match=words):
        make()
