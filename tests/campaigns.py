"""A small whole campaign, and what the tests that disturb one share."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from aiida import orm
from aiida.engine import ProcessState, submit
from aiida.engine.daemon.client import get_daemon_client
from aiida.manage import get_manager
from plumpy.process_states import Waiting

from aiida_dosmatgen import setup
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.tools import daemon
from aiida_dosmatgen.tools.ranking import ranking_of
from aiida_dosmatgen.workflows.campaign import CampaignWorkChain

TARGET = Path(__file__).parents[1] / "examples" / "targets" / "zincblende_SiC.csv"
TARGET_NAME = "silicon_carbide"
N_CANDIDATES = 12
TOP_K = 2
SECONDS = 3000  # after which something hangs; a busy machine takes its time
LOOK = 60  # seconds between two looks of an operator
FORGOTTEN = 300.0  # seconds after which what no worker looks at is taken for forgotten
CODES = ("dosmatgen", "pw", "projwfc")


def configure(config: Any, profile: Any, caching: bool = False) -> None:
    """Set the options of a profile whose daemon runs in a test, as a user's has them."""
    # workers of a test profile look without a pause for what has ended, and its queues are gone when RabbitMQ is
    profile.is_test_profile = False
    config.update_profile(profile)
    config.set_option("runner.poll.interval", 1, scope=profile.name)
    config.set_option("daemon.timeout", 60, scope=profile.name)  # two seconds are little on a busy machine
    config.set_option("caching.default_enabled", caching, scope=profile.name)
    config.store()


def overrides(steps: int) -> dict:
    """Return changes of the fast protocol: what is tested is the chain, not the quality of so few candidates.

    :param steps: of the sampler.
    """
    return {
        "candidates": {
            "sample": {"parameters": {"steps": steps}},
            "criteria": {"geometries": ["relaxed", "unrelaxed"], "max_formation_energy": 3.0, "require_converged": False},
        },
        "validate": {
            "pseudo_family": setup.ensure_debian_family().label,
            "recipe": {"cutoff": 30, "scf_distance": 0.6, "bands_distance": 0.5, "points_per_atom": 0},
        },
    }


def ports(models: dict[str, orm.Data]) -> dict[str, orm.Data]:
    """Return the shipped models by the names of their ports."""
    names = {"checkpoint": "denoiser", "predictor": "predictor", "force_field": "mace"}
    return {port: models[f"dosmatgen-{name}"] for port, name in names.items()}


def prepare(folder: Path) -> dict[str, Any]:
    """Set up this machine in the loaded profile; return codes and models as the campaign's builder takes them."""
    codes = setup.ensure_codes(setup.ensure_computer(folder / "jobs"))
    setup.ensure_pseudo_family()
    return {"codes": codes, **ports(setup.ensure_models())}


def start(parts: dict[str, Any], steps: int = 25, **options: Any) -> orm.WorkChainNode:
    """Submit a campaign of a dozen candidates, two of which are validated.

    :param parts: codes and models, as :func:`prepare` returns them.
    :param steps: of the sampler.
    :param options: further arguments of the builder.
    """
    builder = CampaignWorkChain.get_builder_from_protocol(
        **parts,
        targets={TARGET_NAME: DosTargetData.from_file(TARGET)},
        protocol="fast",
        overrides=overrides(steps),
        seed=1,
        n_candidates=N_CANDIDATES,
        top_k=TOP_K,
        **options,
    )
    return submit(builder)


def start_here(parts: dict[str, Any], steps: int = 25) -> orm.WorkChainNode:
    """Submit a campaign to this machine."""
    return start(parts, steps, options={"threads": 1}, dft_options={"withmpi": False})


# --- what it is doing ---------------------------------------------------------------------------------------------------


