"""Running the command line in the profile of the tests."""

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
