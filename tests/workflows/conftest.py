"""What the tests of the work chains share: codes that never run, pseudopotentials, models."""

import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage.manager import get_manager
from aiida.orm import QueryBuilder
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_pseudo.groups.family import CutoffsPseudoPotentialFamily

from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.target import DosTargetData

CUTOFFS = {"Si": (16.0, 64.0), "C": (25.0, 200.0), "Ge": (20.0, 160.0)}
ELECTRONS = {"Si": 4.0, "C": 4.0, "Ge": 14.0}
FAMILY = "test/family"


@pytest.fixture
def codes(aiida_profile, aiida_code_installed):
    """Codes of all plugins on localhost."""
    plugins = {"dosmatgen": "dosmatgen.sample", "pw": "quantumespresso.pw"}
    plugins |= {name: f"quantumespresso.{name}" for name in ("projwfc", "dos")}
    codes = {
        name: aiida_code_installed(label=name, default_calc_job_plugin=plugin, filepath_executable="/bin/true")
        for name, plugin in plugins.items()
    }
    for code in codes.values():  # tests before may have made the same computer without
        code.computer.set_default_mpiprocs_per_machine(1)
    return codes


@pytest.fixture
def pseudo_family(aiida_profile, tmp_path):
    """A family with cutoffs for three elements; the files are headers without a potential."""
    found = QueryBuilder().append(CutoffsPseudoPotentialFamily, filters={"label": FAMILY}).first(flat=True)
    if found is not None:
        return found
    folder = tmp_path / "pseudos"
    folder.mkdir()
    for symbol in CUTOFFS:
        header = f'<PP_HEADER element="{symbol}" z_valence="{ELECTRONS[symbol]}"/>'
        (folder / f"{symbol}.upf").write_text(f'<UPF version="2.0.1">\n{header}\n</UPF>\n')
    family = CutoffsPseudoPotentialFamily.create_from_folder(folder, FAMILY, pseudo_type=UpfData)
    cutoffs = {symbol: {"cutoff_wfc": wfc, "cutoff_rho": rho} for symbol, (wfc, rho) in CUTOFFS.items()}
    family.set_cutoffs(cutoffs, "normal", unit="Ry")
    return family


@pytest.fixture
def models(aiida_profile, checkpoint_file, model_file):
    """A denoiser, a predictor and a force field, by the names of the ports."""
    elements = ["C", "Si"]
    return {
        "checkpoint": CheckpointData(checkpoint_file("denoiser", "denoiser.safetensors", elements=elements)),
        "predictor": CheckpointData(checkpoint_file("predictor", "predictor.safetensors", elements=elements)),
        "force_field": ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)),
    }


@pytest.fixture
def target_node(aiida_profile, target):
    """A target of two sites."""
    return DosTargetData(target)


@pytest.fixture
def process():
    """Return a function that instantiates the work chain of a builder, without running it."""

    def instantiate(builder):
        return instantiate_process(get_manager().get_runner(), builder)

    return instantiate
