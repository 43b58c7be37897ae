"""Tight binding: bands that can be written down, symmetries, and that a fit finds parameters."""

from pathlib import Path

import ase.build
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.engine.batch import to_dense
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.niggli import niggli
from aiida_dosmatgen.engine.prediction import tightbinding
from aiida_dosmatgen.engine.prediction.tightbinding import TightBinding
from aiida_dosmatgen.engine.prediction.tightbinding.bloch import BlochSum
from aiida_dosmatgen.engine.prediction.tightbinding.overlap import two_centre
from aiida_dosmatgen.engine.training.dataset import LabelledDataset
from aiida_dosmatgen.engine.training.tightbinding import TightBindingObjective

from ...labelled import ELEMENTS, labelled

MODELS = Path(tightbinding.__file__).parents[3] / "models"
POINTS = DEFAULT_GRID.points


@pytest.fixture
def model() -> TightBinding:
    """With parameters that all do something."""
    torch.manual_seed(0)
    model = TightBinding(ELEMENTS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    return niggli(labelled(45))[30:45]


def gaussian(levels) -> np.ndarray:
    return sum(2 * np.exp(-((POINTS - e) ** 2) / 0.18) / (0.3 * np.sqrt(2 * np.pi)) for e in levels)


def test_a_free_atom_has_its_levels():
    model = TightBinding(["Si"])
    dos = model.curves(CrystalSet.from_ase(ase.build.bulk("Si", "sc", a=12.0)))[0]
    s, p, _ = model.start[0].tolist()
    np.testing.assert_allclose(dos, gaussian([s - p, 0, 0, 0]), atol=1e-3)  # p is half filled, so it is the zero


def test_a_dimer_of_hydrogen_splits_as_it_must():
    """(ε ± h)/(1 ± S), and half of each state on each atom."""
    model = TightBinding(["H"])
    cell = CrystalSet([2], [1, 1], [[0, 0, 0], [1.1 / 15, 0, 0]], np.eye(3)[None] * 15)
    distance, zeta = torch.tensor([1.1]).double(), model.exponent.detach().exp()[0, :1].double()
    overlap = float(two_centre(distance, zeta, zeta, 0, 0))
    level = float(model.start[0, 0])
    bonding, antibonding = (level * (1 + x * 1.6 * overlap) / (1 + x * overlap) for x in (1, -1))
    assert 4 < antibonding - bonding < 9
    expected = gaussian([0, antibonding - bonding]) / 2
    np.testing.assert_allclose(model.curves(cell), [expected, expected], atol=1e-3)


def test_fitted_parameters_give_crystals_their_gaps():
    """Shared by the atoms alike; between bands that lie above and below."""
    tight_binding = load_model(MODELS / "predictor.safetensors")[0].tight_binding
    oxide = tight_binding.curves(CrystalSet.from_ase(ase.build.bulk("MgO", "rocksalt", a=4.25)))
    assert oxide[:, (POINTS > 1) & (POINTS < 6)].max() < 0.05
    assert oxide.mean(0)[(POINTS > -5) & (POINTS < 0)].mean() > 0.3
    diamond = tight_binding.curves(CrystalSet.from_ase(ase.build.bulk("C")))
    assert diamond[0][np.abs(POINTS) < 1].mean() < 0.2 * diamond[0][(POINTS > -10) & (POINTS < -1)].mean()
    np.testing.assert_allclose(diamond[0], diamond[1], atol=1e-4)


def test_the_cell_and_its_orientation_do_not_matter(model, crystals):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    shifted = (crystals.fractional + np.random.default_rng(1).random((len(crystals), 3))[crystals.crystal_of_atom]) % 1
    other = crystals.replace(lattices=crystals.lattices @ turn, fractional=shifted)
    np.testing.assert_allclose(model.curves(other), model.curves(crystals), atol=1e-4)


def test_few_kpoints_give_what_many_do(monkeypatch):
    """Their levels are extrapolated; without it curves are farther from those of many k-points."""
    model = load_model(MODELS / "predictor.safetensors")[0].tight_binding
    known = [("Cu",), ("Rh",), ("Ge",), ("GaAs", "zincblende", 5.65), ("NbC", "rocksalt", 4.47), ("PbTe", "rocksalt", 6.46)]
    known += [("BaS", "rocksalt", 6.39), ("CsCl", "cesiumchloride", 4.12), ("NiAl", "cesiumchloride", 2.89), ("W",), ("Ti",)]
    bulk = [ase.build.bulk(*given) for given in known]
    crystals = CrystalSet.from_ase(bulk)
    few = model.curves(crystals)
    with monkeypatch.context() as changed:
        changed.setattr(tightbinding.model, "KPOINTS_DISTANCE", 0.17)
        many = model.curves(crystals)
    monkeypatch.setattr(BlochSum, "slopes", lambda *_: lambda states: torch.zeros(*states.shape[::2], 3))
    alone = model.curves(crystals)
    errors = [np.abs(curves - many).mean() / many.mean() for curves in (few, alone)]
    assert errors[0] < 0.1 and errors[0] < 0.8 * errors[1], errors


def test_the_batch_gives_what_one_crystal_gives(model, crystals):
    """Where no level depends on the wave vector, k-points stand for more than themselves in vain."""
    apart = crystals.replace(lattices=3 * crystals.lattices, fractional=crystals.fractional / 3)
    dense = to_dense(Batch.from_data_list(list(LabelledDataset(apart, ELEMENTS))))
    with torch.no_grad():
        dos = model(dense.types, dense.fractional, dense.lattices, dense.mask, torch.tensor(POINTS))
    np.testing.assert_allclose(dos[dense.mask].numpy(), model.curves(apart), atol=1e-3)
    assert not dos[~dense.mask].any()


def test_derivatives_of_all_parameters_by_differences(model, crystals):
    """A gapped crystal, so that the highest occupied level is one level and moves smoothly."""
    model = model.double()
    gapped = CrystalSet.from_ase(ase.build.bulk("SiC", "zincblende", a=4.36))
    index = torch.tensor([[ELEMENTS.index(s) for s in gapped.to_ase()[0].symbols]])
    given = index, torch.tensor(gapped.fractional)[None], torch.tensor(gapped.lattices), torch.ones(1, 2, dtype=torch.bool)

    def value() -> torch.Tensor:
        return (model(*given, torch.tensor(POINTS)) * torch.sin(torch.tensor(POINTS))).sum()

    value().backward()
    for name, parameter in model.named_parameters():
        entry = int(parameter.grad.abs().argmax())
        with torch.no_grad():
            flat = parameter.view(-1)
            there = float(flat[entry])
            numeric = 0.0
            for sign in (1, -1):
                flat[entry] = there + sign * 1e-5
                numeric += sign * float(value()) / 2e-5
            flat[entry] = there
        assert float(parameter.grad.view(-1)[entry]) == pytest.approx(numeric, rel=0.05, abs=1e-3), name


def test_a_fit_finds_parameters(crystals):
    """Curves of one model are learned by another, which starts elsewhere."""
    crystals = crystals[:6]
    torch.manual_seed(1)
    truth = TightBinding(ELEMENTS)
    with torch.no_grad():
        for parameter in (truth.energy, truth.bond, truth.by_coordination):
            parameter.add_(0.1 * torch.randn_like(parameter))
    crystals = crystals.with_columns(
        crystal={"complete_below": np.full(len(crystals), np.inf)}, atom={"dos": truth.curves(crystals)}
    )
    batches = [Batch.from_data_list(list(LabelledDataset(crystals, ELEMENTS)))]
    model, objective = TightBinding(ELEMENTS), TightBindingObjective()
    before = objective.evaluate(model, batches)["loss"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        optimizer.zero_grad()
        objective.loss(model, batches[0], generator)["loss"].backward()
        optimizer.step()
    assert objective.evaluate(model, batches)["loss"] < 0.6 * before


def test_points_beyond_the_complete_bands_never_count(model, crystals):
    objective = TightBindingObjective()
    cut = crystals.with_columns(crystal={"complete_below": np.zeros(len(crystals))})
    dos = np.where(POINTS > 0, 1e3, crystals.atom_columns["dos"]).astype(np.float32)
    losses = [
        objective.evaluate(model, [Batch.from_data_list(list(LabelledDataset(c, ELEMENTS)))])["loss"]
        for c in (cut, cut.with_columns(atom={"dos": dos}))
    ]
    assert losses[0] == pytest.approx(losses[1])


# --- what it cannot treat -----------------------------------------------------------------------------------------------------


def test_crystals_it_does_not_know_get_zeros(model, crystals):
    good = crystals[:2]
    unknown = CrystalSet.from_ase(ase.build.bulk("Au"))
    nan = good[0].replace(lattices=np.full((1, 3, 3), np.nan))
    flat = good[1].replace(lattices=good[1].lattices * np.array([1, 1, 1e-3])[:, None])
    dos = model.curves(CrystalSet.concatenate([unknown, good, nan, flat]))
    assert not dos[0].any()
    assert not dos[1 + good.n_atoms.sum() :].any()
    np.testing.assert_array_equal(dos[1 : 1 + good.n_atoms.sum()], model.curves(good))
    assert dos[1].any()


def test_a_clash_stays_finite():
    clash = CrystalSet([2], [6, 6], [[0, 0, 0], [0.001, 0, 0]], np.eye(3)[None] * 3)
    assert np.isfinite(TightBinding(["C"]).curves(clash)).all()
