"""What the tests of the work chains share: codes that never run and real ones, pseudopotentials, models."""

import shutil

import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage.manager import get_manager
from aiida.orm import CalcJobNode, QueryBuilder
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
    plugins = {"dosmatgen": "dosmatgen.sample", "pw": "quantumespresso.pw", "projwfc": "quantumespresso.projwfc"}
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
        kind = "NC" if symbol == "Si" else "US"
        header = f'<PP_HEADER element="{symbol}" pseudo_type="{kind}" z_valence="{ELECTRONS[symbol]}" number_of_wfc="2"/>'
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


# --- Quantum ESPRESSO as it is installed here ---------------------------------------------------------------------------------

QUICK = {"cutoff": 18, "scf_distance": 0.8, "bands_distance": 0.8, "points_per_atom": 0, "least_high": 1.0}
"""A recipe for the file of silicon that Debian packages, and two atoms."""

SERIAL = {"withmpi": False, "max_wallclock_seconds": 1200}


class Codes(dict):
    """Codes by their names.

    :ivar make: makes another one, of a name, a label and an executable.
    """

    def __init__(self, codes, make):
        super().__init__(codes)
        self.make = make


@pytest.fixture
def real_codes(aiida_profile, aiida_code_installed):
    """The real pw.x and projwfc.x."""

    def code(name, label="real", executable=None):
        code = aiida_code_installed(
            label=f"{label}-{name}",
            default_calc_job_plugin=f"quantumespresso.{name}",
            filepath_executable=str(executable or shutil.which(f"{name}.x")),
            prepend_text="export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1",
        )
        code.computer.set_default_mpiprocs_per_machine(1)
        return code

    return Codes({name: code(name) for name in ("pw", "projwfc")}, make=code)


_KILLED = """#!/bin/bash
for number in {{1..{times}}}; do
    if mkdir {folder}/{name}-$number 2> /dev/null; then
        {program} "$@" <&0 &
        kill -9 $!
        wait $!
        exit $?
    fi
done
exec {program} "$@"
"""


@pytest.fixture
def killed(real_codes, tmp_path):
    """Return a function that makes a code whose executable is killed in its first runs: ``kill -9`` of the real one."""

    def make(name, times):
        script = tmp_path / f"{name}-killed"
        script.write_text(_KILLED.format(times=times, name=name, folder=tmp_path, program=shutil.which(f"{name}.x")))
        script.chmod(0o755)
        return real_codes.make(name, f"killed-{tmp_path.name}", script)

    return make


def runs(node, label):
    """Return the jobs called as ``label`` (``scf``, ``bands`` or ``projwfc``) with a number, or by a work chain that is."""
    found = []
    for child in node.called_descendants:
        links = child.base.links.get_incoming().all_link_labels()
        if any(link.rpartition("_")[0] == label for link in links):
            found += [job for job in child.called if isinstance(job, CalcJobNode)] if child.called else [child]
    return sorted({job.pk: job for job in found if isinstance(job, CalcJobNode)}.values(), key=lambda job: job.pk)
