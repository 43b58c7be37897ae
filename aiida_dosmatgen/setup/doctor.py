"""Check each part that a campaign needs, and say how to fix what is broken."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import aiida
from aiida.engine import get_daemon_client
from aiida.manage import get_manager
from aiida.orm import Computer, InstalledCode, QueryBuilder, User
from aiida.plugins import DataFactory
from aiida_pseudo.groups.family import PseudoPotentialFamily

from .. import __version__
from ..core.dft.pseudodojo import FAMILY
from ..core.errors import ContentError
from ..tools import daemon
from ..workflows.protocols.utils import CODE_OPTIONS
from .codes import CODES
from .connection import Shell, connection
from .models import MODELS, content_of

if TYPE_CHECKING:
    from aiida.manage import Profile


@dataclasses.dataclass(frozen=True)
class Finding:
    """One part that was looked at.

    :param found: what is there, or what is wrong.
    :param fix: what to type or to do, None if the part works.
    """

    part: str
    found: str
    fix: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is nothing to fix."""
        return self.fix is None


def examine(computers: Iterable[str] = ()) -> Iterator[Finding]:
    """Check everything, in the order in which parts depend on each other, and continue if one is broken.

    :param computers: labels of those to look at; by default all that have a code ``dosmatgen``.
    """
    yield look_at_versions()
    yield look_at_profile()
    yield from look_at_daemon()
    yield from look_at_computers(list(computers))
    yield look_at_pseudopotentials()
    yield from look_at_models()


# --- parts -------------------------------------------------------------------------------------------------------------------


def look_at_versions() -> Finding:
    """Look whether the package is installed as it should be."""
    broken, count = [], 0
    registered = entry_points()
    for group in registered.groups:
        for entry_point in registered.select(group=group) if group.startswith("aiida.") else ():
            if entry_point.name.startswith("dosmatgen."):
                count += 1
                try:
                    entry_point.load()
                except Exception as exception:  # whatever an import raises
                    broken.append(f"{entry_point.name} ({exception})")
    if broken or not count:
        what = f"entry points that cannot be loaded: {', '.join(broken)}" if broken else "no entry points are registered"
        return Finding(
            "installation", what, "pip install --force-reinstall 'aiida-dosmatgen[workflows]', then verdi daemon restart"
        )
    return Finding("installation", f"aiida-dosmatgen {__version__} with {count} entry points, aiida-core {aiida.__version__}")


def look_at_profile() -> Finding:
    """Look at the profile."""
    profile = _profile()
    found = f"{profile.name}, {profile.storage_backend}"
    if QueryBuilder().append(User).count() == 0:
        return Finding("profile", f"{found}, without a user", f"verdi -p {profile.name} user configure")
    return Finding("profile", f"{found}, broker {profile.process_control_backend or 'none'}")


def _profile() -> Profile:
    profile = get_manager().get_profile()
    if profile is None:
        raise ContentError("no profile is loaded")
    return profile


def look_at_daemon() -> Iterator[Finding]:
    """Look whether the daemon is at work."""
    problem = daemon.problem()
    if problem:
        what, _, how = problem.rpartition(": ")
        yield Finding("daemon", what, how)
        return
    client = get_daemon_client()
    workers = client.get_numprocesses().get("numprocesses", "?")
    yield Finding("daemon", f"at work with {workers} {'worker' if workers == 1 else 'workers'}")


def look_at_computers(labels: list[str]) -> Iterator[Finding]:
    """Look at computers and their codes.

    :param labels: of those to look at; by default all that have a code ``dosmatgen``.
    """
    query = QueryBuilder().append(Computer, tag="computer", filters={"label": {"in": labels}} if labels else {})
    if not labels:
        query.append(InstalledCode, with_computer="computer", filters={"label": "dosmatgen"})
    query.add_projection("computer", "*")
    computers = {computer.label: computer for computer in query.all(flat=True)}
    for label in labels:
        if label not in computers:
            yield Finding(
                f"computer {label}",
                "there is none of this name",
                "aiida-dosmatgen setup localhost, or aiida-dosmatgen setup computer for a cluster",
            )
    if not computers and not labels:
        how = "aiida-dosmatgen setup localhost, or aiida-dosmatgen setup computer for a cluster"
        yield Finding("computer", "none has a code dosmatgen", how)
    for label in sorted(computers):
        yield from _computer(computers[label])


def _computer(computer: Computer) -> Iterator[Finding]:
    part, again = f"computer {computer.label}", _again(computer)
    if not computer.is_configured:
        yield Finding(part, "is not configured", again)
        return
    user = User.collection.get_default()
    if user is None:
        return  # the finding about the profile is enough
    if not computer.is_user_enabled(user):
        yield Finding(part, "is disabled", f"verdi computer enable {computer.label} {user.email}")
        return
    codes = _codes(computer)
    try:
        with connection(computer) as shell:
            scheduler = _scheduler_problem(computer, shell)
            if scheduler:
                yield Finding(part, *scheduler)
            else:
                where = f"{computer.transport_type}, {computer.scheduler_type}, jobs in {computer.get_workdir()}"
                yield Finding(part, where)
            for label in CODES:
                if label in codes:
                    yield _code(codes[label], shell)
                else:
                    yield Finding(f"code {label}@{computer.label}", "there is none", again)
    except ContentError as exception:
        yield Finding(part, str(exception), again)


