"""The PBE pseudopotentials that Debian's Quantum ESPRESSO packages give, with cutoffs, and the folder made of them.

The cutoffs were converged for this project: ``fast`` is within about 40 meV of 90 Ry for the occupied bands.
"""

import gzip
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ContentError

DEBIAN_FOLDERS = (
    Path("/usr/share/espresso/pseudo"),
    Path("/usr/share/doc/quantum-espresso/examples/PP/simple_transport/scf"),
)


class Pseudopotential(NamedTuple):
    """File name without extension, valence electrons, and (ecutwfc, ecutrho) in Ry for two stringencies."""

    name: str
    valence: int
    fast: tuple[int, int]
    normal: tuple[int, int]


DEBIAN_PBE = {
    "H": Pseudopotential("H.pbe-kjpaw", 1, (30, 240), (40, 320)),
    "B": Pseudopotential("B.pbe-n-rrkjus_psl.1.0.0", 3, (30, 240), (35, 280)),
    "C": Pseudopotential("C.pbe-rrkjus", 4, (25, 200), (30, 240)),
    "N": Pseudopotential("N.pbe-kjpaw", 5, (35, 280), (40, 320)),
    "O": Pseudopotential("O.pbe-rrkjus", 6, (30, 240), (35, 280)),
    "Si": Pseudopotential("Si.pbe-rrkj", 4, (16, 64), (20, 80)),
    "Cu": Pseudopotential("Cu.pbe-kjpaw", 11, (35, 280), (40, 320)),
    "Ga": Pseudopotential("Ga.pbe-dn-kjpaw_psl.0.2", 13, (30, 240), (35, 280)),
    "Ge": Pseudopotential("Ge.pbe-kjpaw", 4, (20, 160), (30, 240)),
    "As": Pseudopotential("As.pbe-n-kjpaw_psl.0.2", 5, (20, 160), (25, 200)),
    "Rh": Pseudopotential("Rh.pbe-rrkjus_lb", 9, (25, 250), (30, 300)),
    "I": Pseudopotential("I.pbe-n-kjpaw_psl.1.0.0", 7, (20, 160), (30, 240)),
}


def collect(destination: Path, sources: Sequence[Path] = DEBIAN_FOLDERS) -> dict[str, Path]:
    """Copy the known pseudopotentials into a folder, one ``.upf`` file for each element and nothing else.

    :return: the file of each element that was found.
    :raises ContentError: if none of the sources has any.
    """
    destination.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    for symbol, pseudo in DEBIAN_PBE.items():
        for candidate in (
            folder / (pseudo.name + suffix) for folder in sources for suffix in (".UPF", ".upf", ".upf.gz", ".UPF.gz")
        ):
            if candidate.is_file():
                target = destination / f"{pseudo.name}.upf"
                with (
                    gzip.open(candidate) if candidate.suffix == ".gz" else open(candidate, "rb") as stream,
                    open(target, "wb") as out,
                ):
                    shutil.copyfileobj(stream, out)
                found[symbol] = target
                break
    if not found:
        folders = ", ".join(map(str, sources))
        raise ContentError(f"no pseudopotentials in {folders}; install the package quantum-espresso-data")
    return found


def cutoffs(symbols: Iterable[str], stringency: str) -> tuple[int, int]:
    """Return the (ecutwfc, ecutrho) in Ry that satisfy all elements.

    :raises ContentError: for an element without a pseudopotential here.
    """
    pairs = []
    for symbol in sorted(set(symbols)):
        if symbol not in DEBIAN_PBE:
            raise ContentError(f"no pseudopotential for {symbol}; known are {' '.join(DEBIAN_PBE)}")
        pairs.append(getattr(DEBIAN_PBE[symbol], stringency))
    return max(p[0] for p in pairs), max(p[1] for p in pairs)
