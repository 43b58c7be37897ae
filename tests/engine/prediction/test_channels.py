"""Curves by channel: they add up, they move as bands do, and a checkpoint that knows them learns, is calibrated and grows."""

from pathlib import Path

import ase.build
import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_energies
from aiida_dosmatgen.core.dos import DEFAULT_GRID, gaussian_dos
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, TrainingHeader, read_header
from aiida_dosmatgen.core.job import PredictJob, Splits, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.shards import add_shard, load_shards, read_manifest
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.commands import predict as command
from aiida_dosmatgen.engine.commands import train
from aiida_dosmatgen.engine.prediction.channels import ChannelMember, refinement
from aiida_dosmatgen.engine.prediction.novelty import ChemicalNovelty, surroundings
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.prediction.predictor import Predictor
from aiida_dosmatgen.engine.workfolder import fingerprint

from ..labelled import ELEMENTS, few, labelled

SHARDS = Path(__file__).parents[3] / "datasets" / "pseudodojo-pbe"
STRIDE = 3
HEADER = CheckpointHeader(
    kind="predictor",
    architecture={"width": 16, "layers": 1, "members": 2, "channels": 8, "stride": STRIDE},
    elements=ELEMENTS,
    grid=DEFAULT_GRID,
    sigma=0.3,
    meaning="partition",
    training=TrainingHeader(dataset_sha256="ab", n_crystals=1, seed=0, epochs=1, parameters={}),
    engine_version="0",
)
SHARES = np.array([0.2, 0.5, 0.3, 0.0])


