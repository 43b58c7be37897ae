"""The set-up of AiiDA: complete, repeatable, continued after an interruption."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiida import orm

from aiida_dosmatgen import setup
from aiida_dosmatgen.core.dft.pseudodojo import table
from aiida_dosmatgen.core.dft.pseudopotentials import DEBIAN_PBE, cutoffs
from aiida_dosmatgen.core.errors import ContentError

MODEL_FILE = Path(setup.__file__).parents[1] / "models" / "forcefield.model"


@pytest.fixture
def computer(aiida_profile_clean, tmp_path):
    return setup.ensure_computer(tmp_path)


def n_entities() -> tuple[int, ...]:
    return tuple(orm.QueryBuilder().append(entity).count() for entity in (orm.Node, orm.Computer, orm.Group))


def in_a_process(folder: Path, code: str, path: str | None = None) -> subprocess.CompletedProcess:
    """Run Python with an AiiDA configuration of its own."""
    environment = {**os.environ, "AIIDA_PATH": str(folder / ".aiida"), "PATH": path or os.environ["PATH"]}
    program = f"from aiida_dosmatgen.cmdline.main import main\nfrom aiida_dosmatgen.setup import *\n{code}"
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """A folder with two profiles, ``campaigns`` and ``second``, and the uuid of the first."""
    folder = tmp_path_factory.mktemp("profiles")
    made = in_a_process(folder, "print(ensure_profile('campaigns').uuid); ensure_profile('second')")
    assert made.returncode == 0, made.stderr
    return folder, made.stdout


def test_a_profile_is_made_once(profiles):
    folder, uuid = profiles
    again = in_a_process(folder, "print(ensure_profile('campaigns').uuid)")
    assert again.returncode == 0, again.stderr
    assert again.stdout == uuid != ""
    config = json.loads((folder / ".aiida" / "config.json").read_text())
    assert list(config["profiles"]) == ["campaigns", "second"]
    assert config["default_profile"] == "campaigns"
    profile = config["profiles"]["campaigns"]
    assert profile["storage"]["backend"] == "core.sqlite_dos"
    assert profile["process_control"]["backend"] == "core.zeromq"
    assert profile["options"]["runner.poll.interval"] == 1

    storage = Path(profile["storage"]["config"]["filepath"])
    moved = storage.rename(storage.with_name("moved"))
    refused = in_a_process(folder, "main(['setup', 'localhost', '--profile', 'campaigns'])")
    moved.rename(storage)  # for the other tests
    assert refused.returncode == 2
    assert f"is not at {storage}; if its folder was moved, move it back" in refused.stderr.splitlines()[-1]


def test_what_is_missing_is_said_in_one_line(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ps").symlink_to(shutil.which("ps"))
    result = in_a_process(tmp_path, "main(['setup', 'localhost'])", path=str(programs))
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("setup localhost: not installed: pw.x projwfc.x;")
    assert "Traceback" not in result.stderr
    assert "profile            dosmatgen in" in result.stdout


def test_the_computer_is_fast_and_made_once(computer, tmp_path):
    assert computer.is_configured
    assert computer.get_minimum_job_poll_interval() == 1
    assert computer.get_configuration()["safe_interval"] == 0
    assert setup.ensure_computer(tmp_path).pk == computer.pk


def test_an_interrupted_computer_is_completed(aiida_profile_clean, tmp_path):
    computer = orm.Computer("localhost", "localhost", "", "core.local", "core.direct", str(tmp_path)).store()
    assert not computer.is_configured
    assert setup.ensure_computer(tmp_path).is_configured


def test_the_computer_of_a_colleagues_archive_is_not_used(aiida_profile_clean, tmp_path):
    """Imported computers are not configured here, and have the colleague's work directory."""
    theirs = orm.Computer("localhost", "localhost", "", "core.local", "core.direct", "/home/colleague/jobs").store()
    theirs.set_prepend_text("module load something")
    mine = setup.ensure_computer(tmp_path)
    assert mine.uuid != theirs.uuid and mine.get_workdir() == str(tmp_path) and not mine.get_prepend_text()
    assert theirs.label == f"localhost-{theirs.uuid[:8]}"
    assert setup.ensure_computer(tmp_path).uuid == mine.uuid


def test_a_computer_whose_directory_is_out_of_reach_is_replaced(aiida_profile_clean, tmp_path):
    broken = setup.ensure_computer(Path("/proc/jobs"))
    again = setup.ensure_computer(tmp_path)
    assert again.uuid != broken.uuid and again.get_workdir() == str(tmp_path)


def test_no_daemon_is_started_without_a_broker(aiida_profile_clean):
    with pytest.raises(ContentError, match="has no broker.*verdi profile configure-broker core.zeromq -n -f"):
        setup.ensure_daemon()


def test_the_chosen_profile_is_set_up_and_the_default_is_said(profiles, tmp_path):
    """Up to the codes: there is no pw.x in this path."""
    folder, _ = profiles
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ps").symlink_to(shutil.which("ps"))
    for arguments, name in (
        (["-p", "second", "setup", "localhost"], "second"),
        (["setup", "localhost", "--profile", "campaigns"], "campaigns"),
    ):
        result = in_a_process(folder, f"main({arguments})", path=str(programs))
        assert f"  profile            {name} in" in result.stdout, result.stderr
    config = json.loads((folder / ".aiida" / "config.json").read_text())
    assert set(config["profiles"]) == {"campaigns", "second"}


