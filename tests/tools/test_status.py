"""How far a campaign is and how long it will take, on graphs made by hand."""

import datetime
import io

import pytest
from aiida import orm
from aiida.common.datastructures import CalcJobState
from aiida.common.links import LinkType
from aiida.schedulers.datastructures import JobInfo, JobState

from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.tools.daemon import abandoned, forgotten, idle
from aiida_dosmatgen.tools.hints import hints
from aiida_dosmatgen.tools.processes import Process, processes_below
from aiida_dosmatgen.tools.progress import progress, wait
from aiida_dosmatgen.tools.remaining import seconds_left
from aiida_dosmatgen.tools.status import status

N_CANDIDATES = 20


def process(cls, label, process_type="", inputs=None, caller=None, call="", state="finished", exit_status=0, outputs=None):
    """Store a process as the engine would; one that has not ended is not sealed."""
    node = cls()
    node.set_process_label(label)
    node.set_process_type(process_type or f"tests.{label}")
    node.set_process_state(state)
    if state == "finished":
        node.set_exit_status(exit_status)
    workflow = issubclass(cls, orm.WorkflowNode)
    for name, value in (inputs or {}).items():
        node.base.links.add_incoming(value.store(), LinkType.INPUT_WORK if workflow else LinkType.INPUT_CALC, name)
    if caller is not None:
        node.base.links.add_incoming(caller, LinkType.CALL_WORK if workflow else LinkType.CALL_CALC, call or label)
    if cls is orm.CalcJobNode:
        node.computer = orm.load_computer("localhost")
    node.store()
    for name, value in (outputs or {}).items():
        value.base.links.add_incoming(node, LinkType.RETURN if workflow else LinkType.CREATE, name)
        if not value.is_stored:
            value.store()
    return node


@pytest.fixture
def codes(aiida_profile_clean, aiida_localhost, aiida_code_installed):
    # the profile is shared, and other tests take a code by its label
    return {
        name: aiida_code_installed(label=f"status-{name}", filepath_executable=f"/opt/{name}") for name in ("dosmatgen", "pw")
    }


@pytest.fixture
def campaign(codes, target):
    """A campaign for two targets that has just begun."""
    inputs = {
        "targets__gap": DosTargetData(target),
        "targets__gap_2": DosTargetData(target),  # the name of one target is the beginning of the other's
        "candidates__sample__code": codes["dosmatgen"],
        "candidates__n_candidates": orm.Int(N_CANDIDATES),
        "validate__dos__pw__pw__code": codes["pw"],
        "top_k": orm.Int(3),
    }
    kind = "aiida.workflows:dosmatgen.campaign"
    return process(orm.WorkChainNode, "CampaignWorkChain", kind, inputs, state="waiting")


def candidates(caller, name, codes, state="finished", exit_status=0, n_candidates=N_CANDIDATES, engine_seconds=None):
    """A chain of candidates, with one job that computed for some seconds if it has ended."""
    inputs = {"sample__code": codes["dosmatgen"], "n_candidates": orm.Int(n_candidates)}
    kind = "aiida.workflows:dosmatgen.candidates"
    chain = process(
        orm.WorkChainNode, "CandidatesWorkChain", kind, inputs, caller, f"candidates_{name}", state, exit_status
    )  # fmt: skip
    base = process(orm.WorkChainNode, "SampleBaseWorkChain", caller=chain, call="sample", state=state)
    results = {"results": orm.Dict({"seconds": engine_seconds})} if engine_seconds is not None else {}
    process(orm.CalcJobNode, "SampleCalculation", caller=base, call="iteration_01", state=state, outputs=results)
    return chain


def validation(caller, name, number, state="finished", exit_status=0):
    """A validation, with a job that runs if it does."""
    chain = process(
        orm.WorkChainNode,
        "ValidateWorkChain",
        "aiida.workflows:dosmatgen.validate",
        caller=caller,
        call=f"validate_{name}_{number}",
        state=state,
        exit_status=exit_status,
    )
    if state != "finished":
        process(orm.CalcJobNode, "PwCalculation", caller=chain, state=state)
    return chain


def report(campaign, name, crystals, left):
    """Attach what the screening of a target returned."""
    funnel = orm.Dict({"funnel": {"candidates": N_CANDIDATES, "unique": left}})
    survivors = CrystalSetData(crystals[[0] * left]) if left else None
    for label, node in ((f"reports__{name}", funnel), (f"candidates__{name}", survivors)):
        if node is not None:
            node.store().base.links.add_incoming(campaign, LinkType.RETURN, label)


def test_before_the_screening(campaign, codes):
    candidates(campaign, "gap", codes, state="waiting")
    now = status(campaign)
    assert (now.state, now.ended, now.jobs, now.seconds_left) == ("waiting", False, {"sampling": 1}, None)
    first, second = now.targets
    assert (first.name, first.stage, first.funnel, first.to_validate) == ("gap", "sampling", {}, None)
    assert (second.name, second.stage) == ("gap_2", "waits")


