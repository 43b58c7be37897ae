"""``aiida-dosmatgen setup computer`` against a real login node."""

from pathlib import Path

import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_dosmatgen.cmdline.main import main
from aiida_dosmatgen.setup.settings import ComputerSettings, from_answers
from aiida_dosmatgen.workflows.protocols.utils import CODE_OPTIONS

from .conftest import set_up_computer
from .loopback import HOST

pytestmark = pytest.mark.cluster


@pytest.fixture
def run(home, aiida_profile_clean, tmp_path):
    """Run the command on a YAML file."""
    return lambda content: set_up_computer(content, tmp_path)


def test_a_cluster_is_set_up_once_and_brought_up_to_date(run, answers):
    result = run(answers)
    assert result.exit_code == 0, result.output
    assert "slurm" in result.output and "without accounting" in result.output and "dosmatgen 0." in result.output
    computer = orm.load_computer("cluster")
    assert computer.is_configured and computer.get_configuration()["host"] == HOST
    codes = {code.label: code for code in orm.QueryBuilder().append(orm.InstalledCode).all(flat=True)}
    assert sorted(codes) == ["dosmatgen", "projwfc", "pw"]
    assert str(codes["pw"].filepath_executable).startswith("/")
    assert codes["dosmatgen"].base.extras.get(CODE_OPTIONS)["device"] == "cpu"

    changed = {**answers, "minimum_job_poll_interval": 5}
    changed["codes"] = {**answers["codes"], "pw": {**answers["codes"]["pw"], "prepend_text": "export OMP_NUM_THREADS=2"}}
    assert run(changed).exit_code == 0
    assert orm.QueryBuilder().append(orm.Computer, filters={"label": "cluster"}).count() == 1
    assert orm.load_computer("cluster").get_minimum_job_poll_interval() == 5
    assert orm.load_code("pw@cluster").uuid != codes["pw"].uuid
    assert orm.load_code("projwfc@cluster").uuid == codes["projwfc"].uuid
    assert orm.load_node(codes["pw"].uuid).label == f"pw-{codes['pw'].uuid[:8]}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hostname": "nowhere.invalid"}, "no connection to cluster: "),
        ({"work_dir": "/proc/jobs"}, "/proc/jobs on cluster cannot be written to"),
        ({"codes": {"pw": {"filepath_executable": "pw.y"}}}, "codes.pw: there is no executable pw.y on cluster; give its"),
        ({"codes": {"dosmatgen": {"filepath_executable": "/bin/false"}}}, "/bin/false on cluster does not run"),
        ({"codes": {"dosmatgen": {"filepath_executable": "/bin/ls"}}}, "install the same version there"),
        ({"codes": {"vasp": {"filepath_executable": "vasp"}}}, "codes: unknown code 'vasp'; there are dosmatgen, pw"),
        ({"codes": {"dos": {"filepath_executable": "dos.x"}}}, "codes: there is no code 'dos' any more: dos.x is not run"),
        ({"work_dir": "jobs"}, "work_dir: 'jobs' is not an absolute path"),
        ({"colour": "red"}, "colour: unknown key"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(run, answers, change, message):
    result = run({**answers, **change})
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith("setup computer: ") and message in result.output
    assert orm.QueryBuilder().append(orm.Computer, filters={"label": "cluster"}).count() == 0
    assert orm.QueryBuilder().append(orm.InstalledCode).count() == 0


def test_a_computer_that_jobs_ran_on_is_not_redirected(run, answers):
    assert run(answers).exit_code == 0
    result = run({**answers, "work_dir": "/tmp/elsewhere"})
    assert result.exit_code == 2
    assert "is there with workdir" in result.output and "another label" in result.output
    assert orm.load_computer("cluster").get_workdir() == answers["work_dir"]


def test_a_few_answers_are_enough(home, aiida_profile_clean, answers, tmp_path):
    typed = [HOST, answers["work_dir"], answers["codes"]["dosmatgen"]["filepath_executable"], "", "main", "", "2", "4"]
    saved = tmp_path / "cluster.yaml"
    result = CliRunner().invoke(main, ["setup", "computer", "--save", str(saved)], input="\n".join(typed) + "\n")
    assert result.exit_code == 0, result.output
    options = orm.load_code(f"dosmatgen@{HOST}").base.extras.get(CODE_OPTIONS)
    assert options["custom_scheduler_commands"] == "#SBATCH --gres=gpu:2" and options["device"] == "cuda"
    assert options["queue_name"] == "main" and "account" not in options
    assert orm.load_code(f"pw@{HOST}").base.extras.get(CODE_OPTIONS)["resources"]["num_mpiprocs_per_machine"] == 4
    assert ComputerSettings.from_file(saved).hostname == HOST


def test_config_and_answers_do_not_mix(home, aiida_profile_clean, tmp_path):
    result = CliRunner().invoke(main, ["setup", "computer", "--config", str(tmp_path / "c.yaml"), "--gpus", "1"])
    assert result.exit_code == 2 and "--gpus does not go with --config" in result.output


def test_the_documented_file_makes_settings(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    (tmp_path / "cluster.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    settings = ComputerSettings.from_file(tmp_path / "cluster.yaml")
    assert settings.codes["dosmatgen"].options["device"] == "cuda"
    assert settings.codes["projwfc"].prepend_text == settings.codes["pw"].prepend_text
    assert settings.codes["projwfc"].filepath_executable == "projwfc.x"


def test_the_answers_make_settings():
    content = from_answers("host", "/scratch/x", "/x/dosmatgen", "module load qe", account="me")
    settings = ComputerSettings.model_validate(content)
    assert settings.label == "host"
    assert settings.codes["pw"].prepend_text == "module load qe\nexport OMP_NUM_THREADS=1"
    assert settings.codes["pw"].options["account"] == "me"