def wait_for(
    condition: Callable[[], Any], what: str, seconds: float = SECONDS, campaign: orm.WorkChainNode | None = None
) -> None:
    """Wait for a condition.

    :param campaign: after whose end the condition cannot come true any more.
    :raises TimeoutError: with the end of the daemon's log.
    :raises AssertionError: with what a campaign has done, if it has ended before.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if campaign is not None and campaign.is_terminated and not condition():
            raise AssertionError(f"{what} did not happen before the campaign ended:\n{what_failed(campaign)}")
        if time.monotonic() > deadline:
            log = Path(get_daemon_client().daemon_log_file).read_text(encoding="utf-8")[-4000:]
            raise TimeoutError(f"{what} did not happen; end of the daemon's log:\n{log}")
        time.sleep(0.5)  # each look asks the database or goes through all processes


def wait_for_end(*nodes: orm.ProcessNode, what: str = "the end") -> None:
    """Wait until all have ended, and do what docs/troubleshooting.md says if the database was locked for too long."""
    next_look = time.monotonic() + LOOK

    def ended() -> bool:
        nonlocal next_look
        if time.monotonic() > next_look:
            if daemon.forgotten(FORGOTTEN) or daemon.idle(FORGOTTEN):
                revive()
            next_look = time.monotonic() + LOOK
        return all(node.is_terminated for node in nodes)

    wait_for(ended, what)


def wait_for_running(campaign: orm.WorkChainNode, label: str) -> None:
    """Wait until a job of a kind is in the hands of the computer."""
    filters = {"attributes.process_label": label, "attributes.process_state": "waiting"}
    wait_for(lambda: count(orm.CalcJobNode, **filters), f"a run of {label}", campaign=campaign)


def wait_for_rest(campaign: orm.WorkChainNode) -> None:
    """Wait until each work chain of a campaign waits for its children: one killed in the middle of a step takes it again."""

    def rests() -> bool:
        chains = [campaign, *(node for node in campaign.called_descendants if isinstance(node, orm.WorkChainNode))]
        return all(node.is_terminated or waits(node) for node in chains)

    wait_for(rests, "rest of the work chains")


def waits(node: orm.ProcessNode) -> bool:
    """Say whether a process waits, by its checkpoint, too, which is written just after the state."""
    return node.process_state is ProcessState.WAITING and f"{Waiting.__module__}:{Waiting.__name__}" in (node.checkpoint or "")


def count(*classes: type[orm.Node], **filters: Any) -> int:
    """Count nodes."""
    return orm.QueryBuilder().append(list(classes), filters=filters).count()


def jobs(campaign: orm.WorkChainNode, label: str | None = None) -> list[orm.CalcJobNode]:
    """Return the jobs below a campaign, or those of a kind, the oldest first."""
    found = [node for node in campaign.called_descendants if isinstance(node, orm.CalcJobNode)]
    return sorted((node for node in found if label in (None, node.process_label)), key=lambda node: node.pk)


def undisturbed(job: orm.CalcJobNode, folder: Path) -> CrystalSet:
    """Run the executable by hand, from the beginning, on what a job was given; return its output.

    :param folder: where it runs; it must not exist.
    """
    given = json.loads(job.base.repository.get_object_content(".aiida/calcinfo.json"))
    folder.mkdir()
    for uuid, file, name in given["local_copy_list"]:
        (folder / name).write_bytes(orm.load_node(uuid).base.repository.get_object_content(file, "rb"))
    content = json.loads(job.base.repository.get_object_content("job.json"))
    content["runtime"]["continue_from"] = None
    (folder / "job.json").write_text(json.dumps(content))
    dosmatgen = Path(sys.executable).with_name("dosmatgen")
    subprocess.run([dosmatgen, content["kind"], "job.json"], cwd=folder, check=True)
    return CrystalSet.load(folder / content["output"])


def candidates_of(campaign: orm.WorkChainNode) -> orm.WorkChainNode:
    """Return the work chain that made the candidates of a campaign; before it there are those that AiiDA failed with."""
    chains = [node for node in campaign.called if node.process_label == "CandidatesWorkChain" and node.is_finished_ok]
    return max(chains, key=lambda node: node.pk)


def rows_of(campaign: orm.WorkChainNode) -> list[dict]:
    """Return the rows of a campaign's ranking."""
    return ranking_of(campaign)[TARGET_NAME]


def what_failed(campaign: orm.WorkChainNode) -> str:
    """Say of each failed process of a campaign what it had, and what was logged."""
    lines = [f"{campaign.process_label}<{campaign.pk}> {campaign.process_state} [{campaign.exit_status}]"]
    for node in (campaign, *campaign.called_descendants):
        if not node.is_finished_ok:
            outputs = ", ".join(sorted(node.base.links.get_outgoing().all_link_labels()))
            lines.append(
                f"{node.process_label}<{node.pk}> {node.process_state} [{node.exit_status}] {node.exit_message}; {outputs}"
            )
            lines += [f"    {log.time:%H:%M:%S} {log.levelname} {log.message}" for log in orm.Log.collection.get_logs_for(node)]
    return "\n".join(lines)


# --- its daemon ---------------------------------------------------------------------------------------------------------


def kill_daemon() -> None:
    """``kill -9`` of the daemon and of all its children: workers, and the broker if it is ZeroMQ's."""
    pid = get_daemon_client().get_daemon_pid()
    assert pid is not None
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def start_daemon(workers: int = 1) -> None:
    """Start the daemon, also after it was killed, and wait until its broker answers."""
    setup.ensure_daemon(workers)
    get_manager().reset_runner()
    get_manager().reset_broker()  # its broker may be a new one, of which this process knows nothing

    def answers() -> bool:
        try:
            get_manager().get_communicator()
        except ConnectionError:  # after ten seconds, which are little on a busy machine
            return False
        return True

    wait_for(answers, "an answer of the broker")


def revive(workers: int = 1) -> None:
    """What docs/troubleshooting.md says to do about tasks that were lost with a worker."""
    profile = get_manager().get_profile()
    assert profile is not None
    for left in reversed(range(6)):  # a daemon on a busy machine may take a minute to stop, and nothing is repaired before
        stop_daemon()
        repair = [str(shutil.which("verdi")), "-p", profile.name, "process", "repair"]
        if not subprocess.run(repair, input=b"y\n", check=not left).returncode:
            break
        time.sleep(10)
    start_daemon(workers)


def stop_daemon() -> None:
    """Stop the daemon, whatever state it is in."""
    client = get_daemon_client()
    for _ in range(5):  # on a busy machine it may not answer in time
        with contextlib.suppress(Exception):
            client.stop_daemon(wait=True)
        if not client.is_daemon_running:
            return
