"""Running the command line in the profile of the tests."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_dosmatgen.cmdline.main import main


@pytest.fixture
def run(aiida_profile, monkeypatch):
    """Return a function that runs the command line; it checks the exit status, and that a refusal is one line."""
    monkeypatch.setattr("aiida.common.log.CLI_ACTIVE", True)  # or the first command would change the logging of all tests

    def call(*arguments, status=0, **kwargs):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], **kwargs)
        trace = (
            result.output if result.exception is None or isinstance(result.exception, SystemExit) else repr(result.exception)
        )
        assert result.exit_code == status, trace
        if status == 2:
            assert len(result.stderr.splitlines()) == 1 and not result.stdout, result.output
            return result.stderr.strip()
        return result.stdout

    return call


@pytest.fixture
def complete_dos_json(crystals) -> dict:
    """The JSON of pymatgen's CompleteDos of SiC: bands from -5 to 1 eV and above 3 eV, the Fermi energy at 2 eV."""
    from monty.json import MontyEncoder
    from pymatgen.core import Structure
    from pymatgen.electronic_structure.core import Orbital, Spin
    from pymatgen.electronic_structure.dos import CompleteDos, Dos

    structure = Structure(crystals.lattices[1], [14, 6], crystals[1].fractional)
    energies = np.linspace(-12, 14, 521)
    densities = np.where((energies > -5) & (energies < 1), 1.0, 0.0) + np.where(energies > 3, 1.0, 0.0)
    projected = {site: {Orbital.s: {Spin.up: densities * (i + 1)}} for i, site in enumerate(structure)}
    dos = CompleteDos(structure, Dos(2.0, energies, {Spin.up: 3 * densities}), projected)
    return json.loads(json.dumps(dos, cls=MontyEncoder))
