import io
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.relaxation.forcefields import load

from ..small_mace import save_small_mace


def trusted(path, **options) -> ForceField:
    return ForceField(file=str(path), sha256=sha256_of(path), **options)


@pytest.fixture(scope="module")
def mace_file(tmp_path_factory):
    return save_small_mace(tmp_path_factory.mktemp("mace") / "small.model")


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    return generate(["Si", "C", "Ga", "As"], 64, 3)[54:]


@pytest.fixture(scope="module")
def by_calculator(mace_file, crystals):
    """What mace's own ASE calculator says, one crystal at a time."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(mace_file), device="cpu", default_dtype="float64")
    rows = []
    for atoms in crystals.to_ase():
        atoms.calc = calculator
        rows.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)))
    energies, forces, stresses = zip(*rows, strict=True)
    return np.array(energies), np.concatenate(forces), np.array(stresses)


OUT_OF_MEMORY = """
import logging, resource, sys
from pathlib import Path
import numpy as np
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.engine.relaxation.forcefields import load

logging.basicConfig(level=logging.WARNING)
evaluator = load(ForceField(file=sys.argv[1], sha256=sha256_of(sys.argv[1])), Path())
crystals = CrystalSet.load(sys.argv[2])
for _ in range(3):  # the first calls compile
    evaluator.evaluate(crystals[:2])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, resource.RLIM_INFINITY))