def resolved() -> CrystalSet:
    """Return labelled crystals whose curves have spins and channels."""
    crystals = few()
    dos = crystals.atom_columns["dos"]
    curves = 0.5 * dos[:, None, None] * SHARES[None, None, :, None] * np.ones((1, 2, 1, 1))
    return with_energies(crystals.with_columns(atom={"dos": curves.astype(np.float32)}), DEFAULT_GRID, 0.6, "partition")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a data set, and a checkpoint that was trained on its crystals without Ge."""
    folder = tmp_path_factory.mktemp("channels")
    crystals = resolved()
    crystals = crystals.with_columns(crystal={"sigma": np.full(len(crystals), 0.3)})
    crystals.save(folder / "data.npz")
    few = crystals[[i for i, c in enumerate(crystals) if 32 not in c.numbers and len(c.numbers) <= 2]]
    few.save(folder / "few.npz")
    train.run(job(dataset="few.npz", output="parent.safetensors"), folder)
    return folder


def job(epochs: int = 2, **changes) -> TrainJob:
    parameters = {
        "model": "predictor", "epochs": epochs, "batch_size": 8, "learning_rate": 5e-3, "ema": 0.9, "validation_fraction": 0.3,
        "tight_binding_epochs": 0, "keep": "last", "architecture": {"width": 16, "layers": 1, "members": 2},
        **changes.pop("parameters", {}),
    }  # fmt: skip
    return TrainJob(**{"dataset": "data.npz", "seed": 1, "parameters": parameters, **changes})


def test_coarse_points_hold_a_broadened_curve():
    curve = gaussian_dos(np.array([-3.3, 0.1, 4.0]), np.array([1.0, 2.0, 1.0]))
    refine = refinement(DEFAULT_GRID.n, STRIDE).numpy()
    assert np.abs(curve[::STRIDE] @ refine - curve).max() < 2e-3 * curve.max()
    with pytest.raises(ValueError, match="does not reach"):
        refinement(DEFAULT_GRID.n, 4)


def test_a_first_guess_is_moved_stretched_and_scaled():
    member = ChannelMember(1, 134, 3, STRIDE, 16, 1, 8, 16, 0.0)
    points = DEFAULT_GRID.points[::STRIDE]
    curve = torch.tensor(gaussian_dos(np.array([-2.0]), np.array([1.0]))[::STRIDE], dtype=torch.float32)
    curves, numbers = curve.expand(1, 1, 4, -1), torch.zeros(1, 1, 4, 3)
    torch.testing.assert_close(member._moved(curves, numbers.flatten(2)), curves, atol=1e-5, rtol=0)
    numbers[..., 0, 0] = 0.5  # δ is in units of 2 eV
    numbers[..., 1, 1] = 0.5
    numbers[..., 2, 2] = np.log(2)
    moved = member._moved(curves, numbers.flatten(2))[0, 0].numpy()
    areas, centres = moved.sum(-1) * 0.15038, (moved * points).sum(-1) / moved.sum(-1)
    factor = np.exp(0.3 * np.tanh(0.5))
    np.testing.assert_allclose(areas, [1, 1, 2, 1], atol=0.01)
    np.testing.assert_allclose(centres, [-1, -2 / factor, -2, -2], atol=0.02)


@pytest.fixture
def model() -> Predictor:
    torch.manual_seed(0)
    model = Predictor.from_header(HEADER).eval()
    with torch.no_grad():
        for parameter in model.members.parameters():  # heads start at zero, which hides everything
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.mean_channels.copy_(torch.rand_like(model.mean_channels))
    return model


def test_channels_add_up_and_do_not_depend_on_how_a_crystal_is_given(model):
    crystals = labelled(12)
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    orders = [rng.permutation(n) for n in crystals.n_atoms]
    atoms = np.concatenate([start + order for start, order in zip(crystals.offsets, orders, strict=False)])
    shift = rng.random((len(crystals), 3))[crystals.crystal_of_atom]
    other = crystals.replace(
        lattices=crystals.lattices @ rotation,
        numbers=crystals.numbers[atoms],
        fractional=(crystals.fractional + shift)[atoms],
        atom_columns={},
    )
    model = model.double()
    a, b = (predict(model, HEADER, c, batch_size=n) for c, n in ((crystals, 16), (other, 5)))
    channels, dos = (a.atom_columns[f"predicted_{name}"] for name in ("channels", "dos"))
    assert channels.shape[1:] == (4, 134)
    assert channels.std(1).max() > 0.01
    np.testing.assert_allclose(channels.sum(1), dos[:, ::STRIDE], atol=0.01)  # stored in half precision
    np.testing.assert_allclose(b.atom_columns["predicted_dos"], dos[atoms], atol=1e-4)
    curves = curves_of(a, 3, "predicted_channels")
    assert curves.channels == ("s", "p", "d", "f")
    assert (curves.energies[0], curves.energies[-1]) == (-10, 10)
    assert curves.meaning == "partition"


def test_training_says_what_it_saw_and_is_calibrated_by_bins(folder):
    results = train.run(job(6, output="whole.safetensors"), folder)
    header = read_header(folder / "whole.safetensors")
    assert header.architecture["stride"] == STRIDE
    assert header.training.largest == CrystalSet.load(folder / "data.npz").n_atoms.max()
    metrics = results.details["metrics"]
    assert metrics["n_calibrated_by"] == metrics["n_held_out"] > 0
    assert metrics["calibrated"]
    assert 0.4 < metrics["dos_bins_within_std"] < 0.9
    model, header = load_model(folder / "whole.safetensors")
    held = CrystalSet.load(folder / "data.npz")
    predicted = predict(model, header, held)
    channels = predicted.atom_columns["predicted_channels"].astype(float)
    shares = channels.sum((0, 2)) / channels.sum()
    np.testing.assert_allclose(shares, SHARES, atol=0.1)


def test_the_crystals_that_choose_the_epoch_do_not_calibrate(folder):
    metrics = train.run(job(1, output="best.safetensors", parameters={"keep": "best"}), folder).details["metrics"]
    assert 0 < metrics["n_calibrated_by"] < metrics["n_held_out"]


def test_a_checkpoint_learns_further_elements_and_sizes(folder):
    parent, small = load_model(folder / "parent.safetensors")
    assert small.elements == ["C", "Si"]
    assert small.training.largest == 2
    with pytest.raises(ContentError, match="have Ge, which the checkpoint has not seen; it knows C Si"):
        CrystalSet.from_ase([ase.build.bulk("Ge")]).save(folder / "germanium.npz")
        command.run(PredictJob(checkpoint="parent.safetensors", crystals="germanium.npz"), folder)
    train.run(job(2, parent="parent.safetensors", parameters={"tight_binding_epochs": 1}), folder)
    child, header = load_model(folder / "checkpoint.safetensors")
    assert header.elements == ["C", "Si", "Ge"]
    assert header.training.largest > 2
    before, after = (m.tight_binding.state_dict() for m in (parent, child))
    for name, old in before.items():  # known elements keep their tight binding, and what all share
        torch.testing.assert_close(after[name][tuple(slice(n) for n in old.shape)], old, rtol=0, atol=0)
    fresh = Predictor(["C", "Si", "Ge"], 400, **header.architecture)
    assert not torch.equal(after["energy"][2], fresh.tight_binding.energy[2])
    torch.testing.assert_close(child.mean_channels[:2], parent.mean_channels)
    assert child.mean_channels[2].max() > 0.1
    assert child.novelty.counts[2] > 0


def test_a_folder_of_shards_is_a_data_set(tmp_path):
    """What its manifest keeps for tests is not trained on, and the manifest's hash is that of the set."""
    manifest = read_manifest(SHARDS)
    shards = CrystalSet.load(SHARDS / manifest["shards"][0]["file"])
    few = shards[np.flatnonzero(shards.n_atoms <= 2)[:24]]
    splits = Splits(system_fraction=0.3, prototype_fraction=0.0, seed=0)
    add_shard(tmp_path / "shards", few, manifest["settings"], splits=splits)
    held = (load_shards(tmp_path / "shards").crystal_columns["split"] != "train").sum()
    results = train.run(job(1, dataset="shards"), tmp_path)
    header = read_header(tmp_path / "checkpoint.safetensors")
    assert header.training.dataset_sha256 == sha256_of(tmp_path / "shards" / "manifest.json")
    assert results.details["metrics"]["n_test"] == held > 0
    assert header.training.n_crystals + header.metrics["n_held_out"] == len(few) - held
    assert header.architecture["stride"] == STRIDE
    before = fingerprint(job(1, dataset="shards"), tmp_path)
    add_shard(tmp_path / "shards", shards[np.flatnonzero(shards.n_atoms <= 2)[24:25]], manifest["settings"], splits=splits)
    assert fingerprint(job(1, dataset="shards"), tmp_path) != before  # so that it is trained again


def test_new_chemistry_in_a_known_geometry_is_new(model):
    def features(symbols: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        found, types = [], []
        for a in (5.2, 5.3, 5.4):
            atoms = ase.build.bulk("Si", "diamond", a=a)
            atoms.symbols = symbols
            fractional = torch.tensor(atoms.get_scaled_positions())[None].float()
            moments = model.moments(
                fractional, torch.tensor(atoms.cell.array)[None].float(), torch.ones(1, 2, dtype=torch.bool)
            )
            index = torch.tensor([[ELEMENTS.index(s) for s in symbols]])
            like = model.descriptors[index][..., (0, 1, 2, 3, 6)]
            found.append(surroundings(moments, torch.ones(1, 2, dtype=torch.bool), like)[0])
            types.append(index[0])
        return torch.cat(found), torch.cat(types)

    known, new = features(["Si", "Si"]), features(["Si", "C"])
    novelty = ChemicalNovelty(len(ELEMENTS), known[0].shape[1])
    novelty.fit(*(torch.cat(part) for part in zip(known, features(["C", "C"]), features(["Ge", "Ge"]), strict=True)))
    assert float(novelty(*known).max()) < 1.5
    assert float(novelty(*new).min()) > 2
