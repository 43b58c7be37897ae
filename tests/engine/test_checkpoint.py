"""Checkpoints: what is loaded predicts what was saved; what does not fit is refused."""

import pickle

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, TrainingHeader, read_header
from aiida_dosmatgen.engine.checkpoint import build_model, load_model, save_model, save_tensors

SIZES = {
    "predictor": {"width": 16, "layers": 1, "members": 2},
    "denoiser": {"width": 16, "layers": 1, "frequencies": 2, "max_atoms": 5},
    "classifier": {"width": 16, "layers": 1, "frequencies": 2},
}


def header(kind: str) -> CheckpointHeader:
    return CheckpointHeader(
        kind=kind,
        architecture=SIZES[kind],
        elements=["C", "Si"],
        grid=EnergyGrid(),
        sigma=0.3,
        training=TrainingHeader(dataset_sha256="ab", n_crystals=1, seed=0, epochs=1, parameters={}),
        engine_version="0",
    )


@pytest.mark.parametrize("kind", SIZES)
def test_save_and_load(kind, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model = build_model(header(kind))
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor))
    save_model(path, model, header(kind))
    assert read_header(path) == header(kind)
    loaded, found = load_model(path)
    assert found == header(kind)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    double, _ = load_model(path, dtype=torch.float64)
    assert all(p.dtype == torch.float64 for p in double.parameters())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    other = "predictor" if kind == "denoiser" else "denoiser"
    with pytest.raises(ContentError, match=f"is a {kind}, but a {other} is needed"):
        load_model(path, kind=other)


def test_equal_models_are_equal_files(tmp_path):
    model = build_model(header("predictor"))
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for path in files:
        save_model(path, model, header("predictor"))
    assert len({path.read_bytes() for path in files}) == 1


def test_tensors_must_fit_the_header(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model = build_model(header("predictor"))
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    wider = header("predictor").model_copy(update={"architecture": {"width": 24, "layers": 1, "members": 2}})
    unknown = header("predictor").model_copy(update={"architecture": {"depth": 3}})
    for wrong in (wider, unknown):
        save_tensors(path, tensors, wrong.to_metadata())
        with pytest.raises(ContentError, match="the tensors are not those of the predictor") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


class Trap:
    """A pickle of it leaves a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_never_loaded(tmp_path):
    path, sprung = tmp_path / "checkpoint.safetensors", tmp_path / "sprung"
    torch.save({"state": Trap(sprung)}, path)  # under another name
    with pytest.raises(ContentError, match="is a pickle"):
        load_model(path)
    # inside a file that is in order otherwise: as a tensor of bytes, as an entry of the header, and after the end
    poison = pickle.dumps(Trap(sprung))
    model = build_model(header("predictor"))
    state = dict(model.state_dict())
    save_tensors(
        path, {**state, "extra": torch.frombuffer(bytearray(poison), dtype=torch.uint8)}, header("predictor").to_metadata()
    )
    with pytest.raises(ContentError, match="the tensors are not those of the predictor"):
        load_model(path)
    save_model(path, model, header("predictor").model_copy(update={"metrics": {"loss": poison.hex()}}))
    assert load_model(path)[1].metrics == {"loss": poison.hex()}  # a text like any other
    path.write_bytes(path.read_bytes() + poison)
    with pytest.raises(ContentError, match="bytes too many"):
        load_model(path)
    assert not sprung.exists()


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_model(path, build_model(header("predictor")), header("predictor"))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(content), 20):
        path.write_bytes(content[:length])
        with pytest.raises(ContentError):
            load_model(path)
    for place in rng.integers(0, len(content), 20):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        for read in (load_model, read_header):
            with pytest.raises(ContentError) as caught:
                read(path)
            assert "\n" not in str(caught.value)
    path.write_bytes(content)
    load_model(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ContentError, match="does not exist"):
        load_model(tmp_path / "missing")
    with pytest.raises(ContentError, match="is a folder"):
        load_model(tmp_path)
