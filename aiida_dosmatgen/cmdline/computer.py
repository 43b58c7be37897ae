"""Set up a cluster: the computer, its connection and its codes, each looked at where it is before anything is stored."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from aiida.common.exceptions import AiidaException
from aiida.transports import AsyncTransport
from pydantic import Field, ValidationError, field_validator

from .. import __version__
from ..core.errors import ContentError
from ..core.strict import Strict, explain
from ..workflows.protocols.utils import CODE_OPTIONS

if TYPE_CHECKING:
    from aiida.orm import Computer, InstalledCode

PLUGINS = {
    "dosmatgen": None,  # its jobs are of several kinds
    "pw": "quantumespresso.pw",
    "projwfc": "quantumespresso.projwfc",
    "dos": "quantumespresso.dos",
}
"""Label of each code, and its default calculation plugin."""


class CodeSettings(Strict):
    """One executable on the cluster. The keys are those of ``verdi code create``, and ``options``."""

    filepath_executable: str
    prepend_text: str = ""
    append_text: str = ""
    with_mpi: bool | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """``metadata.options`` that its jobs have unless a campaign says otherwise, for example ``custom_scheduler_commands``."""


class ComputerSettings(Strict):
    """A cluster. The keys are those of ``verdi computer setup`` and ``verdi computer configure``, and ``codes``."""

    label: str
    hostname: str
    """As in ``ssh HOSTNAME``: a ``Host`` of ``~/.ssh/config`` that needs no password."""
    description: str = ""
    transport: str = "core.ssh_async"
    scheduler: str = "core.slurm"
    work_dir: str
    """Where the jobs run; ``{username}`` is replaced by the account's name there."""
    mpirun_command: str = "srun -n {tot_num_mpiprocs}"
    mpiprocs_per_machine: int = Field(1, ge=1)
    default_memory_per_machine: int | None = Field(None, ge=1)
    """In kB."""
    shebang: str = "#!/bin/bash"
    prepend_text: str = ""
    append_text: str = ""
    use_login_shell: bool = True
    safe_interval: float = Field(10.0, ge=0)
    """Seconds between two connections at least."""
    minimum_job_poll_interval: float = Field(10.0, ge=0)
    """Seconds between two looks at the queue at least."""
    codes: dict[str, CodeSettings] = Field(min_length=1)

    @field_validator("codes")
    @classmethod
    def _known(cls, codes: dict[str, CodeSettings]) -> dict[str, CodeSettings]:
        unknown = sorted(set(codes) - set(PLUGINS))
        if unknown:
            raise ValueError(f"unknown code {unknown[0]!r}; there are {', '.join(PLUGINS)}")
        return codes

    @field_validator("work_dir")
    @classmethod
    def _absolute(cls, work_dir: str) -> str:
        if not work_dir.startswith("/"):
            raise ValueError(f"{work_dir!r} is not an absolute path")
        return work_dir

    @classmethod
    def from_file(cls, path: Path) -> ComputerSettings:
        """Read a YAML file.

        :raises ContentError: saying in one line what is wrong with it.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as exception:
            raise ContentError(f"{path} cannot be read: {exception}") from None
        except yaml.YAMLError as exception:
            raise ContentError(f"{path} is not YAML: {' '.join(str(exception).split())}") from None
        if not isinstance(content, dict):
            raise ContentError(f"{path} has no keys; it must say label, hostname, work_dir and codes")
        try:
            return cls.model_validate(content)
        except ValidationError as exception:
            raise ContentError(f"{path}: {explain(exception)}") from None


def set_up(settings: ComputerSettings) -> tuple[Computer, dict[str, InstalledCode], list[str]]:
    """Make, or bring up to date, the computer and its codes in the loaded profile.

    :return: the computer, its codes by their labels, and lines that say what was found there.
    :raises ContentError: if the computer cannot be reached or lacks something; nothing new is left behind then.
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
    from aiida.common.exceptions import NotExistent
    from aiida.orm import Computer

    fixed = {
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
            Computer.collection.delete(computer.pk)
        raise


class Shell:
    """Runs commands on a computer.

    Asynchronous transports are driven by an event loop of its own: AiiDA's would want a broker, thus a running daemon.
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.loop = asyncio.new_event_loop()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the transport."""
        if isinstance(self.transport, AsyncTransport):
            return self.loop.run_until_complete(getattr(self.transport, f"{method}_async")(*arguments))
        return getattr(self.transport, method)(*arguments)

    def run(self, command: str) -> tuple[int, str]:
        """Return the exit status of a command and what it printed last."""
        status, stdout, stderr = self.call("exec_command_wait", command)
        lines = (stdout.strip() or stderr.strip()).splitlines()
        return status, lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the connection, if there is one."""
        with contextlib.suppress(OSError, AiidaException):
            self.call("close")
        self.loop.close()


@contextlib.contextmanager
def connection(computer: Computer) -> Iterator[Shell]:
    """Connect, and see that the work directory can be written to."""
    hint = f"try ssh {computer.hostname} by hand: it must ask nothing" if "ssh" in computer.transport_type else "look at it"
    shell = Shell(computer.get_transport())
    try:
        try:
            shell.call("open")
        except (OSError, ValueError, AiidaException) as exception:
            reason = " ".join(str(exception).split())
            raise ContentError(f"no connection to {computer.label}: {reason}; {hint}") from None
        work_dir = computer.get_workdir().format(username=shell.call("whoami"))
        status, message = shell.run(f"mkdir -p '{work_dir}' && test -w '{work_dir}'")
        if status != 0:
            raise ContentError(f"{work_dir} on {computer.label} cannot be written to{': ' + message if message else ''}")
        yield shell
    finally:
        shell.close()


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
    from aiida.orm import InstalledCode, QueryBuilder

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
            default_calc_job_plugin=PLUGINS[label],
            prepend_text=settings.prepend_text,
            append_text=settings.append_text,
            with_mpi=settings.with_mpi,
        ).store()
    code.base.extras.set(CODE_OPTIONS, settings.options)
    return code


def from_answers(
    hostname: str,
    work_dir: str,
    dosmatgen: str,
    quantum_espresso: str,
    label: str | None = None,
    partition: str = "",
    account: str = "",
    gpus: int = 0,
    processes: int = 1,
) -> dict[str, Any]:
    """Return the content of the YAML file for what a person answers.

    :param dosmatgen: path of the executable there.
    :param quantum_espresso: commands that bring pw.x, dos.x and projwfc.x to PATH, as ``module load``; may be empty.
    :param gpus: that a job of dosmatgen asks for.
    :param processes: MPI processes of a job of Quantum ESPRESSO.
    """
    common: dict[str, Any] = {"max_wallclock_seconds": 3600}
    if partition:
        common["queue_name"] = partition
    if account:
        common["account"] = account
    engine = {**common, "withmpi": False, "device": "cuda" if gpus else "cpu"}
    if gpus:
        engine["custom_scheduler_commands"] = f"#SBATCH --gres=gpu:{gpus}"
    resources = {"num_machines": 1, "num_mpiprocs_per_machine": processes}
    dft = {**common, "resources": resources, "withmpi": processes > 1}
    executables = {"pw": "pw.x", "projwfc": "projwfc.x", "dos": "dos.x"}
    threads = "export OMP_NUM_THREADS=1"
    prepend = f"{quantum_espresso}\n{threads}" if quantum_espresso else threads
    return {
        "label": label or hostname,
        "hostname": hostname,
        "description": f"{hostname}, set up by {getpass.getuser()}",
        "work_dir": work_dir,
        "codes": {
            "dosmatgen": {"filepath_executable": dosmatgen, "options": engine},
            **{
                name: {"filepath_executable": executable, "prepend_text": prepend, "options": dft}
                for name, executable in executables.items()
            },
        },
    }
