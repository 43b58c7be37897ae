"""``dosmatgen``: the executable that batch jobs call. It works without AiiDA, in the folder of its job file.

Exit status: 0 finished; 2 bad input, one line on stderr; 3 stopped by its time budget, finished parts are saved;
4 stopped by a full or failing disk, finished parts are saved; 1 crashed, or out of memory, with a traceback on stderr.
"""

import argparse
import errno
import gc
import importlib
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import ContentError

RESULTS = "results.json"

_JOBS = {
    "sample": "generate candidates with a denoiser checkpoint",
    "relax": "relax crystals with a force field",
    "references": "relax the elements with a force field, for formation energies",
    "predict": "predict the density of states and formation energy of crystals",
    "train": "train a denoiser, a predictor or a force field",
    "evaluate": "compute the errors of a model on labelled crystals",
    "pseudolabel": "predict the densities of states of many new crystals, to train a denoiser on",
    "frames": "compute energies, forces and stresses of many frames with a force field, for another to learn from",
    "crystals": "make the crystals of a data set, in the order in which to label them",
    "label": "compute energies, forces and densities of states with Quantum ESPRESSO",
}

_METAVARS = {int: "N", float: "X", str: "TEXT"}
_LIBRARIES = {"torch", "torch_geometric", "mace", "e3nn", "matscipy", "safetensors"}  # what the extra ``engine`` brings
_OBJECTS = 50_000  # after which garbage is looked for; at Python's 700, looking takes a sixth of the time of all imports
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE}  # trouble with the disk, not with the job


class _Parser(argparse.ArgumentParser):
    """A parser which, if it is that of a job, has an option for each field of :class:`.Runtime`.

    They are added when it is used: the import of the model takes longer than all the rest of ``dosmatgen --help``.
    """

    def __init__(self, runs_job: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self._lacks_options = runs_job

    def parse_known_args(self, *arguments: Any, **named: Any) -> Any:
        if self._lacks_options:
            self._lacks_options = False
            from ..core.fields import described, plain_type
            from ..core.job import Runtime

            for name in Runtime.model_fields:
                kind, text = plain_type(Runtime, name), described(Runtime, name).replace("%", "%%")
                self.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=_METAVARS[kind], help=text)
        return super().parse_known_args(*arguments, **named)


