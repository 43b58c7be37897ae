"""A target from a finished ``PdosWorkChain``."""

import shutil

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.engine import run_get_node
from aiida.orm import Dict, WorkChainNode
from aiida.plugins import DataFactory, WorkflowFactory

from aiida_dosmatgen.core.dft.pseudopotentials import collect
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.data.conversion import structure_of
from aiida_dosmatgen.data.target import DosTargetData


def test_an_unfinished_workchain_is_refused(aiida_profile):
    node = WorkChainNode().store()
    with pytest.raises(ValidationError, match="has not finished well"):
        DosTargetData.from_pdos_workchain(node)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("projwfc.x") is None, reason="Quantum ESPRESSO is not installed")
def test_from_a_real_pdos_workchain(aiida_profile, aiida_localhost, aiida_code_installed, crystals, tmp_path):
    codes = {
        name: aiida_code_installed(
            label=name, filepath_executable=f"{name}.x", default_calc_job_plugin=f"quantumespresso.{name}"
        )
        for name in ("pw", "dos", "projwfc")
    }
    pseudos = {"Si": DataFactory("pseudo.upf")(collect(tmp_path / "pseudos")["Si"])}
    metadata = {
        "options": {
            "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
            "withmpi": False,
            "max_wallclock_seconds": 600,
        }
    }

    def pw(calculation, **system):
        parameters = {
            "CONTROL": {"calculation": calculation},
            "SYSTEM": {"ecutwfc": 16, "ecutrho": 64, "nbnd": 9, **system},
        }
        calcjob = {"code": codes["pw"], "pseudos": pseudos, "parameters": Dict(parameters), "metadata": metadata}
        kpoints = DataFactory("core.array.kpoints")()
        kpoints.set_kpoints_mesh([4, 4, 4])
        return {"kpoints": kpoints, "pw": calcjob}

    grid = {"emin": -10.0, "emax": 15.0, "deltae": 0.1}
    _, node = run_get_node(
        WorkflowFactory("quantumespresso.pdos"),
        structure=structure_of(crystals[0]),
        scf=pw("scf", occupations="smearing", smearing="cold", degauss=0.02),
        nscf=pw("nscf", occupations="tetrahedra"),
        dos={"code": codes["dos"], "parameters": Dict({"DOS": grid}), "metadata": metadata},
        projwfc={"code": codes["projwfc"], "parameters": Dict({"PROJWFC": grid}), "metadata": metadata},
    )
    assert node.is_finished_ok, node.exit_message
    target = DosTargetData.from_pdos_workchain(node).target
    assert target.n_atoms == 2
    np.testing.assert_allclose(target.curves[0], target.curves[1], atol=2e-2)  # the two atoms are equal
    below = DEFAULT_GRID.points < 0.3
    # silicon's valence band of 12.5 eV begins below the grid, which cuts off part of its four electrons an atom
    assert 3.0 < target.curves[0][below].sum() * DEFAULT_GRID.spacing < 4.2