def _scheduler_problem(computer: Computer, shell: Shell) -> tuple[str, str] | None:
    needed = {"core.slurm": "sbatch", "core.direct": "ps", "core.pbspro": "qsub", "core.sge": "qsub", "core.lsf": "bsub"}
    command = needed.get(computer.scheduler_type)
    if command is None or shell.run(f"command -v {command}")[0] == 0:
        return None
    package = "install it (Debian: procps)" if command == "ps" else "check the scheduler of the computer, or log in by hand"
    return f"{computer.scheduler_type} needs {command}, which is not there", package


def _codes(computer: Computer) -> dict[str, InstalledCode]:
    query = QueryBuilder().append(
        InstalledCode, filters={"dbcomputer_id": computer.pk, "label": {"in": list(CODES)}}, tag="code"
    )
    return {code.label: code for code in query.order_by({"code": {"id": "asc"}}).all(flat=True)}


def _code(code: InstalledCode, shell: Shell) -> Finding:
    path = str(code.filepath_executable)
    prepared = "\n".join(filter(None, [code.computer.get_prepend_text(), code.prepend_text]))
    again = _again(code.computer)
    part = f"code {code.full_label}"
    status, found = shell.run(f"{prepared}\ncommand -v '{path}'")
    if status != 0:
        return Finding(part, f"{path} is not there", f"install it, then {again}")
    if code.label != "dosmatgen":
        return Finding(part, f"{found}{_options_of(code)}")
    status, version = shell.run(f"{prepared}\n'{path}' --version")
    if status != 0:
        return Finding(part, f"{path} does not run: {version}", f"install aiida-dosmatgen[engine] there, then {again}")
    if version.split()[-1:] != [__version__]:
        return Finding(
            part, f"{path} is {version}, here is {__version__}", f"pip install 'aiida-dosmatgen[engine]=={__version__}' there"
        )
    look = "import importlib.util, torch; "
    look += 'print(torch.__version__, torch.cuda.is_available(), importlib.util.find_spec("chgnet") is not None)'
    # the first line of the script names the Python that the package is installed for
    status, torch = shell.run(f"{prepared}\n\"$(head -1 '{path}' | sed 's/^#!//')\" -c '{look}'")
    if status != 0:
        return Finding(part, f"{version}, but its Python has no torch: {torch}", "pip install 'aiida-dosmatgen[engine]' there")
    number, gpu, has_chgnet = torch.split()[-3:]
    if has_chgnet != "True":
        how = "pip install chgnet there; from Python 3.13 on that takes a C compiler"
        return Finding(part, f"{version}, but its Python has no chgnet, the default force field", how)
    gpus = "sees a GPU" if gpu == "True" else "no GPU seen from here"
    return Finding(part, f"{version}, torch {number}, {gpus}{_options_of(code)}")


def _options_of(code: InstalledCode) -> str:
    """Say which options the jobs of a code have unless they are told otherwise; they are part of the inputs."""
    options = code.base.extras.get(CODE_OPTIONS, {})
    return f"; jobs have {json.dumps(options)}" if options else ""


def _again(computer: Computer) -> str:
    if computer.transport_type == "core.local":
        return "aiida-dosmatgen setup localhost"
    return f"aiida-dosmatgen setup computer --config YOUR-FILE.yaml (label: {computer.label})"


def look_at_pseudopotentials() -> Finding:
    """Look at the pseudopotential families."""
    families = QueryBuilder().append(PseudoPotentialFamily).all(flat=True)
    family = next((family for family in families if family.label == FAMILY), None)
    others = ", ".join(sorted(f.label for f in families if f.label != FAMILY))
    if family is None:
        also = f"; there are {others}, which a campaign takes with --override validate.pseudo_family=LABEL" if others else ""
        return Finding("pseudopotentials", f"no family {FAMILY}{also}", "aiida-dosmatgen setup localhost")
    found = f"{FAMILY}: {len(family.elements)} elements"
    return Finding("pseudopotentials", f"{found}{'; also ' + others if others else ''}")


def look_at_models() -> Iterator[Finding]:
    """Look whether the shipped models are there and whole."""
    for label, model in MODELS.items():
        node = QueryBuilder().append(DataFactory(model.entry_point), filters={"label": label}).first(flat=True)
        if node is None:
            yield Finding(f"model {label}", "is not in this profile", "aiida-dosmatgen setup localhost")
            continue
        if model.file is None:
            yield Finding(f"model {label}", f"node {node.pk}, {content_of(node)}")
            continue
        stated, actual = node.base.attributes.get("sha256"), _sha256(node)
        if stated != actual:
            yield Finding(
                f"model {label}",
                f"the file of node {node.pk} has been damaged: its sha256 is {actual[:8]}…, it was {stated[:8]}…",
                f"verdi node delete {node.pk}, then aiida-dosmatgen setup localhost; or restore the repository from a backup",
            )
        else:
            yield Finding(f"model {label}", f"node {node.pk}, sha256 {stated[:8]}…")


def _sha256(node: Any) -> str:
    digest = hashlib.sha256()
    name = node.base.repository.list_object_names()[0]
    with node.base.repository.open(name, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
