"""Jobs that are killed or stopped by their time limit, with the real executable, and are continued."""

import json
import sys
from pathlib import Path

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import CalcJob, run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage.manager import get_manager

from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.base import INTERRUPTED, SampleBaseWorkChain
from aiida_dosmatgen.workflows.retries import LIMIT

SHIPPED = Path(__file__).parents[2] / "aiida_dosmatgen" / "models" / "denoiser.safetensors"
N_CANDIDATES = 24

# Kills the executable once, as soon as it has written its first batch; PLACE is common to all runs of the test.
KILL_ONCE = """
if mkdir PLACE/killed 2> /dev/null; then
  (while ! ls .candidates.npz.parts/*/*.npz > /dev/null 2>&1; do sleep 0.05; done; kill -9 $(pgrep -P $$ -f dosmatgen)) &
fi
"""


@pytest.fixture
def job(aiida_profile, aiida_code, aiida_localhost, target):
    """Return a function that makes the inputs of a sampling job in batches of four."""
    code = aiida_code(
        "core.code.installed",
        label="dosmatgen-real",
        computer=aiida_localhost,
        filepath_executable=str(Path(sys.executable).with_name("dosmatgen")),
        default_calc_job_plugin="dosmatgen.sample",
    )

    def make(**options):
        return {
            "code": code,
            "checkpoint": CheckpointData.from_file(SHIPPED),
            "target": DosTargetData(target),
            "parameters": {"steps": 4, "attempts": 1},
            "seed": 3,
            "candidates": [0, N_CANDIDATES],
            "metadata": {"options": {"device": "cpu", "threads": 1, "batch_size": 4, **options}},
        }

    return make


def run(inputs, **others):
    return run_get_node(SampleBaseWorkChain, sample=inputs, **others)


def runs(node):
    return sorted(node.called, key=lambda child: child.pk)


def test_a_killed_job_is_continued_and_gives_the_same(job, tmp_path):
    undisturbed, _ = run(job())
    outputs, node = run(job(prepend_text=KILL_ONCE.replace("PLACE", str(tmp_path))))
    assert node.is_finished_ok, node.exit_message
    first, second = runs(node)
    assert first.exit_status == 301
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
    assert outputs["crystals"].crystals == undisturbed["crystals"].crystals
    assert outputs["crystals"].uuid == second.outputs.crystals.uuid
    runtime = json.loads(second.base.repository.get_object_content("job.json"))["runtime"]
    assert runtime["continue_from"] == "previous"
    calcinfo = json.loads(second.base.repository.get_object_content(".aiida/calcinfo.json"))
    before = first.outputs.remote_folder
    assert calcinfo["remote_symlink_list"] == [[before.computer.uuid, before.get_remote_path(), "previous"]]


@pytest.mark.slow
def test_a_job_without_time_for_anything_is_given_up_with_what_it_has(job):
    inputs = job(max_wallclock_seconds=1)
    inputs["candidates"] = [0, 100_000]
    inputs["metadata"]["options"]["batch_size"] = 10_000
    _, node = run(inputs)
    assert node.exit_status == SampleBaseWorkChain.exit_codes.ERROR_INCOMPLETE.status
    assert "gave up with 0 of 100000 done" in node.exit_message and "got no further" in node.exit_message
    assert len(runs(node)) == 2
    assert len(node.outputs.crystals.crystals) == 0


def ended(exit_status, done=None, remote=None, stderr=None):
    """Return a stored job that ended."""
    node = orm.CalcJobNode(computer=orm.load_computer("localhost"))
    node.set_process_state("finished")
    node.set_exit_status(exit_status)
    node.store()
    outputs = {"remote_folder": orm.RemoteData(computer=node.computer, remote_path=remote or "/nowhere")}
    if done is not None:
        outputs["results"] = orm.Dict({"done": done, "of": 100})
    if stderr is not None:
        outputs["retrieved"] = orm.FolderData()
        outputs["retrieved"].base.repository.put_object_from_bytes(stderr.encode(), "dosmatgen.err")
    for label, output in outputs.items():
        output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=label)
        output.store()
    return node


@pytest.fixture
def chain(job):
    """A chain that has just begun."""
    chain = instantiate_process(get_manager().get_runner(), SampleBaseWorkChain, sample=job())
    chain.setup()
    chain.ctx.iteration = 1
    return chain


def test_time_limits_do_not_count_as_long_as_runs_get_further(chain):
    for done in (10, 20, 30, 40):
        node = ended(401, done)
        assert chain.continue_stopped(node).exit_code.status == 0
        assert chain.ctx.inputs.parent_folder.uuid == node.outputs.remote_folder.uuid
    report = chain.continue_stopped(ended(401, 40))
    assert report.exit_code.status == 410 and "40 of 100" in report.exit_code.message


