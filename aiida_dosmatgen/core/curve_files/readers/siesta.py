"""Densities of states of orbitals in XML, as SIESTA writes them (``SystemLabel.PDOS``) and ABACUS (``PDOS``)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from ...dft.bands import CHANNELS
from ...elements import ATOMIC_NUMBERS
from ...errors import ContentError
from ..found import Found, Parts

_ABSOLUTE = "its energies are absolute; give --zero with the Fermi energy, of SIESTA the first line of the .EIG file beside it"
_MOST_ATOMS = 10_000


def is_pdos(text: str, name: str) -> bool:
    """Say whether a text is XML with the orbitals of a local basis."""
    return text.lstrip().startswith("<") and "<pdos" in text[:2000]


def read_pdos(text: str, name: str) -> Found:
    """Read orbitals, which add up to the total, as sites and channels; with spin-orbit coupling the density.

    :raises ContentError: naming the orbital.
    """
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except (ElementTree.ParseError, ValueError) as exception:
        raise ContentError(f"{name} is truncated or damaged XML ({exception}); copy it again") from None
    energies = _numbers(root.find("energy_values"), f"{name}: energy_values")
    if energies.size < 2:
        raise ContentError(f"{name}: energy_values hold fewer than two energies")
    atoms: dict[int, np.ndarray] = {}
    symbols: dict[int, str] = {}
    for orbital in root.iter("orbital"):
        where = f"{name}: orbital {str(orbital.get('index')).strip()}"
        try:
            atom, momentum = int(str(orbital.get("atom_index"))), int(str(orbital.get("l")))
        except ValueError:
            raise ContentError(f"{where} has no whole numbers as atom_index and l") from None
        if not 1 <= atom <= _MOST_ATOMS or not 0 <= momentum < len(CHANNELS):
            raise ContentError(f"{where} is of atom {atom} and l = {momentum}, which is none of s, p, d, f")
        values = _numbers(orbital.find("data"), where)
        columns = values.size // energies.size
        if values.size != columns * energies.size or columns not in (1, 2, 4, 8):
            raise ContentError(f"{where} has {values.size} values, but there are {energies.size} energies; copy the file again")
        spins = values.reshape(-1, columns).T[:2]  # of four, the others are of the two spins together
        curves = atoms.setdefault(atom, np.zeros((len(spins), len(CHANNELS), energies.size)))
        if len(curves) != len(spins):
            raise ContentError(f"{where} has another number of spins than the orbitals before")
        curves[:, momentum] += spins
        symbols[atom] = re.sub(r"[^A-Za-z].*$", "", str(orbital.get("species")).strip())
    if not atoms or sorted(atoms) != list(range(1, len(atoms) + 1)) or len({len(curves) for curves in atoms.values()}) > 1:
        raise ContentError(f"{name} holds orbitals of the atoms {sorted(atoms)[:6]}, not of all of a cell; give the whole file")
    parts = Parts(np.stack([atoms[i] for i in sorted(atoms)]), CHANNELS, whole=True)
    found = Found("PDOS of SIESTA or ABACUS", energies, parts, absolute=_ABSOLUTE)
    fermi = root.find("fermi_energy")
    if fermi is not None:
        found.fermi = float(_numbers(fermi, f"{name}: fermi_energy")[0])
    if all(symbol in ATOMIC_NUMBERS for symbol in symbols.values()):
        found.elements = tuple(symbols[i] for i in sorted(symbols))
    return found


def _numbers(element: ElementTree.Element | None, where: str) -> np.ndarray:
    words = (element.text or "").split() if element is not None else []
    try:
        numbers = np.array([float(re.sub("[dD]", "e", word)) for word in words])
    except ValueError:
        raise ContentError(f"{where} holds what is no number") from None
    if not numbers.size:
        raise ContentError(f"{where} is missing or empty")
    return numbers
