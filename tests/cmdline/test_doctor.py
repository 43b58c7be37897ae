"""``aiida-dosmatgen setup doctor``: it finds what is broken, each part on its own, and says how to fix it."""

import re
import shlex
from pathlib import Path

import pytest
from aiida import orm
from aiida.cmdline.commands.cmd_verdi import verdi
from click.testing import CliRunner

from aiida_dosmatgen import __version__, setup
from aiida_dosmatgen.cmdline.main import main
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.setup import doctor


def ill(findings):
    """Return what is to be fixed, by its name."""
    return {finding.part: finding for finding in findings if not finding.ok}


@pytest.fixture
def localhost(aiida_profile_clean, tmp_path):
    """The computer, with a script in the place of each executable, so that none of them has to start."""
    computer = setup.ensure_computer(tmp_path / "jobs")
    for label in setup.CODES:
        script(tmp_path / label, "echo 1")
        orm.InstalledCode(label=label, computer=computer, filepath_executable=str(tmp_path / label)).store()
    return computer


def script(path, *lines):
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def test_a_whole_profile_lacks_its_daemon_only(aiida_profile_clean, tmp_path, run):
    setup.ensure_codes(setup.ensure_computer(tmp_path / "jobs"))
    setup.ensure_pseudo_family()
    setup.ensure_models()
    output = run("setup", "doctor", status=1)  # the profile of the tests has no broker
    lines = output.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == [line for line in lines if line.startswith("FAIL  daemon: ")]
    assert "      fix it: verdi profile configure-broker core.zeromq -n -f " in output and lines[-1] == "1 part to fix."
    assert "ok    computer localhost: core.local, core.direct" in output
    assert re.search(rf"ok    code dosmatgen@localhost: dosmatgen {re.escape(__version__)}, torch \d", output)
    assert re.search(r"ok    code pw@localhost: /.*/pw\.x", output)
    assert all(f"ok    model {label}: node" in output for label in setup.MODELS)
    assert "ok    pseudopotentials: PseudoDojo/0.4/PBE/SR/standard/upf: 72 elements" in output


def test_an_empty_profile_is_told_what_to_set_up(aiida_profile_clean):
    found = ill([*doctor.look_at_computers([]), doctor.look_at_pseudopotentials(), *doctor.look_at_models()])
    assert set(found) == {"computer", "pseudopotentials", *(f"model {label}" for label in setup.MODELS)}
    assert all("aiida-dosmatgen setup localhost" in finding.fix for finding in found.values())
    assert ill(doctor.look_at_computers(["mars"]))["computer mars"].found == "there is none of this name"


def test_executables_that_are_gone_missing_or_of_another_version(localhost, tmp_path):
    script(tmp_path / "dosmatgen", "echo dosmatgen 0.0.1")
    (tmp_path / "pw").unlink()
    orm.load_code("projwfc@localhost").label = "old"
    found = ill(doctor.look_at_computers([]))
    assert set(found) == {f"code {name}@localhost" for name in ("dosmatgen", "pw", "projwfc")}
    assert "is dosmatgen 0.0.1, here is" in found["code dosmatgen@localhost"].found
    assert found["code pw@localhost"].found == f"{tmp_path}/pw is not there"
    assert (found["code projwfc@localhost"].found, found["code projwfc@localhost"].fix) == (
        "there is none",
        "aiida-dosmatgen setup localhost",
    )


def test_an_executable_without_torch(localhost, tmp_path):
    python = script(
        tmp_path / "python",
        "[ \"$1\" = -c ] && { echo 'No module named torch' >&2; exit 1; }",
        f"echo dosmatgen {__version__}",
    )
    (tmp_path / "dosmatgen").write_text(f"#!{python}\n")
    found = ill(doctor.look_at_computers(["localhost"]))
    assert set(found) == {"code dosmatgen@localhost"}
    finding = found["code dosmatgen@localhost"]
    assert "has no torch: No module named torch" in finding.found and "aiida-dosmatgen[engine]" in finding.fix