def test_the_number_of_runs_is_limited(chain):
    chain.ctx.iteration = chain.inputs.max_iterations.value
    report = chain.continue_stopped(ended(401, 10))
    assert report.exit_code.status == 410 and "max_iterations is 20" in report.exit_code.message


def test_interruptions_in_a_row_are_limited(chain):
    for status in (140, 120, 301, 301):
        assert chain.repeat_interrupted(ended(status)).exit_code.status == 0
    assert chain.repeat_interrupted(ended(301)) is None
    chain.continue_stopped(ended(401, 10))
    assert chain.repeat_interrupted(ended(301)).exit_code.status == 0


def test_interruptions_do_not_count_as_long_as_runs_get_further(chain):
    for done in range(1, 9):
        assert chain.repeat_interrupted(ended(301, stderr=f"{done - 1}/24 candidates\n{done}/24 candidates, 3 s each\n"))
    for _ in range(LIMIT - 2):
        assert chain.repeat_interrupted(ended(301, stderr="8/24 candidates\n"))
    assert chain.repeat_interrupted(ended(301, stderr="8/24 candidates\n")) is None


def excepted(words):
    """Return a stored job that an exception of AiiDA ended when it was on the computer already."""
    node = orm.CalcJobNode(computer=orm.load_computer("localhost"))
    node.set_process_state("excepted")
    node.set_exception(words)
    node.store()
    remote = orm.RemoteData(computer=node.computer, remote_path="/nowhere")
    remote.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="remote_folder")
    remote.store()
    return node


def test_a_job_that_aiida_failed_with_is_repeated(chain):
    chain.ctx.children = [excepted("aiormq.exceptions.ChannelInvalidStateError: no active transport") for _ in range(LIMIT)]
    for iteration in range(1, LIMIT):
        chain.ctx.iteration = iteration
        assert chain.inspect_process() is None and not chain.ctx.is_finished
        assert chain.ctx.inputs.parent_folder.uuid == chain.ctx.children[iteration - 1].outputs.remote_folder.uuid
    chain.ctx.iteration = LIMIT
    assert chain.inspect_process().status == SampleBaseWorkChain.exit_codes.ERROR_SUB_PROCESS_EXCEPTED.status


def test_outputs_that_were_attached_before_the_daemon_was_killed_are_registered(chain):
    job = ended(0, 24)
    chain.ctx.children, kept = [job], {}
    for label in ("results", "remote_folder"):
        kept[label] = job.base.links.get_outgoing().get_node_by_label(label)
        kept[label].base.links.add_incoming(chain.node, LinkType.RETURN, label)
    chain.results()
    assert {label: node.uuid for label, node in chain.outputs.items()} == {label: node.uuid for label, node in kept.items()}


def test_less_memory_is_used_after_the_scheduler_ended_a_job_for_it(chain):
    chain.repeat_interrupted(ended(110))
    assert chain.ctx.inputs.metadata.options.batch_size == 2
    del chain.ctx.inputs.metadata.options["batch_size"]
    chain.repeat_interrupted(ended(110))
    assert chain.ctx.inputs.metadata.options.batch_size == 16


def test_a_job_with_which_not_aiida_but_its_input_failed_is_not_repeated(chain):
    chain.ctx.children = [excepted("ValueError: the input is wrong")]
    assert chain.inspect_process().status == SampleBaseWorkChain.exit_codes.ERROR_SUB_PROCESS_EXCEPTED.status


@pytest.mark.parametrize("status", [201, 303, 304, 131])
def test_what_is_wrong_with_the_job_itself_is_not_repeated(chain, status):
    assert status not in INTERRUPTED
    assert chain.repeat_interrupted(ended(status)) is None


def test_the_parent_must_lie_on_the_computer_of_the_code(job, aiida_computer_local):
    other = aiida_computer_local(label="elsewhere")
    inputs = {**job(), "parent_folder": orm.RemoteData(computer=other, remote_path="/tmp").store()}
    with pytest.raises(ValueError, match="parent_folder lies on elsewhere, but the job runs on"):
        run(inputs)


def test_scheduler_codes_are_among_the_interruptions():
    codes = CalcJob.exit_codes
    assert codes.ERROR_SCHEDULER_NODE_FAILURE.status in INTERRUPTED
    assert codes.ERROR_SCHEDULER_INVALID_ACCOUNT.status not in INTERRUPTED
