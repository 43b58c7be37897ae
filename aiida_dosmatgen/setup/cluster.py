"""Set up a cluster: the computer, its connection and its codes. Each is tested on the cluster before anything is stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from aiida.common import NotExistent
from aiida.orm import Computer, InstalledCode, QueryBuilder

from .. import __version__
from ..core.errors import ContentError
from ..data.base import pk_of
from ..workflows.protocols.utils import CODE_OPTIONS
from .codes import CODES
from .connection import Shell, connection
from .settings import CodeSettings, ComputerSettings


def set_up(settings: ComputerSettings) -> tuple[Computer, dict[str, InstalledCode], list[str]]:
    """Make, or bring up to date, the computer and its codes in the loaded profile.

    :return: the computer, its codes by their labels, and lines that say what was found there.
    :raises ContentError: if the computer cannot be reached or lacks something; nothing new is stored then.
    """
    found: list[str] = []
    with _computer(settings) as computer, connection(computer) as shell:
        found += _look_at_scheduler(settings, shell)
        paths = {label: _find(label, code, settings, shell) for label, code in settings.codes.items()}
        if "dosmatgen" in paths:
            found += _look_at_engine(paths["dosmatgen"], settings, shell)
    codes = {label: _code(label, code, paths[label], computer) for label, code in settings.codes.items()}
    return computer, codes, found


@contextlib.contextmanager
def _computer(settings: ComputerSettings) -> Iterator[Computer]:
    """Give the computer of the settings; if it is new and something is raised, it is removed again."""
    fixed: dict[str, Any] = {
        "hostname": settings.hostname,
        "transport_type": settings.transport,
        "scheduler_type": settings.scheduler,
        "workdir": settings.work_dir,
    }
    try:
        computer, new = Computer.collection.get(label=settings.label), False
    except NotExistent:
        computer, new = Computer(label=settings.label, description=settings.description, **fixed).store(), True
    try:
        there = {
            "hostname": computer.hostname,
            "transport_type": computer.transport_type,
            "scheduler_type": computer.scheduler_type,
            "workdir": computer.get_workdir(),
        }
        for key, value in fixed.items():
            if there[key] != value:
                raise ContentError(
                    f"the computer {settings.label} is there with {key} {there[key]}, not {value}; its jobs have run like "
                    "that, so give the changed one another label"
                )
        computer.set_mpirun_command(settings.mpirun_command.split())
        computer.set_default_mpiprocs_per_machine(settings.mpiprocs_per_machine)
        computer.set_default_memory_per_machine(settings.default_memory_per_machine)
        computer.set_shebang(settings.shebang)
        computer.set_prepend_text(settings.prepend_text)
        computer.set_append_text(settings.append_text)
        computer.set_minimum_job_poll_interval(settings.minimum_job_poll_interval)
        connection: dict[str, Any] = {"safe_interval": settings.safe_interval, "use_login_shell": settings.use_login_shell}
        if settings.transport == "core.ssh_async":
            connection["host"] = settings.hostname
        computer.configure(**connection)
        yield computer
    except BaseException:
        if new:
            Computer.collection.delete(pk_of(computer))
        raise


def _look_at_scheduler(settings: ComputerSettings, shell: Shell) -> list[str]:
    if settings.scheduler != "core.slurm":
        return []
    status, version = shell.run("sbatch --version")
    if status != 0:
        raise ContentError(f"there is no sbatch on {settings.label}: {version}; is another scheduler in use?")
    status, _ = shell.run("sacct -n -X --starttime now")
    accounting = "with accounting" if status == 0 else "without accounting: ends are told from what jobs leave"
    return [f"{version}, {accounting}"]


def _find(label: str, code: CodeSettings, settings: ComputerSettings, shell: Shell) -> str:
    """Return the absolute path of an executable, looked for after the commands that come before it in a job."""
    prepared = "\n".join(filter(None, [settings.prepend_text, code.prepend_text]))
    status, path = shell.run(f"{prepared}\ncommand -v '{code.filepath_executable}'")
    if status != 0 or not path.startswith("/"):
        raise ContentError(
            f"codes.{label}: there is no executable {code.filepath_executable} on {settings.label}; "
            "give its absolute path, or the commands that bring it to PATH as prepend_text"
        )
    return path


def _look_at_engine(path: str, settings: ComputerSettings, shell: Shell) -> list[str]:
    prepared = "\n".join(filter(None, [settings.prepend_text, settings.codes["dosmatgen"].prepend_text]))
    status, version = shell.run(f"{prepared}\n'{path}' --version")
    if status != 0:
        raise ContentError(f"{path} on {settings.label} does not run: {version}")
    if version.split()[-1] != __version__:
        raise ContentError(f"{path} on {settings.label} is {version}, here is {__version__}; install the same version there")
    return [version]


def _code(label: str, settings: CodeSettings, path: str, computer: Computer) -> InstalledCode:
    """Return the code. One with other content is kept under another label, for its provenance."""
    wanted = (path, settings.prepend_text, settings.append_text, settings.with_mpi)
    code = None
    for other in QueryBuilder().append(InstalledCode, filters={"label": label, "dbcomputer_id": computer.pk}).all(flat=True):
        if (str(other.filepath_executable), other.prepend_text, other.append_text, other.with_mpi) == wanted:
            code = other
        else:
            other.label = f"{label}-{other.uuid[:8]}"
            other.is_hidden = True
    if code is None:
        code = InstalledCode(
            label=label,
            computer=computer,
            filepath_executable=path,
            default_calc_job_plugin=CODES[label][1],
            prepend_text=settings.prepend_text,
            append_text=settings.append_text,
            with_mpi=settings.with_mpi,
        ).store()
    code.base.extras.set(CODE_OPTIONS, settings.options)
    return code