def test_while_candidates_are_validated(campaign, codes, crystals):
    for name, left in (("gap", 5), ("gap_2", 2)):
        candidates(campaign, name, codes)
        report(campaign, name, crystals, left)
    validation(campaign, "gap", 3)
    validation(campaign, "gap", 7, exit_status=302)
    validation(campaign, "gap_2", 4, state="waiting")
    now = status(campaign)
    first, second = now.targets
    assert first.funnel == {"candidates": 20, "unique": 5}
    assert (first.to_validate, first.validated, first.failed, first.running) == (3, 1, 1, 0)
    assert (second.to_validate, second.validated, second.failed, second.running) == (2, 0, 0, 1)
    assert [target.stage for target in now.targets] == ["validating"] * 2 and now.jobs == {"pw.x": 1}
    validation(campaign, "gap", 8)
    assert status(campaign).targets[0].stage == "done"


def test_what_is_begun_again_counts_once(campaign, codes, crystals):
    candidates(campaign, "gap", codes, state="excepted")
    candidates(campaign, "gap", codes, state="waiting")
    assert status(campaign).targets[0].stage == "sampling"
    candidates(campaign, "gap_2", codes)
    report(campaign, "gap_2", crystals, 2)
    validation(campaign, "gap_2", 4, exit_status=302)
    validation(campaign, "gap_2", 4, state="waiting")
    again = status(campaign).targets[1]
    assert (again.stage, again.validated, again.failed, again.running) == ("validating", 0, 0, 1)
    assert progress(campaign).endswith("validations: 0 of 1 started ones ended")


def test_a_target_without_candidates_and_the_end(campaign, codes):
    candidates(campaign, "gap", codes, exit_status=410)
    campaign.set_process_state("finished")
    campaign.set_exit_status(301)
    now = status(campaign)
    assert (now.ended, now.exit_status, now.seconds_left) == (True, 301, 0.0)
    assert [target.stage for target in now.targets] == ["no candidates", "not begun"]


def test_waiting_looks_closely_only_where_something_changed(campaign, codes, monkeypatch):
    chain = candidates(campaign, "gap", codes, state="waiting")
    looks, pauses = [], []

    def looked(node):
        looks.append(len(pauses))
        return progress(node)

    def slept(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            chain.set_process_state("finished")
        if len(pauses) == 6:
            campaign.set_process_state("finished")

    monkeypatch.setattr("aiida_dosmatgen.tools.progress.progress", looked)
    monkeypatch.setattr("aiida_dosmatgen.tools.progress.time.sleep", slept)
    stream = io.StringIO()
    assert wait(campaign, 0.5, stream)
    assert looks == [0, 3] and len(pauses) == 6 and min(pauses) >= 0.5
    assert "sampling (1 job)" in stream.getvalue()


def test_the_processes_of_all_levels_are_found_once(campaign, codes):
    chain = candidates(campaign, "gap", codes)
    found = processes_below(campaign)
    assert [p.name for p in found] == ["CandidatesWorkChain", "SampleBaseWorkChain", "SampleCalculation"]
    assert found[0].pk == chain.pk and found[0].caller == campaign.pk and found[0].call == "candidates_gap"
    assert [p.is_job for p in found] == [False, False, True] and all(p.ended_well for p in found)


def test_jobs_that_no_worker_asks_for(campaign, codes):
    """Only those in the hands of a scheduler, not paused, and not asked for since longer than computer and patience allow."""
    jobs = [process(orm.CalcJobNode, "PwCalculation", caller=campaign, state="waiting") for _ in range(5)]
    old = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=2 * HOUR)).isoformat()
    for job in jobs:
        job.set_state(CalcJobState.WITHSCHEDULER)
        job.base.attributes.set(orm.CalcJobNode.SCHEDULER_LAST_CHECK_TIME_KEY, old)
    lost, asked, paused, retrieved, new = jobs
    asked.set_scheduler_state(JobState.RUNNING)
    paused.pause()
    retrieved.set_state(CalcJobState.RETRIEVING)
    new.base.attributes.delete(orm.CalcJobNode.SCHEDULER_LAST_CHECK_TIME_KEY)  # submitted a moment ago
    assert forgotten() == [lost.pk]
    assert forgotten(patience=3 * HOUR) == []
    lost.computer.set_minimum_job_poll_interval(2 * HOUR)
    try:
        assert forgotten() == []
    finally:
        lost.computer.set_minimum_job_poll_interval(0)


def test_chains_that_nothing_moves(campaign, codes):
    """Those with a checkpoint, not paused, with nothing active below, and as they were for longer than patience allows."""
    chain = candidates(campaign, "gap", codes, state="waiting")  # has a job below, and is what the campaign waits for
    lost, paused, gone = (process(orm.WorkChainNode, "DosWorkChain", caller=campaign, state="running") for _ in range(3))
    for node in (campaign, chain, lost, paused):
        node.set_checkpoint("where it is")
    paused.pause()
    assert gone.checkpoint is None
    waited_for = [node for node in chain.called if not node.is_terminated]
    assert waited_for and lost.pk in idle(patience=-1.0)
    assert not {campaign.pk, chain.pk, paused.pk, gone.pk} & set(idle(patience=-1.0))
    assert idle() == []  # it has changed just now
    waited_for[0].set_process_state("finished")
    assert chain.pk in idle(patience=-1.0)


