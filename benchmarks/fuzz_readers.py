"""Damage files that people have, and read them: no traceback, no hang, no memory above a limit.

Files like those of the tests are mutated (bytes, lines, numbers, pieces of one another) and given to every reader. What is read
or refused in one line is well; anything else is kept, with the file. Case N of a seed is the same whenever it is made.

    python benchmarks/fuzz_readers.py --minutes 10 --keep failures
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aiida_dosmatgen.core.crystal_files.labels import read_labels
from aiida_dosmatgen.core.crystal_files.structures import read_structures
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.importing.mpdos import read_records
from aiida_dosmatgen.core.target.files import read_target
from tests.core import test_structures, test_target_files
from tests.core.curve_files import test_other_kinds, test_pieces, test_programs, test_read, test_vasprun
from tests.core.labelled import test_mpdos

_MEMORY = 1 << 30  # bytes of a case
_SECONDS = 20.0  # of a case; a file of the size of these takes a fraction of one
_TOKENS = (
    *(b"nan inf -inf 1e308 -1e308 1e-320 0 -0 9999999999999999999 1E+400 0x1f 1_000 NaN *** \xe2\x88\x92 \xef\xbb\xbf".split()),
    *(b", ; | # % ! @ & \" ' { } [ ] < > <?xml <modeling> <set> </set> data_ loop_ \x00 \xff\xfe PK\x03\x04 \x1f\x8b".split()),
    *(b"spin up|down|integrated|E-E_F|EFermi = |Fermi energy|(Ha)|(meV)|arb. units|LOBSTER|ik|total|Si1|Fe|s|px".split(b"|")),
    *(b'"densities"|"pdos"|"energies"|"structure"|"sites"|null|true|1e999|{"a":|[[[[['.split(b"|")),
    *(b'<pdos>|<orbital|</data>|<energy_values>|l="2"|atom_index="9999999999"|Column: 1 contains:'.split(b"|")),
    *(b"E-E_F,Fe,O|Ga1,As5|Fe_d|VBM = 5|subtracted|per atom|(a.u.)|#REF!|-1,000.5|1'000|ik".split(b"|")),
    *(b'"datasetColl"|"columns"|"data"|"lattice_vectors"|"lattice_mat"|"efermi"|"x":|"y":'.split(b"|")),
    *(b'Lattice="|Properties=|pbc="F F F"|REF_energy=|:R:|:S:1'.split(b"|")),
    *(b"\n|\r\n|\t| |  ".split(b"|")),
)


def corpus() -> list[tuple[str, bytes]]:
    """Return files of every kind by name."""
    files = dict(test_target_files.TOTALS) | test_programs.KNOWN | test_programs.UNKNOWN
    files |= {name: text for name, (text, _) in test_programs.REFUSED.items()}
    files |= {"DOSCAR": test_read.doscar(), "DOSCAR.lobster": test_read.doscar(lobster=True, spins=2)}
    files |= {"noncollinear": test_target_files.noncollinear_doscar(9, True), "vasprun.xml": test_vasprun.vasprun()}
    for name, record in {
        "complete.json": test_read.complete_dos(),
        "old.json": test_read.complete_dos(old=True, spins=2),
    }.items():
        files[name] = json.dumps(record)
    with tempfile.TemporaryDirectory() as folder:
        test_read.write_projwfc(Path(folder))
        files |= {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        import ase.io

        path = Path(folder) / "labels.extxyz"
        ase.io.write(path, [test_structures.silicon(), test_structures.silicon()], format="extxyz")
        files["labels.extxyz"] = path.read_bytes()
    files |= {f"given_{name}": content for name, (content, _) in test_other_kinds.KINDS.items()} | test_other_kinds.ARRAYS
    files |= {"PDOS_A1.dat": test_pieces.ORBITALS, "Ga_l_proj_dos.dat": test_pieces.AIMS, "elements.csv": test_pieces.ELEMENTS}
    files |= {name: content for name, (content, _) in test_structures.READ.items()}
    files |= {name: content for name, (content, _) in test_structures.REFUSED.items()}
    files |= {"records.json": json.dumps([test_mpdos.RECORD]), "MPDOS.json": json.dumps(test_mpdos.RECORD)}
    files |= {"target.npz": _npz("target"), "crystals.npz": _npz("crystals")}
    return [(name, content if isinstance(content, bytes) else content.encode()) for name, content in sorted(files.items())]


def _npz(kind: str) -> bytes:
    import numpy as np

    from aiida_dosmatgen.core.target import DosTarget

    stream = io.BytesIO()
    if kind == "target":
        DosTarget(np.ones((2, 400))).save(stream)
    else:
        CrystalSet(np.array([1]), np.array([14]), np.zeros((1, 3)), np.eye(3)[None] * 3).save(stream)
    return stream.getvalue()


def mutated(files: list[tuple[str, bytes]], seed: int, case: int) -> tuple[str, bytes]:
    """Return the name and the content of a case."""
    draw = random.Random(f"{seed}/{case}")
    name, content = draw.choice(files)
    for _ in range(draw.choice((0, 1, 1, 2, 3, 5, 8))):
        content = draw.choice(_MUTATIONS)(content, draw, files)[:2_000_000]
    if draw.random() < 0.1:
        name = draw.choice(files)[0]
    return name, content


def _token(content: bytes, draw: random.Random, _: list) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(_TOKENS) + content[place + draw.choice((0, 0, 1, 5)) :]


def _flip(content: bytes, draw: random.Random, _: list) -> bytes:
    changed = bytearray(content)
    for _i in range(draw.randrange(1, 6)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random, _: list) -> bytes:
    first, last = sorted(draw.randrange(len(content) + 1) for _i in range(2))
    return content[first:last] if draw.random() < 0.3 else content[:first] + content[last:]


def _repeat(content: bytes, draw: random.Random, _: list) -> bytes:
    first, last = sorted(draw.randrange(len(content) + 1) for _i in range(2))
    return content[:last] + content[first:last] * draw.choice((1, 2, 50)) + content[last:]


def _splice(content: bytes, draw: random.Random, files: list) -> bytes:
    other = draw.choice(files)[1]
    return content[: draw.randrange(len(content) + 1)] + other[draw.randrange(len(other) + 1) :]


def _lines(content: bytes, draw: random.Random, _: list) -> bytes:
    lines = content.split(b"\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    if draw.random() < 0.5:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        del lines[min(i, j) : min(i, j) + draw.randrange(1, 4)]
    return b"\n".join(lines)


def _number(content: bytes, draw: random.Random, _: list) -> bytes:
    digits = [i for i in range(len(content)) if content[i : i + 1].isdigit()] if len(content) < 100_000 else []
    if not digits:
        return content
    first = last = draw.choice(digits)
    while last < len(content) and content[last : last + 1] in b"0123456789.eE+-":
        last += 1
    return content[:first] + draw.choice((b"1e9", b"-1", b"0", b"1e-9", b"99999999", b"nan", b"1.5", b"")) + content[last:]


_MUTATIONS: tuple[Callable[[bytes, random.Random, list], bytes], ...] = (_token, _flip, _cut, _repeat, _splice, _lines, _number)


def read(path: Path, draw: random.Random) -> str:
    """Give a file to a reader; return how it went.

    :raises AssertionError: for a refusal of more than one line.
    """
    readers: tuple[Callable[[Path], object], ...] = (
        *(read_target, lambda p: read_target(p, n_atoms=2), lambda p: read_target(p, n_atoms=2, zero=1.0, sigma=0.1)),
        *(read_structures, read_labels, read_records, CrystalSet.load),
    )
    by_name = {".npz": (0, 1, 6), ".npy": (0, 1), ".cif": (3,), ".extxyz": (3, 4), ".json": (0, 1, 3, 5), ".vasp": (3,)}
    wanted = by_name.get(path.suffix, (0, 1, 1, 2)) if draw.random() < 0.9 else tuple(range(len(readers)))
    try:
        readers[draw.choice(wanted)](path)
    except ContentError as exception:
        assert "\n" not in str(exception), f"more than one line: {str(exception)[:500]!r}"
        return "refused"
    return "read"


def work(seed: int, first: int, pipe: Connection) -> None:
    """Run cases from ``first`` on, and tell of each where it begins and how it ended."""
    warnings.simplefilter("ignore")
    files = corpus()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        for case in range(first, sys.maxsize):
            name, content = mutated(files, seed, case)
            path = Path(folder) / name.replace("/", "_")
            path.write_bytes(content)
            pipe.send((case, "begins", name))
            try:
                outcome, what = read(path, random.Random(case)), ""
            except BaseException:
                outcome, what = "traceback", traceback.format_exc()
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if used > _MEMORY:
                outcome, what = "memory", f"{used / 2**20:.0f} MiB\n{what}"
            path.unlink()
            pipe.send((case, outcome, what))
            if outcome == "memory":
                return


def main() -> int:
    """Run, and print how often cases ended how; the exit status is 1 if there were failures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--first", type=int, default=0, help="the case to begin with")
    arguments.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for files that failed")
    given = arguments.parse_args()
    context = multiprocessing.get_context("spawn")
    end, case, outcomes, files = time.monotonic() + 60 * given.minutes, given.first, Counter[str](), corpus()
    while time.monotonic() < end:
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(given.seed, case, there), daemon=True)
        worker.start()
        there.close()
        begun = False
        while time.monotonic() < end:
            if not here.poll(_SECONDS if begun else 120.0):
                outcome, what = "hang", f"longer than {_SECONDS:g} s"
                worker.kill()
            else:
                try:
                    case, outcome, what = here.recv()
                except EOFError:
                    outcome, what = "died", f"exit code {worker.exitcode}"
            begun = True
            if outcome == "begins":
                continue
            outcomes[outcome] += 1
            if outcome not in ("read", "refused"):
                given.keep.mkdir(parents=True, exist_ok=True)
                name, content = mutated(files, given.seed, case)
                (given.keep / f"{case}-{name}").write_bytes(content)
                print(f"case {case} ({name}): {outcome}\n{what}", flush=True)
            if outcome in ("hang", "memory", "died"):
                break
        case += 1
        worker.kill()
        worker.join()
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()), f"(seed {given.seed})")
    return int(bool(outcomes.keys() - {"read", "refused"}))


if __name__ == "__main__":
    sys.exit(main())
