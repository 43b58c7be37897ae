"""Set up AiiDA for campaigns on this machine.

A profile with sqlite storage and the ZeroMQ broker (no service needed), the computer ``localhost``, the codes, the
pseudopotential family with its cutoffs, the shipped models, the daemon. Every step looks at what is there and adds what is
missing, so that the set-up can be repeated, and continued after an interruption.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiida import load_profile
from aiida.common import NotExistent
from aiida.manage import get_manager
from aiida.orm import Computer, InstalledCode, QueryBuilder

from ..aiida_internals.services import create_profile
from ..core.errors import ContentError
from ..workflows.protocols.utils import CODE_OPTIONS
from .codes import CODES
from .daemon import ensure_daemon
from .models import ensure_models
from .pseudopotentials import ensure_pseudo_family

if TYPE_CHECKING:
    from aiida.manage import Profile

PROFILE = "dosmatgen"
COMPUTER = "localhost"

SERIAL = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, "withmpi": False}
"""What the jobs of all codes ask for here, unless they are told otherwise."""


def set_up(profile: str = PROFILE) -> Iterator[tuple[str, str]]:
    """Set everything up, and report after each step.

    :param profile: AiiDA profile to make or to complete.
    :raises ContentError: in one line, if a step lacks something; it can be repeated.
    """
    # codes and daemon are looked for where this Python is, whether or not its environment is activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    loaded = ensure_profile(profile)
    directory = Path(get_manager().get_config().dirpath)
    yield "profile", f"{loaded.name} in {directory}"
    computer = ensure_computer(directory / "scratch" / loaded.name)
    yield "computer", f"{computer.label}, jobs in {computer.get_workdir()}"
    yield "codes", " ".join(code.full_label for code in ensure_codes(computer).values())
    family = ensure_pseudo_family()
    yield "pseudopotentials", f"{family.label}: {' '.join(sorted(family.elements))}"
    yield "models", " ".join(f"{label}<{node.pk}>" for label, node in ensure_models().items())
    ensure_daemon()
    yield "daemon", "running"
    default = get_manager().get_config().default_profile_name
    if default != loaded.name:
        how = f"aiida-dosmatgen -p {loaded.name} …, or verdi profile set-default {loaded.name}"
        yield "default profile", f"{default}, in which commands run; for this one: {how}"


def ensure_profile(name: str = PROFILE) -> Profile:
    """Load the profile, made first if it is not there, and return it.

    :raises ContentError: if the profile's storage has been moved or removed.
    """
    config = get_manager().get_config(create=True)
    if name not in config.profile_names:
        create_profile(
            config,
            name=name,
            email="aiida@localhost",
            storage_backend="core.sqlite_dos",
            storage_config={},
            broker_backend="core.zeromq",
            broker_config={},
        )
    storage = config.get_profile(name).storage_config.get("filepath")
    if storage is not None and not Path(storage).is_dir():
        raise ContentError(
            f"the storage of the AiiDA profile {name!r} is not at {storage}; if its folder was moved, move it back, "
            f"or remove {config.dirpath} to begin anew"
        )
    config.set_option("runner.poll.interval", 1, scope=name)
    config.set_default_profile(name, overwrite=False)
    config.store()
    return load_profile(name, allow_switch=True)


def ensure_computer(work_directory: Path) -> Computer:
    """Return the computer ``localhost``: jobs are plain processes of this machine, polled every second.

    One that an archive of another machine has brought along, or whose work directory cannot be used, keeps its jobs under
    another label.

    :raises ContentError: without ``ps``: AiiDA would take every job for finished as soon as it is submitted.
    """
    if shutil.which("ps") is None:
        raise ContentError("ps is not installed, by which AiiDA sees its jobs; install it (Debian: procps)")
    try:
        computer = Computer.collection.get(label=COMPUTER)
        foreign = not computer.is_configured and computer.get_workdir() != str(work_directory)
        if foreign or not _can_be_used(Path(computer.get_workdir())):
            computer.label = f"{COMPUTER}-{computer.uuid[:8]}"
            raise NotExistent
    except NotExistent:
        computer = Computer(
            label=COMPUTER,
            hostname="localhost",
            description="This machine",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=str(work_directory),
        ).store()
    if not computer.is_configured:
        computer.set_minimum_job_poll_interval(1)
        computer.set_default_mpiprocs_per_machine(1)
        computer.configure(safe_interval=0, use_login_shell=False)
    return computer


def _can_be_used(directory: Path) -> bool:
    """Tell whether jobs can have their directories in one: it is there or can be made, and can be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)


def ensure_codes(computer: Computer) -> dict[str, InstalledCode]:
    """Return the codes on a computer. One whose executable has moved is kept under another label, for its provenance.

    :raises ContentError: naming the executables that are not installed.
    """
    # Where python is, its scripts are, whether or not the environment is activated.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    paths = {label: shutil.which(executable, path=search) for label, (executable, _) in CODES.items()}
    missing = [executable for label, (executable, _) in CODES.items() if paths[label] is None]
    if missing:
        raise ContentError(
            f"not installed: {' '.join(missing)}; *.x come with Quantum ESPRESSO (Debian: quantum-espresso), "
            "dosmatgen with pip install 'aiida-dosmatgen[engine]'"
        )
    codes = {}
    for label, (_, plugin) in CODES.items():
        query = QueryBuilder().append(InstalledCode, filters={"label": label, "dbcomputer_id": computer.pk})
        for code in query.all(flat=True):
            if str(code.filepath_executable) == paths[label]:
                codes[label] = code
            else:
                code.label = f"{label}-{code.uuid[:8]}"
                code.is_hidden = True
        if label not in codes:
            codes[label] = InstalledCode(
                label=label,
                computer=computer,
                filepath_executable=str(Path(str(paths[label])).absolute()),
                default_calc_job_plugin=plugin,
                prepend_text="" if plugin is None else _serial_environment(),
            ).store()
        codes[label].base.extras.set(CODE_OPTIONS, SERIAL)
    return codes


def _serial_environment() -> str:
    """One process, one thread: the fastest way to run small cells, one job a core."""
    lines = ["export OMP_NUM_THREADS=1", "export OPENBLAS_NUM_THREADS=1"]
    if os.geteuid() == 0:  # Open MPI refuses root otherwise, also where someone asks for mpirun
        lines += ["export OMPI_ALLOW_RUN_AS_ROOT=1", "export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"]
    return "\n".join(lines)