def test_chains_that_nobody_can_go_on_with(campaign, codes):
    """Those without a checkpoint that have not ended, and that no work chain called, which would repeat them."""
    alone, at_work = (process(orm.WorkChainNode, "DosWorkChain", state="running") for _ in range(2))
    below = process(orm.WorkChainNode, "DosWorkChain", caller=campaign, state="running")
    at_work.set_checkpoint("where it is")
    assert alone.pk in abandoned(patience=-1.0)
    assert not {at_work.pk, below.pk} & set(abandoned(patience=-1.0))
    assert abandoned() == []  # it has changed just now
    alone.set_process_state("finished")
    assert alone.pk not in abandoned(patience=-1.0)


# --- time left; in hours, beside which what the test itself takes is nothing ---------------------------------

HOUR = 3600


def below(name, call, seconds, ended):
    """A process that took some seconds, or has taken them so far."""
    end = datetime.datetime.now(datetime.timezone.utc)
    state, exit_status = ("finished", 0) if ended else ("waiting", None)
    return Process(0, 0, call, name, False, state, exit_status, end - datetime.timedelta(seconds=seconds), end)


def test_candidates_are_judged_by_what_the_executable_computed(campaign, codes):
    running = [below("CandidatesWorkChain", f"candidates_{name}", 50 * HOUR, ended=False) for name in ("gap", "gap_2")]
    validations = [below("ValidateWorkChain", f"validate_x_{i}", 100 * HOUR, ended=True) for i in range(1)]
    assert seconds_left(campaign, running) is None  # nothing like it was there before
    candidates(None, "elsewhere", codes, n_candidates=N_CANDIDATES // 2, engine_seconds=100 * HOUR)
    # twice the candidates take twice the 100 hours; 50 of that are over, and both targets are worked on at a time.
    # Then up to three candidates of each target are validated, of which one is, two at a time.
    assert seconds_left(campaign, running + validations) == pytest.approx((150 + 5 * 100 / 2) * HOUR, rel=0.01)


def test_validations_are_judged_by_those_before(campaign, codes, crystals):
    done = [below("CandidatesWorkChain", f"candidates_{name}", 50 * HOUR, ended=True) for name in ("gap", "gap_2")]
    report(campaign, "gap", crystals, 5)
    report(campaign, "gap_2", crystals, 2)  # 3 + 2 to validate
    assert seconds_left(campaign, done) is None
    ended = [
        below("ValidateWorkChain", f"validate_gap_{i}", seconds, ended=True)
        for i, seconds in enumerate((80 * HOUR, 120 * HOUR))
    ]
    assert seconds_left(campaign, done + ended) == pytest.approx(150 * HOUR, rel=0.01)
    running = [below("ValidateWorkChain", f"validate_gap_2_{i}", 40 * HOUR, ended=False) for i in range(3)]
    assert seconds_left(campaign, done + ended + running) == pytest.approx(60 * HOUR, rel=0.01)
    more = [below("ValidateWorkChain", f"validate_gap_2_{i}", 100 * HOUR, ended=True) for i in range(3)]
    assert seconds_left(campaign, done + ended + more) == 0


def test_what_waits_is_paused_or_failed_is_explained(campaign):
    reasons = {"Resources": 2, "Priority": 1}
    for reason, count in reasons.items():
        for _ in range(count):
            job = process(orm.CalcJobNode, "PwCalculation", caller=campaign, call=f"{reason}{_}", state="waiting")
            job.set_scheduler_state(JobState.QUEUED)
            info = JobInfo()
            info.annotation = reason
            job.set_last_job_info(info)
    paused = process(orm.CalcJobNode, "SampleCalculation", caller=campaign, state="waiting")
    paused.pause()
    paused.set_process_status("Pausing after failed transport task: upload_calculation failed 5 times consecutively")
    assert hints(campaign) == [
        f"SampleCalculation<{paused.pk}> is paused ({paused.process_status}); to continue: verdi process play {paused.pk}",
        "2 jobs wait in the queue (pw.x): Resources",
        "1 job waits in the queue (pw.x): Priority",
    ]
    files = orm.FolderData()
    files.base.repository.put_object_from_bytes(b"1/3\n\n2/3\n3/3\ndosmatgen: crashed: KeyError: 1\n", "dosmatgen.err")
    failed = process(orm.CalcJobNode, "RelaxCalculation", caller=campaign, exit_status=304, outputs={"retrieved": files})
    campaign.set_process_state("finished")
    campaign.set_exit_status(301)
    lines = ["  2/3", "  3/3", "  dosmatgen: crashed: KeyError: 1"]
    assert hints(campaign) == [f"RelaxCalculation<{failed.pk}> wrote last:", *lines]
    campaign.set_exit_status(0)
    assert hints(campaign) == []
