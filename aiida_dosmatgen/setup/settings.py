"""The settings of a cluster: from a YAML file, or from answers to a few questions."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from ..core.errors import ContentError
from ..core.strict import Strict, explain
from ..workflows.protocols import yaml_text as yaml
from ..workflows.protocols.utils import unknown_code
from .codes import CODES


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
        problem = unknown_code(codes)
        if problem:
            raise ValueError(problem)
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
            content = yaml.load(path.read_text(encoding="utf-8"))
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
    """Return the content of the YAML file for a user's answers.

    :param dosmatgen: path of the executable there.
    :param quantum_espresso: commands that bring pw.x and projwfc.x to PATH, as ``module load``; may be empty.
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
                for name, (executable, _) in CODES.items()
                if name != "dosmatgen"
            },
        },
    }