def test_codes_are_made_once_and_run_serially(computer):
    codes = setup.ensure_codes(computer)
    assert set(codes) == {"dosmatgen", "pw", "projwfc"}
    assert Path(str(codes["dosmatgen"].filepath_executable)).parent == Path(sys.executable).parent
    for label in ("pw", "projwfc"):
        assert "export OMP_NUM_THREADS=1" in codes[label].prepend_text
        assert codes[label].default_calc_job_plugin == f"quantumespresso.{label}"
        assert orm.load_code(f"{label}@localhost").uuid == codes[label].uuid
    before = n_entities()
    assert {label: code.pk for label, code in setup.ensure_codes(computer).items()} == {
        key: code.pk for key, code in codes.items()
    }
    assert n_entities() == before


def test_a_code_whose_executable_moved_keeps_its_node_under_another_label(computer):
    old = orm.InstalledCode(label="pw", computer=computer, filepath_executable="/gone/pw.x").store()
    new = setup.ensure_codes(computer)["pw"]
    assert new.uuid != old.uuid
    assert orm.load_code("pw@localhost").uuid == new.uuid
    assert orm.load_node(old.pk).label == f"pw-{old.uuid[:8]}"


def test_missing_executables_are_named(computer, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ContentError, match="not installed: pw.x projwfc.x; .*quantum-espresso"):
        setup.ensure_codes(computer)


def test_the_pseudo_family_is_pseudodojo(aiida_profile_clean):
    family = setup.ensure_pseudo_family()
    assert (family.label, len(family.elements)) == ("PseudoDojo/0.4/PBE/SR/standard/upf", 72)
    assert family.get_recommended_cutoffs(elements="Si", stringency="normal", unit="Ry") == (36.0, 144.0)
    assert all(
        hashlib.sha256(p.get_content().encode()).hexdigest() == table()[p.element]["sha256"] for p in family.pseudos.values()
    )
    before = n_entities()
    assert setup.ensure_pseudo_family().pk == family.pk
    assert n_entities() == before
    # what an interruption left behind
    family.remove_nodes([family.get_pseudo("Si")])
    assert len(setup.ensure_pseudo_family().elements) == 72
    assert n_entities()[0] == before[0]


def test_the_family_of_debian_has_the_cutoffs_of_the_table(aiida_profile_clean):
    family = setup.ensure_debian_family()
    assert set(family.elements) == set(DEBIAN_PBE)
    assert family.get_default_stringency() == "normal"
    silica = orm.StructureData(cell=[[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    silica.append_atom(position=(0, 0, 0), symbols="Si")
    silica.append_atom(position=(2, 0, 0), symbols="O")
    for stringency in ("fast", "normal"):
        assert family.get_recommended_cutoffs(structure=silica, stringency=stringency, unit="Ry") == pytest.approx(
            cutoffs(["Si", "O"], stringency)
        )
    before = n_entities()
    assert setup.ensure_debian_family().pk == family.pk
    assert n_entities() == before


def test_an_interrupted_pseudo_family_is_made_anew(aiida_profile_clean):
    family = setup.ensure_debian_family()
    n_nodes = n_entities()[0]
    family.remove_nodes([family.get_pseudo("Si")])
    assert set(setup.ensure_debian_family().elements) == set(DEBIAN_PBE)
    assert n_entities()[0] == n_nodes


def test_shipped_models_are_imported_once(aiida_profile_clean):
    nodes = setup.ensure_models()
    assert {label: node.label for label, node in nodes.items()} == {label: label for label in setup.MODELS}
    assert nodes["dosmatgen-denoiser"].base.attributes.get("kind") == "denoiser"
    assert nodes["dosmatgen-predictor"].base.attributes.get("kind") == "predictor"
    before = n_entities()
    assert {label: node.pk for label, node in setup.ensure_models().items()} == {key: node.pk for key, node in nodes.items()}
    assert n_entities() == before


def test_a_model_of_an_older_release_makes_room_for_the_new_one(aiida_profile_clean, checkpoint_file):
    from aiida_dosmatgen.data.checkpoint import CheckpointData

    old = CheckpointData.from_file(checkpoint_file())
    old.label = "dosmatgen-denoiser"
    old.store()
    new = setup.ensure_models()["dosmatgen-denoiser"]
    assert new.uuid != old.uuid
    assert orm.load_node(old.pk).label == f"dosmatgen-denoiser-{old.base.attributes.get('sha256')[:8]}"


def test_the_default_force_field_is_a_calculator_and_an_older_file_makes_room(aiida_profile_clean):
    from aiida_dosmatgen.data.forcefield import ForceFieldData

    old = ForceFieldData.from_file(MODEL_FILE)
    old.label = "dosmatgen-forcefield"
    old.store()
    new = setup.ensure_models()["dosmatgen-forcefield"]
    assert (new.kind, new.name) == ("calculator", "chgnet")
    assert orm.load_node(old.pk).label == f"dosmatgen-forcefield-{old.sha256[:8]}"
    assert setup.ensure_models()["dosmatgen-forcefield"].pk == new.pk


def test_without_ps_there_is_no_computer(aiida_profile_clean, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContentError, match="ps is not installed"):
        setup.ensure_computer(tmp_path)
