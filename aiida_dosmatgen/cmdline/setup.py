"""Set up AiiDA for campaigns on this machine: ``python -m aiida_dosmatgen.cmdline.setup``.

A profile with sqlite storage and the ZeroMQ broker (no service needed), the computer ``localhost``, the codes, the
pseudopotential family with its cutoffs, the shipped models, the daemon. Every step looks at what is there and adds what is
missing, so that the set-up can be repeated, and continued after an interruption.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ContentError
from ..core.job import sha256_of
from ..core.pseudopotentials import DEBIAN_PBE, collect
from ..workflows.protocols.utils import CODE_OPTIONS

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile
    from aiida.orm import Computer, Data, InstalledCode

PROFILE = "dosmatgen"
COMPUTER = "localhost"
FAMILY = "dosmatgen/debian-pbe"
STRINGENCIES = ("fast", "normal")

CODES = {
    "dosmatgen": ("dosmatgen", None),
    "pw": ("pw.x", "quantumespresso.pw"),
    "projwfc": ("projwfc.x", "quantumespresso.projwfc"),
    "dos": ("dos.x", "quantumespresso.dos"),
}
"""Label of each code: its executable and its default calculation plugin."""

MODELS = {
    "dosmatgen-dataset": ("datasets/debian-pbe/labelled.npz", "dosmatgen.labelled"),
    "dosmatgen-denoiser": ("models/denoiser.safetensors", "dosmatgen.checkpoint"),
    "dosmatgen-classifier": ("models/classifier.safetensors", "dosmatgen.checkpoint"),
    "dosmatgen-predictor": ("models/predictor.safetensors", "dosmatgen.checkpoint"),
    "dosmatgen-forcefield": ("models/forcefield.model", "dosmatgen.forcefield"),
}
"""Label of each shipped model, and of the data set behind them: its file in the package and the entry point of its node."""


SERIAL = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, "withmpi": False}
"""What the jobs of all codes ask for here, unless they are told otherwise."""


def ensure_profile(name: str = PROFILE) -> Profile:
    """Load the profile, made first if it is not there, and return it.

    :raises ContentError: if the profile's storage has been moved or removed.
    """
    from aiida.manage.configuration import create_profile, get_config, load_profile

    config = get_config(create=True)
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

    :raises ContentError: without ``ps``: AiiDA would take every job for finished as soon as it is submitted.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import Computer

    if shutil.which("ps") is None:
        raise ContentError("ps is not installed, by which AiiDA sees its jobs; install it (Debian: procps)")
    try:
        computer = Computer.collection.get(label=COMPUTER)
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


def ensure_codes(computer: Computer) -> dict[str, InstalledCode]:
    """Return the codes on a computer. One whose executable has moved is kept under another label, for its provenance.

    :raises ContentError: naming the executables that are not installed.
    """
    from aiida.orm import InstalledCode, QueryBuilder

    # Where python is, its scripts are, whether or not the environment is activated.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    paths = {label: shutil.which(executable, path=search) for label, (executable, _) in CODES.items()}
    missing = [executable for label, (executable, _) in CODES.items() if paths[label] is None]
    if missing:
        raise ContentError(
            f"not installed: {' '.join(missing)}; *.x come with Quantum ESPRESSO (Debian: quantum-espresso), "
            "dosmatgen with pip install aiida-dosmatgen[engine]"
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


def ensure_pseudo_family(label: str = FAMILY):
    """Return the family of the pseudopotentials that Debian packages, with cutoffs for each stringency.

    :raises ContentError: if there are none on this machine.
    """
    from aiida.orm import QueryBuilder
    from aiida_pseudo.data.pseudo import UpfData
    from aiida_pseudo.groups.family import CutoffsPseudoPotentialFamily

    with tempfile.TemporaryDirectory() as name:
        found = collect(Path(name))
        family = QueryBuilder().append(CutoffsPseudoPotentialFamily, filters={"label": label}).first(flat=True)
        if family is not None and not set(found) <= set(family.elements):
            # Left behind by an interruption, or made when fewer files were installed. The nodes of the files stay.
            CutoffsPseudoPotentialFamily.collection.delete(family.pk)
            family = None
        if family is None:
            description = "PBE pseudopotentials of Debian's Quantum ESPRESSO packages"
            family = CutoffsPseudoPotentialFamily.create_from_folder(
                Path(name), label, description=description, pseudo_type=UpfData
            )
    for stringency in STRINGENCIES:
        if stringency not in family.get_cutoff_stringencies():
            pairs = {element: getattr(DEBIAN_PBE[element], stringency) for element in family.elements}
            values = {e: {"cutoff_wfc": float(wfc), "cutoff_rho": float(rho)} for e, (wfc, rho) in pairs.items()}
            family.set_cutoffs(values, stringency, unit="Ry")
    family.set_default_stringency(STRINGENCIES[-1])
    return family


def ensure_models() -> dict[str, Data]:
    """Return the nodes of the shipped models. One label means one content: a node of other content is relabelled."""
    from aiida.orm import QueryBuilder
    from aiida.plugins import DataFactory

    nodes = {}
    for label, (file_name, entry_point) in MODELS.items():
        path = Path(str(files("aiida_dosmatgen") / file_name))
        if not path.is_file():
            raise ContentError(f"the installation lacks {path}; install aiida-dosmatgen again")
        sha256, node_class = sha256_of(path), DataFactory(entry_point)
        for node in QueryBuilder().append(node_class, filters={"label": label}).all(flat=True):
            if node.base.attributes.get("sha256") == sha256:
                nodes[label] = node
            else:
                node.label = f"{label}-{node.base.attributes.get('sha256')[:8]}"
        if label not in nodes:
            node = node_class.from_file(path)
            node.label = label
            nodes[label] = node.store()
    return nodes


def ensure_daemon(workers: int = 1) -> None:
    """Start the daemon, unless it is running.

    :raises ContentError: if it does not start.
    """
    from aiida.engine.daemon.client import DaemonException, get_daemon_client

    from ..tools.daemon import forget_a_killed_broker, has_lost_its_tasks, is_running

    client = get_daemon_client()
    try:
        if is_running():
            if not has_lost_its_tasks():
                return
            client.stop_daemon(wait=True)
    except DaemonException as exception:
        raise ContentError(
            f"the daemon does not answer ({' '.join(str(exception).split())}); its log is {client.daemon_log_file}"
        ) from None
    forget_a_killed_broker()
    try:
        client.start_daemon(workers, timeout=60)
        client.get_status(timeout=60)
    except DaemonException as exception:
        reason = " ".join(str(exception).split())
        raise ContentError(f"the daemon did not start ({reason}); its log is {client.daemon_log_file}") from None


def main(arguments: list[str] | None = None) -> int:
    """Set everything up, and say what there is."""
    parser = argparse.ArgumentParser(prog="python -m aiida_dosmatgen.cmdline.setup", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default=PROFILE, help="AiiDA profile to make or to complete (default: %(default)s)")
    options = parser.parse_args(arguments)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

    def say(what: str, value: str) -> None:
        print(f"  {what:<18} {value}", flush=True)

    try:
        from aiida.manage.configuration import get_config

        profile = ensure_profile(options.profile)
        directory = Path(get_config().dirpath)
        say("profile", f"{profile.name} in {directory}")
        computer = ensure_computer(directory / "scratch" / profile.name)
        say("computer", f"{computer.label}, jobs in {computer.get_workdir()}")
        say("codes", " ".join(code.full_label for code in ensure_codes(computer).values()))
        family = ensure_pseudo_family()
        say("pseudopotentials", f"{family.label}: {' '.join(sorted(family.elements))}")
        say("models", " ".join(f"{label}<{node.pk}>" for label, node in ensure_models().items()))
        ensure_daemon()
        say("daemon", "running")
    except ContentError as exception:
        print(f"setup: {exception}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