def test_an_executable_without_the_default_force_field(localhost, tmp_path):
    python = script(tmp_path / "python", '[ "$1" = -c ] && { echo 2.13.0 False False; exit; }', f"echo dosmatgen {__version__}")
    (tmp_path / "dosmatgen").write_text(f"#!{python}\n")
    finding = ill(doctor.look_at_computers(["localhost"]))["code dosmatgen@localhost"]
    assert "no chgnet, the default force field" in finding.found and finding.fix.startswith("pip install chgnet there")


def test_a_disabled_and_an_unconfigured_computer(localhost):
    user = orm.User.collection.get_default()
    authorisation = localhost.get_authinfo(user)
    authorisation.enabled = False
    assert ill(doctor.look_at_computers([]))["computer localhost"].fix == f"verdi computer enable localhost {user.email}"
    other = orm.Computer("bare", "localhost", "", "core.local", "core.direct", "/tmp").store()
    orm.InstalledCode(label="dosmatgen", computer=other, filepath_executable="/bin/true").store()
    assert ill(doctor.look_at_computers([]))["computer bare"].found == "is not configured"


def test_a_work_directory_that_cannot_be_written_to(aiida_profile_clean):
    computer = setup.ensure_computer(Path("/proc/jobs"))
    orm.InstalledCode(label="dosmatgen", computer=computer, filepath_executable="/bin/true").store()
    assert "/proc/jobs on localhost cannot be written to" in ill(doctor.look_at_computers([]))["computer localhost"].found


def commands_in(fix):
    """Return the commands of an advice, as a shell splits them."""
    found = re.findall(r"(?:verdi|aiida-dosmatgen|pip) .*?(?=$|, then|, or|; or|, verdi| there| \()", fix)
    return [shlex.split(command) for command in found]


def test_what_is_advised_can_be_typed(localhost, tmp_path, monkeypatch, checkpoint_file):
    """Each command of each advice, with its options; --help keeps it from doing anything."""
    (tmp_path / "pw").unlink()
    script(tmp_path / "dosmatgen", "echo dosmatgen 0.0.1")
    other = orm.Computer("bare", "localhost", "", "core.ssh_async", "core.direct", "/tmp").store()
    orm.InstalledCode(label="dosmatgen", computer=other, filepath_executable="/bin/true").store()
    damaged = CheckpointData(checkpoint_file()).store()
    damaged.label = "dosmatgen-denoiser"
    monkeypatch.setattr(doctor, "_sha256", lambda node: "0" * 64)
    fixes = [finding.fix for finding in doctor.examine() if not finding.ok]
    fixes += [finding.fix for finding in doctor.look_at_computers(["mars"])]
    fixes += ["verdi daemon start", "verdi daemon restart", "verdi daemon stop, verdi process repair, verdi daemon start"]
    commands = [command for fix in fixes for command in commands_in(fix)]
    assert len(commands) >= len(fixes) - 1 and {command[0] for command in commands} == {"verdi", "aiida-dosmatgen", "pip"}
    for program, *arguments in commands:
        if program == "pip":
            assert arguments[0] == "install"
            continue
        result = CliRunner().invoke({"verdi": verdi, "aiida-dosmatgen": main}[program], [*arguments, "--help"])
        assert result.exit_code == 0 and "Usage:" in result.output, f"{program} {arguments}: {result.output}"


def test_a_damaged_model_is_noticed(aiida_profile_clean, checkpoint_file):
    node = CheckpointData(checkpoint_file()).store()
    node.label = "dosmatgen-denoiser"
    assert "model dosmatgen-denoiser" not in ill(doctor.look_at_models())
    (entry,) = node.base.repository.metadata["o"].values()
    folder = Path(node.backend.get_repository()._container.get_folder())  # of disk-objectstore, where the name is the hash
    path = folder / "loose" / entry["k"][:2] / entry["k"][2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    finding = ill(doctor.look_at_models())["model dosmatgen-denoiser"]
    assert "has been damaged" in finding.found and f"verdi node delete {node.pk}" in finding.fix
