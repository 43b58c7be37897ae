"""The predictor: symmetries, what counts in its loss, how sure it says it is, and what it says of what it cannot treat."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

import aiida_dosmatgen
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, TrainingHeader
from aiida_dosmatgen.engine.batch import to_dense
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.niggli import niggli
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.prediction.predictor import Predictor
from aiida_dosmatgen.engine.prediction.tightbinding import TightBinding
from aiida_dosmatgen.engine.training.dataset import LabelledDataset, load_labelled, with_formation_energies
from aiida_dosmatgen.engine.training.predictor import PredictorObjective
from tests.shards import SHARDS, needs_shards

from ..labelled import ELEMENTS, beyond, labelled

PACKAGE = Path(aiida_dosmatgen.__file__).parent

HEADER = CheckpointHeader(
    kind="predictor",
    architecture={"width": 16, "layers": 2, "members": 3, "channels": 8},
    elements=ELEMENTS,
    grid=DEFAULT_GRID,
    sigma=0.3,
    training=TrainingHeader(dataset_sha256="ab", n_crystals=1, seed=0, epochs=1, parameters={}),
    engine_version="0",
)


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    crystals = with_formation_energies(niggli(labelled(40)))
    return crystals.with_columns(atom={"tight_binding": TightBinding(ELEMENTS).curves(crystals)})


@pytest.fixture
def model() -> Predictor:
    torch.manual_seed(0)
    model = Predictor.from_header(HEADER).eval()
    with torch.no_grad():
        for parameter in model.members.parameters():  # heads start at zero, which hides everything
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.mean_curves.copy_(torch.rand_like(model.mean_curves))
    return model


def test_symmetries(model, crystals):
    model, crystals = model.double(), crystals[25:]
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    orders = [rng.permutation(n) for n in crystals.n_atoms]
    atoms = np.concatenate([start + order for start, order in zip(crystals.offsets, orders, strict=False)])
    shift = rng.random((len(crystals), 3))[crystals.crystal_of_atom]
    other = crystals.replace(
        lattices=crystals.lattices @ rotation,
        numbers=crystals.numbers[atoms],
        fractional=(crystals.fractional + shift + rng.integers(-2, 3, crystals.fractional.shape))[atoms],
        atom_columns={},
    )
    a, b = (predict(model, HEADER, c, batch_size=16) for c in (crystals, other))
    for name in ("predicted_formation_energy", "predicted_formation_energy_std"):
        np.testing.assert_allclose(b.crystal_columns[name], a.crystal_columns[name], atol=1e-7)
    np.testing.assert_allclose(b.atom_columns["predicted_dos"], a.atom_columns["predicted_dos"][atoms], atol=1e-5)
    assert a.crystal_columns["predicted_formation_energy"].std() > 0.01


def test_a_supercell_is_the_same_crystal(model, crystals, monkeypatch):
    # its tight binding has other k-points, which is not what this is about
    monkeypatch.setattr(TightBinding, "curves", lambda self, c: np.zeros((len(c.numbers), 400), np.float32))
    model = model.double()
    doubled = CrystalSet.from_ase([atoms.repeat((1, 2, 1)) for atoms in crystals[20:30].to_ase()])
    a, b = predict(model, HEADER, crystals[20:30]), predict(model, HEADER, doubled)
    name = "predicted_formation_energy"
    np.testing.assert_allclose(b.crystal_columns[name], a.crystal_columns[name], atol=1e-7)


def test_batches_do_not_matter(model, crystals):
    crystals = crystals[25:]
    one, many = (predict(model, HEADER, crystals, batch_size=n) for n in (1, 64))
    np.testing.assert_allclose(one.atom_columns["predicted_dos"], many.atom_columns["predicted_dos"], atol=1e-4)


def test_gradients_reach_the_crystal(model, crystals):
    model = model.double()
    crystal = crystals[25]
    types = torch.tensor([[ELEMENTS.index(s) for s in crystal.to_ase()[0].symbols]])
    mask = torch.ones(types.shape, dtype=torch.bool)
    curves = torch.tensor(model.tight_binding.curves(crystal)).double()[None]

    def dos(fractional, lattice):
        return model(types, fractional, lattice, mask, curves).dos.sum()

    inputs = torch.tensor(crystal.fractional)[None].requires_grad_(), torch.tensor(crystal.lattices).requires_grad_()
    assert torch.autograd.gradcheck(dos, inputs, eps=1e-5, atol=1e-3, rtol=1e-3)


def test_points_beyond_the_complete_bands_never_count(model, crystals):
    spoilt = crystals.with_columns(
        atom={"dos": np.where(beyond(crystals), 1e3, crystals.atom_columns["dos"]).astype(np.float32)}
    )
    objective = PredictorObjective(DEFAULT_GRID)
    losses, metrics, means = [], [], []
    for given in (crystals, spoilt):
        data = LabelledDataset(given, ELEMENTS)
        model.set_scalers(data, DEFAULT_GRID)
        losses.append(objective.loss(model, Batch.from_data_list(list(data)), torch.Generator())["loss"])
        metrics.append(objective.evaluate(model, DataLoader(data, batch_size=9)))
        means.append(model.mean_curves.clone())
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(means[0], means[1])
    assert metrics[0]["dos_mae"] == pytest.approx(metrics[1]["dos_mae"])


def test_errors_are_those_of_the_mean_of_the_members(model, crystals):
    crystals = whole(crystals)
    metrics = PredictorObjective(DEFAULT_GRID).evaluate(model, DataLoader(LabelledDataset(crystals, ELEMENTS), batch_size=7))
    got = predict(model, HEADER, crystals)
    difference = np.abs(got.atom_columns["predicted_dos"] - crystals.atom_columns["dos"])
    assert metrics["dos_mae"] == pytest.approx(difference.mean(), rel=1e-4)
    energies = got.crystal_columns["predicted_formation_energy"] - crystals.crystal_columns["formation_energy"]
    assert metrics["formation_energy_mae"] == pytest.approx(np.abs(energies).mean(), rel=1e-4)


def test_the_loss_does_without_energies(model, crystals):
    columns = {k: v for k, v in crystals.crystal_columns.items() if k != "formation_energy"}
    data = LabelledDataset(crystals.replace(crystal_columns=columns), ELEMENTS)
    objective = PredictorObjective(DEFAULT_GRID)
    parts = objective.loss(model, Batch.from_data_list(list(data)), torch.Generator())
    assert torch.isfinite(parts["loss"])
    assert float(parts["energy"]) == 0
    assert "formation_energy_mae" not in objective.evaluate(model, DataLoader(data, batch_size=9))


# --- how sure it is ---------------------------------------------------------------------------------------------------------


def whole(crystals: CrystalSet) -> CrystalSet:
    return crystals.with_columns(crystal={"complete_below": np.full(len(crystals), np.inf)})


def test_calibrated_uncertainties_are_the_errors_on_average(model, crystals):
    crystals = whole(crystals)
    data = LabelledDataset(crystals, ELEMENTS)
    model.set_scalers(data, DEFAULT_GRID)
    metrics = PredictorObjective(DEFAULT_GRID).calibrate(model, DataLoader(data, batch_size=7))
    got = predict(model, HEADER, crystals)
    difference = np.abs(got.atom_columns["predicted_dos"] - crystals.atom_columns["dos"]).mean(1)
    errors = np.bincount(crystals.crystal_of_atom, weights=difference) / crystals.n_atoms
    assert got.crystal_columns["predicted_dos_uncertainty"].mean() == pytest.approx(errors.mean(), rel=1e-3)
    energies = np.abs(got.crystal_columns["predicted_formation_energy"] - crystals.crystal_columns["formation_energy"])
    stated = np.sqrt(2 / np.pi) * got.crystal_columns["predicted_formation_energy_std"]
    assert stated.mean() == pytest.approx(energies.mean(), rel=1e-3)
    assert metrics["calibrated"]
    assert metrics["dos_calibration"] == pytest.approx(float(model.dos_calibration))
    again = PredictorObjective(DEFAULT_GRID).calibrate(model, DataLoader(data, batch_size=7))
    assert again["dos_calibration"] == pytest.approx(metrics["dos_calibration"])  # not one factor on top of the other


def test_nothing_is_calibrated_without_crystals_or_members(model, crystals):
    model.dos_calibration.fill_(7.0)
    model.dos_floor.fill_(0.1)
    assert PredictorObjective(DEFAULT_GRID).calibrate(model, []) == {"calibrated": False}
    assert [float(factor) for factor in (model.dos_calibration, model.energy_calibration)] == [7, 1]  # a parent's stay
    assert float(model.dos_floor) == pytest.approx(0.1)
    model.dos_calibration.fill_(1.0)
    model.dos_floor.fill_(0.0)
    architecture = {**HEADER.architecture, "members": 1}
    alone = Predictor.from_header(HEADER.model_copy(update={"architecture": architecture})).eval()
    data = DataLoader(LabelledDataset(crystals, ELEMENTS), batch_size=20)
    assert PredictorObjective(DEFAULT_GRID).calibrate(alone, data) == {"calibrated": False}
    got = predict(alone, HEADER, crystals[:3])
    assert np.isfinite(got.crystal_columns["predicted_formation_energy"]).all()
    for name in ("predicted_formation_energy_std", "predicted_dos_uncertainty"):
        assert np.isnan(got.crystal_columns[name]).all()


def test_members_leave_compounds_out(model, crystals):
    objective = PredictorObjective(DEFAULT_GRID, left_out=0.5)
    data = list(LabelledDataset(crystals, ELEMENTS))
    seen = objective.seen(to_dense(Batch.from_data_list(data)), len(ELEMENTS), 3)
    formulas = [tuple(sorted(set(c.numbers.tolist()))) for c in crystals]
    elements = torch.tensor([len(formula) == 1 for formula in formulas])
    assert seen[:, elements].all()
    assert 0.2 < seen[:, ~elements].mean() < 0.8
    assert len(seen.unique(dim=0)) > 1
    # a supercell is the same compound
    doubled = CrystalSet.from_ase([atoms.repeat((1, 1, 2)) for atoms in crystals.to_ase()])
    columns = {"dos": np.repeat(np.zeros((1, 400), np.float32), len(doubled.numbers), 0)}
    doubled = doubled.with_columns(crystal=crystals.crystal_columns, atom={**columns, "tight_binding": columns["dos"]})
    again = objective.seen(to_dense(Batch.from_data_list(list(LabelledDataset(doubled, ELEMENTS)))), len(ELEMENTS), 3)
    assert torch.equal(seen, again)
    # and what a member does not see moves none of its weights
    member = int(seen.mean(1).argmin())
    left_out = [data[i] for i in np.flatnonzero(seen[member].numpy() == 0)]
    objective.loss(model.train(), Batch.from_data_list(left_out), torch.Generator())["loss"].backward()
    sums = [sum(float(p.grad.abs().sum()) for p in member.parameters()) for member in model.members]
    assert sums[member] == 0
    assert max(sums) > 0


@pytest.fixture(scope="module")
def shipped():
    """The shipped predictor, and labels of chemical systems that no training has seen."""
    model, header = load_model(PACKAGE / "models" / "predictor.safetensors")
    crystals = load_labelled(SHARDS, header.grid, header.sigma)
    return model, header, crystals[np.flatnonzero(crystals.crystal_columns["split"] == "test-system")]


@needs_shards
def test_the_shipped_predictor_knows_how_wrong_it_is(shipped):
    model, header, unseen = shipped
    unseen = unseen[::3]
    got = predict(model, header, unseen)
    stated = got.crystal_columns["predicted_dos_uncertainty"]
    errors = [
        np.abs(a.atom_columns["predicted_dos"] - b.atom_columns["dos"])[~beyond(b)].mean()
        for a, b in zip(got, unseen, strict=True)
    ]
    assert stated.mean() == pytest.approx(np.mean(errors), rel=0.25)
    assert spearmanr(stated, errors).statistic > 0.4
    assert 0.5 < header.metrics["dos_bins_within_std"] < 0.85
    assert 0.5 < header.metrics["formation_energy_within_std"] < 0.85
    assert header.metrics["dos_uncertainty_rank_correlation"] > 0.2


@needs_shards
def test_the_shipped_predictor_is_less_sure_of_what_it_has_not_seen(shipped):
    model, header, unseen = shipped
    held_out, medians = unseen[::12], {}
    for scale in (0.6, 0.7, 1.0, 1.6):
        got = predict(model, header, held_out.replace(lattices=held_out.lattices * scale))
        names = ("predicted_dos_uncertainty", "predicted_formation_energy_std")
        medians[scale] = np.array([np.nanmedian(got.crystal_columns[name]) for name in names])
    assert (medians[0.6] > 1.5 * medians[1.0]).all()
    assert (medians[0.6] > medians[0.7]).all()
    assert (medians[1.6] > medians[1.0]).all()


# --- what it cannot treat ---------------------------------------------------------------------------------------------------


def test_bad_crystals_get_nan_and_spoil_nothing(model, crystals):
    good = crystals[10:13]
    strange = good[0].replace(numbers=np.full_like(good[0].numbers, 79))
    flat = good[1].replace(lattices=good[1].lattices * np.array([1, 1, 1e-3])[:, None])
    nan = good[2].replace(fractional=np.full_like(good[2].fractional, np.nan))
    mixed = CrystalSet.concatenate([good, strange, flat, nan])
    got = predict(model, HEADER, mixed)
    energies = got.crystal_columns["predicted_formation_energy"]
    assert np.isnan(energies[3:]).all()
    assert np.isnan(got.atom_columns["predicted_dos"][good.offsets[-1] :]).all()
    expected = predict(model, HEADER, good)
    np.testing.assert_allclose(energies[:3], expected.crystal_columns["predicted_formation_energy"], atol=1e-5)
    assert got.crystal_columns["status"].tolist() == mixed.crystal_columns["status"].tolist()
    assert got.atom_columns["predicted_dos"].dtype == np.float32
    assert (expected.atom_columns["predicted_dos"] >= 0).all()


def test_nothing_to_predict(model, crystals):
    got = predict(model, HEADER, crystals[[]])
    assert len(got) == 0
    assert got.atom_columns["predicted_dos"].shape == (0, 400)