def _range(text: str) -> tuple[int, int]:
    """Read ``A:B``."""
    try:
        start, stop = (int(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range; write A:B, e.g. 0:200") from None
    if not 0 <= start < stop:
        raise argparse.ArgumentTypeError(f"the range {text} is empty; write A:B with 0 <= A < B")
    return start, stop


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="dosmatgen", description="From a density of states to crystals: the computing part.")
    top.add_argument("--version", action="version", version=f"dosmatgen {__version__}")
    kinds = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for kind, text in _JOBS.items():
        sub = kinds.add_parser(kind, help=text, description=text, runs_job=True)
        sub.add_argument("job", type=Path, metavar="JOB.json", help="the job file; all paths are relative to its folder")
        help_ = "hash of a model file, or a command of the job file, that may run; may be repeated"
        sub.add_argument("--trust", action="append", default=[], metavar="SHA256|COMMAND", help=help_)
        if kind == "sample":
            sub.add_argument("--range", type=_range, metavar="A:B", help="candidates A to B-1, instead of the job file's")
    text = "make strained prototype crystals, the raw material of a training set"
    sub = kinds.add_parser("prototypes", help=text, description=text)
    sub.add_argument("--elements", required=True, help='chemical symbols, e.g. "Si C"')
    sub.add_argument("--count", type=int, required=True)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--max-atoms", type=int, default=8)
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="crystals.npz")
    text = "put the pseudopotentials PseudoDojo 0.4 PBE standard into a folder"
    sub = kinds.add_parser("pseudopotentials", help=text, description=text)
    sub.add_argument("folder", type=Path, metavar="FOLDER")
    text = "make one labelled set of files of others: MP-DOS, parquet, records of CompleteDos, extxyz, a folder of shards"
    sub = kinds.add_parser("import", help=text, description=text)
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, folders, or the manifest of a set of shards")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="labelled.npz")
    text = "say what is read of a file: curves, structures, a data set, a target, a checkpoint"
    sub = kinds.add_parser("inspect", help=text, description=text)
    sub.add_argument("file", metavar="FILE", help="a file or folder, or FILE#K for crystal K of a set")
    sub.add_argument("--json", action="store_true", help="for programs")
    text = "say how far two densities of states are apart"
    sub = kinds.add_parser("compare", help=text, description=text)
    for name in ("a", "b"):
        sub.add_argument(name, metavar=name.upper(), help="a file of curves, or FILE#K for crystal K of a set")
    sub.add_argument("--n-atoms", metavar="N[,M]", help="atoms of the cells, for totals; of both if they differ")
    sub.add_argument("--window", nargs=2, type=float, metavar=("LOW", "HIGH"), help="compare between these energies in eV")
    for name in ("a", "b"):
        sub.add_argument(f"--zero-{name}", type=float, metavar="ENERGY", help=f"energy of {name.upper()} that is zero, in eV")
    for name in ("a", "b"):
        sub.add_argument(f"--sigma-{name}", type=float, metavar="EV", help=f"broadening of {name.upper()}, if it does not say")
    sub.add_argument("--json", action="store_true", help="for programs")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status; the last line on stderr says how it ended, if not well."""
    begun = time.monotonic()
    if arguments is None:  # the process is ours
        gc.set_threshold(_OBJECTS)
    try:
        given = parser().parse_args(arguments)
        given.begun = begun
        given.typed = shlex.join(["dosmatgen", *(sys.argv[1:] if arguments is None else arguments)])
        return _main(given)
    except Exception as exception:  # a mistake of this program: said so, else it looks like a run that was killed
        traceback.print_exc()
        how = "interrupted: out of memory" if _is_out_of_memory(exception) else "crashed"
        print(f"dosmatgen: {how}: {type(exception).__name__}: {' '.join(str(exception).split())}", file=sys.stderr)
        return 1


def _is_out_of_memory(exception: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(exception, MemoryError)
    from .memory import is_out_of_memory

    return is_out_of_memory(exception)


def _main(given: argparse.Namespace) -> int:
    try:
        if given.command == "prototypes":
            from .commands.prototypes import write

            write(given.elements.split(), given.count, given.seed, given.max_atoms, given.output)
            return 0
        if given.command == "import":
            from .commands import importing

            importing.write(given.files, given.output)
            return 0
        if given.command == "inspect":
            from .commands import inspect

            inspect.write(given.file, given.json)
            return 0
        if given.command == "compare":
            from .commands import compare

            window = tuple(given.window) if given.window else None
            zeros, sigmas = (given.zero_a, given.zero_b), (given.sigma_a, given.sigma_b)
            compare.write(given.a, given.b, given.n_atoms, window, zeros, sigmas, given.json)
            return 0
        if given.command == "pseudopotentials":
            from ..core.dft.pseudodojo import fetch

            print(f"{fetch(given.folder)} pseudopotentials in {given.folder}")
            return 0
        return _run_job(given)
    except ContentError as exception:
        print(f"dosmatgen: error: {' '.join(str(exception).split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as exception:
        if exception.name not in _LIBRARIES:
            raise
        line = f"dosmatgen: error: {exception.name} is not installed; run: pip install 'aiida-dosmatgen[engine]'"
        print(line, file=sys.stderr)
        return 2
    except OSError as exception:
        if exception.errno not in _STORAGE:
            raise
        place = given.job.resolve().parent if "job" in given else exception.filename
        room = f"{exception.strerror} in {place}"
        print(f"dosmatgen: interrupted: {room}; free some space and start again; finished parts are saved", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("dosmatgen: interrupted", file=sys.stderr)
        return 130


def _run_job(given: argparse.Namespace) -> int:
    from ..core.job import Runtime, card_of, load_job
    from . import trust

    job = load_job(given.job)
    if job.kind != given.command:
        raise ContentError(f"{given.job} is a job of kind {job.kind!r}; run `dosmatgen {job.kind} {given.job}`")
    options = {name: value for name in Runtime.model_fields if (value := getattr(given, name)) is not None}
    update = {"runtime": {**job.runtime.model_dump(), **options}}
    if getattr(given, "range", None):
        update |= {"start": given.range[0], "stop": given.range[1]}
    job = _revalidate(job, update)
    trust.check(job, given.trust)
    from .workfolder import cached_results, exclusive_lock, fingerprint, restore

    folder = given.job.resolve().parent
    budget = job.runtime.max_seconds
    with exclusive_lock(folder, patience=budget):
        job_sha256 = fingerprint(job, folder)
        places = [folder / RESULTS] + ([folder / card_of(job.output)] if job.kind == "train" else [])
        for place in places:
            if cached := cached_results(place, job_sha256):
                print(f"dosmatgen: {place} has the results of this job already; remove it to compute again", file=sys.stderr)
                if place != places[0]:  # another training came after it
                    cached.save(places[0])
                return 0
        (folder / RESULTS).unlink(missing_ok=True)  # no results of an earlier run while this one is not complete
        command = importlib.import_module(f".commands.{job.kind}", __package__)
        if budget is not None:  # some of which is spent: on waiting, and on the import of torch
            left = max(budget - (time.monotonic() - given.begun), 1e-3)
            job = _revalidate(job, {"runtime": {**job.runtime.model_dump(), "max_seconds": left}})
        if job.runtime.continue_from is not None:
            restore(folder / job.runtime.continue_from, folder, command.restart_files(job))
        results = command.run(job, folder).model_copy(update={"job_sha256": job_sha256, "command": given.typed})
        for place in reversed(places):  # the end marker is written last
            results.save(place)
    return 0 if results.finished else 3


def _revalidate(job, update: dict):
    from pydantic import ValidationError

    from ..core.strict import explain

    try:
        return type(job).model_validate({**job.model_dump(), **update})
    except ValidationError as exception:
        raise ContentError(f"command line: {explain(exception)}") from None


if __name__ == "__main__":
    sys.exit(main())
