"""Checkpoints: what is loaded predicts what was saved; what does not fit is refused."""

import numpy as np
import pytest
import safetensors.torch
import torch

from aiida_dosmatgen.core.checkpoint_header import CheckpointHeader, TrainingHeader, read_header
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.engine.checkpoint import build_model, load_model, save_model

SIZES = {
    "predictor": {"width": 16, "layers": 1, "members": 2},
    "denoiser": {"width": 16, "layers": 1, "frequencies": 2},
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


@pytest.mark.parametrize("kind", ["predictor", "denoiser"])
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


def test_tensors_must_fit_the_header(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model = build_model(header("predictor"))
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    wider = header("predictor").model_copy(update={"architecture": {"width": 24, "layers": 1, "members": 2}})
    unknown = header("predictor").model_copy(update={"architecture": {"depth": 3}})
    for wrong in (wider, unknown):
        safetensors.torch.save_file(tensors, path, wrong.to_metadata())
        with pytest.raises(ContentError, match="the tensors are not those of the predictor") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state": Trap()}, tmp_path / "model.pt")
    with pytest.raises(ContentError, match="is a pickle"):
        load_model(tmp_path / "model.pt")
    assert not (tmp_path / "sprung").exists()


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_model(path, build_model(header("predictor")), header("predictor"))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(content), 20):
        path.write_bytes(content[:length])
        with pytest.raises(ContentError):
            load_model(path)