np.save(sys.argv[3], evaluator.evaluate(crystals).energies)
evaluator.evaluate(crystals)
"""


@pytest.mark.slow
def test_a_batch_that_does_not_fit_into_memory_is_halved(mace_file, tmp_path):
    """In a process that may take 200 MB more than it has, where the whole batch needs several times that."""
    crystals = generate(["C", "Si"], 1600, 3)
    crystals.save(tmp_path / "crystals.npz")
    command = [sys.executable, "-c", OUT_OF_MEMORY, mace_file, tmp_path / "crystals.npz", tmp_path / "energies.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("out of memory with 1600 crystals at a time; continuing with 800") == 1  # in two calls
    evaluator = load(trusted(mace_file), mace_file.parent)
    some = np.arange(0, len(crystals), 97)
    found = np.load(tmp_path / "energies.npy")
    np.testing.assert_allclose(found[some], evaluator.evaluate(crystals[some]).energies, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
def test_mace_batch_equals_maces_own_calculator(mace_file, crystals, by_calculator, dtype, tolerance):
    evaluator = load(trusted(mace_file), mace_file.parent, dtype=dtype)
    for found, expected in zip(evaluator.evaluate(crystals), by_calculator, strict=True):
        assert np.abs(expected).max() > 10 * tolerance
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
    assert torch.get_default_dtype() == torch.float32


def test_a_crystal_does_not_depend_on_its_neighbours_in_the_batch(mace_file, crystals):
    evaluator = load(trusted(mace_file), mace_file.parent)
    together, alone = evaluator.evaluate(crystals), [evaluator.evaluate(crystal) for crystal in crystals]
    np.testing.assert_allclose(together.forces, np.concatenate([a.forces for a in alone]), atol=1e-10)
    np.testing.assert_allclose(together.energies, np.concatenate([a.energies for a in alone]), atol=1e-9)


def test_mace_stress_is_the_derivative_of_the_energy_by_strain(mace_file, crystals):
    evaluator = load(trusted(mace_file), mace_file.parent)
    crystal, h = crystals[0], 1e-4
    strain = np.array([[0.3, 0.1, 0.0], [0.1, -0.2, 0.4], [0.0, 0.4, 0.1]])
    plus, minus = (
        evaluator.evaluate(crystal.replace(lattices=crystal.lattices @ (np.eye(3) + s * h * strain))).energies[0]
        for s in (1, -1)
    )
    expected = (evaluator.evaluate(crystal).stresses[0] * strain).sum() * crystal.volumes[0]
    assert (plus - minus) / (2 * h) == pytest.approx(expected, rel=1e-3)


def test_mace_says_what_it_is_and_knows(mace_file):
    evaluator = load(ForceField(file=mace_file.name, sha256=sha256_of(mace_file)), mace_file.parent)
    assert evaluator.sha256 == sha256_of(mace_file)
    assert evaluator.description == "MACE file small.model"
    assert evaluator.knows(np.array([14, 79, 33])).tolist() == [True, False, True]


class Bomb:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_file_with_another_hash_is_never_loaded(tmp_path):
    torch.save(Bomb(tmp_path / "exploded"), tmp_path / "bomb.model")
    with pytest.raises(ContentError, match=r"bomb\.model hashes to .* it was not loaded"):
        load(ForceField(file="bomb.model", sha256="0" * 64), tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_file_that_nobody_trusts_is_not_loaded(tmp_path):
    torch.save(Bomb(tmp_path / "exploded"), tmp_path / "bomb.model")
    hashed = sha256_of(tmp_path / "bomb.model")
    with pytest.raises(ContentError, match=f"If you trust the file, say so by its hash, force_field.sha256: {hashed}"):
        load(ForceField(file="bomb.model"), tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_no_mace_models(tmp_path, mace_file):
    with pytest.raises(ContentError, match="does not exist"):
        load(ForceField(file="none.model"), tmp_path)
    (tmp_path / "cut.model").write_bytes(mace_file.read_bytes()[:5000])
    with pytest.raises(ContentError, match="not a MACE model file"):
        load(trusted(tmp_path / "cut.model"), tmp_path)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "dict.model")
    with pytest.raises(ContentError, match="holds a dict, not a MACE model"):
        load(trusted(tmp_path / "dict.model"), tmp_path)


def test_heads_and_arguments_of_mace(mace_file):
    load(trusted(mace_file, arguments={"head": "Default"}), mace_file.parent)
    with pytest.raises(ContentError, match="not a head of the model; it has Default"):
        load(trusted(mace_file, arguments={"head": "pbe"}), mace_file.parent)
    with pytest.raises(ContentError, match="'dispersion' is not an argument"):
        load(trusted(mace_file, arguments={"dispersion": True}), mace_file.parent)


def test_foundation_model_is_downloaded_by_name(monkeypatch, tmp_path, mace_file):
    """The bytes come from here, everything else is mace's own code."""
    asked = []

    class Response(io.BytesIO):
        headers = {"Content-Length": str(mace_file.stat().st_size)}

        def info(self):
            return "Content-Type: application/octet-stream"

    def urlopen(url, timeout=None):
        asked.append(url)
        return Response(mace_file.read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr("mace.calculators.foundations_models.get_cache_dir", lambda: str(tmp_path))
    evaluator = load(ForceField(foundation="small-0b"), tmp_path)
    assert evaluator.sha256 == sha256_of(mace_file)
    assert len(asked) == 1 and asked[0].endswith("mace_agnesi_small.model")


def test_foundation_model_that_cannot_be_had(monkeypatch, tmp_path):
    def urlopen(url, timeout=None):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr("mace.calculators.foundations_models.get_cache_dir", lambda: str(tmp_path))
    with pytest.raises(ContentError, match="could not be downloaded .*unreachable.*give it as a file"):
        load(ForceField(foundation="small-0b"), tmp_path)
    with pytest.raises(ContentError, match="'huge' is not a MACE foundation model"):
        load(ForceField(foundation="huge"), tmp_path)


def test_calculator_costs_one_crystal_only(tmp_path):
    evaluator = load(ForceField(calculator="ase.calculators.emt:EMT"), tmp_path)
    assert evaluator.knows(np.array([29, 14, 29, 13])).tolist() == [True, False, True, True]
    copper = generate(["Cu"], 2, 0)
    silicon = generate(["Si"], 1, 0)
    found = evaluator.evaluate(CrystalSet.concatenate([copper[:1], silicon, copper[1:]]))
    assert np.isfinite(found.energies).tolist() == [True, False, True]
    alone = evaluator.evaluate(copper)
    np.testing.assert_array_equal(found.energies[[0, 2]], alone.energies)


def test_calculator_of_another_package_by_entry_point(tmp_path, monkeypatch):
    """A distribution as pip would install it, with its metadata on the path."""
    info = tmp_path / "potentials-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: potentials\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dosmatgen.calculators]\npair-potential = potentials:make\n")
    (tmp_path / "potentials.py").write_text(
        "from ase.calculators.lj import LennardJones\n\ndef make(depth):\n    return LennardJones(epsilon=depth)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    crystal = generate(["Cu"], 1, 0)
    energies = [
        load(ForceField(calculator="pair-potential", arguments={"depth": d}), tmp_path).evaluate(crystal).energies[0]
        for d in (1.0, 2.0)
    ]
    assert energies[1] == pytest.approx(2 * energies[0]) and abs(energies[0]) > 1e-6
    with pytest.raises(ContentError, match="installed are chgnet, pair-potential, sevennet"):
        load(ForceField(calculator="pair"), tmp_path)


@pytest.mark.parametrize(
    ("calculator", "message"),
    [
        (
            "ase.calculators.emt",
            "neither the name of an entry point of dosmatgen.calculators nor one of ase",
        ),
        ("ase.calculators.emt:Missing", "neither the name of an entry point"),
        ("no.such.module:X", "neither the name of an entry point"),
        ("ase.calculators.vasp:Vasp", "neither the name of an entry point"),
    ],
)
def test_calculators_that_may_not_be_used(calculator, message):
    with pytest.raises(ValueError, match=message):
        ForceField(calculator=calculator)


@pytest.mark.parametrize(
    ("calculator", "arguments", "message"),
    [
        ("ase.calculators.eam:EAM", {"potential": "missing.alloy"}, "cannot be made: .*No such file"),
        ("ase.calculators.lj:LennardJones", {"label": 1}, "cannot be made"),
    ],
)
def test_bad_calculators(calculator, arguments, message, tmp_path):
    with pytest.raises(ContentError, match=message):
        load(ForceField(calculator=calculator, arguments=arguments), tmp_path)
