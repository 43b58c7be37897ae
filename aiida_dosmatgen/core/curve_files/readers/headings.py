"""What the heading of a column means: energies, spins, orbitals, sites, integrals."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from ...elements import ATOMIC_NUMBERS
from ...units import HARTREE, RYDBERG

Role = Literal["energy", "index", "total", "curve", "integrated", "left out", "unknown"]

UNITS = {"ev": 1.0, "mev": 1e-3, "kev": 1e3, "hartree": HARTREE, "a.u.": HARTREE, "rydberg": RYDBERG}
"""Energies in eV."""

UNIT_NAMES = {
    "ev": "ev",
    "mev": "mev",
    "kev": "kev",
    "эв": "ev",
    "ha": "hartree",
    "hartree": "hartree",
    "hartrees": "hartree",
    "eh": "hartree",
    "a.u.": "a.u.",
    "a. u.": "a.u.",
    "au": "a.u.",
    "ry": "rydberg",
    "ryd": "rydberg",
    "rydberg": "rydberg",
}
HELP = (
    "call columns energy (E-E_F, if relative to the Fermi energy), total, spin up, spin down, integrated, s, p, d, f, "
    "or sites Si1, Si2, Si1_p; or leave it out"
)
_UNIT_WORDS = {"ev", "mev", "kev", "эв", "ha", "hartree", "ry", "cell", "arb", "states", "state"}
_OTHER_UNITS = {"arb. units", "arb.u.", "arbitrary units", "1/cm", "cm-1", "k", "j", "kj/mol", "kcal/mol"}
_LATEX = re.compile(r"\\(?:mathrm|mathit|text|rm|it|,|;|!)\s*|[${}]")
_LONGEST = 200  # letters of a name that are looked at: the time to understand one grows with their square
_UP = r"(?:spin[ _-]?)?(?:up|alpha|majority|maj)|spin[ _-]?1|↑|\u25b2|α"
_DOWN = r"(?:spin[ _-]?)?(?:down|dn|dw|dwn|beta|minority|min)|spin[ _-]?2|↓|\u25bc|β"
_ORBITALS = {
    **{name: "s" for name in ("s", "l=0", "l0")},
    **{name: "p" for name in ("p", "px", "py", "pz", "p_x", "p_y", "p_z", "l=1", "l1")},
    **{
        name: "d"
        for name in ("d", "dxy", "dyz", "dz2", "dxz", "dx2", "dx2-y2", "dx2y2", "x2-y2", "d_xy", "d_yz", "d_z^2", "d_xz")
    },
    **{name: "d" for name in ("d_x^2-y^2", "dx^2-y^2", "dz^2", "d_z2", "d_x2-y2", "l=2", "l2", "eg", "t2g")},
    **{name: "f" for name in ("f", "l=3", "l3", "f-3", "f-2", "f-1", "f0", "f1", "f2", "f3", "f_3", "f_2", "f_1")},
    **{name: "f" for name in ("fxyz", "fxz2", "fyz2", "fz3", "fx3", "fy3x2", "fzx2", "fxx2", "fyx2", "f_xyz", "fy(3x2-y2)")},
}
_ENERGY = re.compile(r"(?:e|en|energy|energies|energie|énergie|energia|energía|ev|x|omega|ω|w|eigenvalue|band energy)")
_INDEX = re.compile(r"|#|index|idx|no\.?|nr\.?|row|point|unnamed: 0|i")
_OF_A_KIND = re.compile(r"\d+:\w|l ?= ?[4-9]")  # WIEN2k: of one atom that stands for all equivalent ones; FHI-aims: beyond f
_NO_ENERGY = re.compile(
    r"bind|\be_?b\b|^\W*e_?f(?:ermi)?\s*-\s*e|frequen|wave ?(?:length|number|vector)|temperature|k-?points?\b|"
    r"\bthz\b|\bcm\b|\bnm\b|2 ?theta|pressure|time|distance|angle|voltage|kinetic"
)
_INTEGRATED = re.compile(r"\bint\b|integr|\bidos|\bcumul|\bnos\b|\bintdos")
_TOTAL = re.compile(
    r"(?:t|total|tot|sum|all)?[ _.:-]*(?:l?dos|density[ _]of[ _]states|states|zustandsdichte|spectrum|intensity|value|y|pdos)?"
    r"(?:\(e\))?|[gdn]\(e\)|tdos|densité d'états|total density"
)
_PER_ATOM = re.compile(r"[\s_]*(?:\(?\bper[\s_]+atom\)?|_per_atom|/\s*at(?:om|\.)?$)", re.IGNORECASE)
_FILLER = re.compile(r"\b(?:p?dos|ldos|states?|density of states|orbitals?|channel|projected|partial|shell)\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column holds.

    :param role: ``curve`` is a part of the total: of a site, an orbital channel, or both; ``left out`` what is no site and no
        part that could be used.
    :param site: a name of the site, None for the whole cell.
    :param channel: s, p, d or f; None for all.
    :param spin: 0 up, 1 down; None for both.
    :param unit: of energies, a key of :data:`UNITS`; None if it is not said.
    :param zero: what energies are relative to, if that is said.
    :param per_atom: whether the unit of a density is per atom.
    :param arbitrary: whether a density has arbitrary units, or is per something that is not the cell.
    """

    role: Role
    site: str | None = None
    channel: str | None = None
    spin: int | None = None
    unit: str | None = None
    zero: Literal["fermi", "vbm"] | None = None
    per_atom: bool = False
    arbitrary: bool = False


def understand(heading: str) -> Column:
    """Return what a column with this heading holds; its role is ``unknown`` if that cannot be told."""
    name, unit_text = _without_unit(_LATEX.sub("", heading[:_LONGEST]).strip().strip("\"'").strip())
    name, of_an_atom = _PER_ATOM.subn("", name)
    lower = name.lower()
    unit, per_atom, arbitrary = _unit(unit_text)
    per_atom = per_atom or bool(of_an_atom)
    zero = _zero(lower)
    bare = re.sub(r"\s*[-_]\s*e?_?\{?(?:fermi|ef|f|vbm|homo|v)\}?(?:ermi)?$", "", lower).strip() if zero else lower
    if _ENERGY.fullmatch(bare) or (zero and _ENERGY.match(bare)):
        own = "mev" if bare == "mev" else unit
        if unit_text and (own is None or arbitrary or unit_text in _OTHER_UNITS):  # as 1/cm of phonons
            own = f"unknown:{unit_text}"
        return Column("energy", unit=own, zero=zero)
    if _INDEX.fullmatch(lower) and name != "I":  # which is iodine
        return Column("index")
    rest, spin = _without_spin(name)
    if _OF_A_KIND.match(lower):
        return Column("left out")
    if _INTEGRATED.search(lower):
        return Column("integrated", spin=spin)
    kind = Column("unknown", spin=spin, unit=unit, per_atom=per_atom, arbitrary=arbitrary)
    if not rest.strip(" _.-:") or _TOTAL.fullmatch(rest.lower().strip(" _.-:")):
        return dataclasses.replace(kind, role="total")
    site, channel = _place(rest)
    if site is None and channel is None:
        return kind
    return dataclasses.replace(kind, role="curve", site=site, channel=channel)


def is_no_energy(heading: str) -> bool:
    """Say whether a heading names what no electronic energy is, or one that grows the other way, such as a binding energy."""
    return bool(_NO_ENERGY.search(_LATEX.sub("", heading).lower()))


# --- parts of a heading ---------------------------------------------------------------------------------------------------


def _without_unit(name: str) -> tuple[str, str]:
    """Split ``DOS (states/eV)`` into its name and unit; parentheses that are no unit stay."""
    for match in re.finditer(r"[\[(]([^\[\]()]*)[\])]", name):
        inside = match[1].strip().lower()
        words = re.findall(r"[a-zа-я.]+", inside)
        if inside in UNIT_NAMES or inside in _OTHER_UNITS or _UNIT_WORDS.intersection(words):
            return (name[: match.start()] + " " + name[match.end() :]).strip(), inside
    tail = re.fullmatch(
        r"(.*?)(?:\s+in\s+|\s*/\s*|[ _]+)((?:1/|states/)?(?:m?ev|ha|hartree|ry)(?:\^?-1)?)", name, re.IGNORECASE
    )
    return (tail[1], tail[2].lower()) if tail else (name, "")


def _unit(text: str) -> tuple[str | None, bool, bool]:
    """Return the unit of energy in a unit, whether it is per atom, and whether it is per something else, or arbitrary."""
    if not text:
        return None, False, False
    unit = UNIT_NAMES.get(text)
    if unit is None:
        for word in re.findall(r"[a-z.]+", re.sub(r"\^?-1", "", text)):
            unit = unit or UNIT_NAMES.get(word.strip("."))
    per_atom = bool(re.search(r"atom|/at\b|site", text))
    arbitrary = bool(re.search(r"arb|f\.?u\.?\b|mol|formula|normali|volume|cm|å|nm|bohr|\bm\^?3", text)) and not per_atom
    known = unit or ("unknown:" + text if not arbitrary and not re.search("state|electron|^1", text) else None)
    return known, per_atom, arbitrary


def _zero(name: str) -> Literal["fermi", "vbm"] | None:
    if re.search(r"-\s*e?_?\{?(?:vbm|homo|v)\b", name):
        return "vbm"
    return "fermi" if re.search(r"-\s*(?:e_?\{?f|fermi|mu\b|μ)", name) else None


def _without_spin(name: str) -> tuple[str, int | None]:
    """Take a spin out of a name: ``DOS-up``, ``dosdw(E)``, ``spin down``, ``s(up)``, ``↑``."""
    for spin, words in ((0, _UP), (1, _DOWN)):
        rest, found = re.subn(
            rf"(?:^|(?<=[\s_.:,(\[-]))[(\[]?(?:{words})[)\]]?(?=$|[\s_.:,)\]-])", "", name, count=1, flags=re.IGNORECASE
        )
        if not found:
            rest, found = re.subn(
                r"(?<=dos)(?:up|u)\b" if spin == 0 else r"(?<=dos)(?:dw|dn|down)\b", "", name, flags=re.IGNORECASE
            )
        if not found:
            rest, found = re.subn("↑" if spin == 0 else "↓", "", name)
        if found:
            return re.sub(r"[(\[]\s*[)\]]", "", re.sub(r"\bspin\b", "", rest, flags=re.IGNORECASE)).strip(" _-.:,(["), spin
    return name, None


def _place(name: str) -> tuple[str | None, str | None]:
    """Return the site and the channel of which a name without spin and unit is."""
    text = _FILLER.sub(" ", re.sub(r"(?<=[a-zA-Z\d])_(?=[a-zA-Z])", " ", name)).strip(" _-.:,")
    text = re.sub(r"\s+", " ", re.sub(r"\(e\)", "", text, flags=re.IGNORECASE)).strip()
    text = re.sub(r"^\(([A-Z][a-z]?\d*)\)$|^(?:total|sum)[ (]+([A-Z][a-z]?\d*)\)?$", r"\1\2", text, flags=re.IGNORECASE)
    for whole in (name.strip(), text, text.replace(" ", ""), text.replace(" ", "_"), re.sub(r"^[1-7](?=[spdf])", "", text)):
        if whole.lower() in _ORBITALS and not (whole.isupper() and len(whole) == 1 and whole in ("S", "P", "F")):
            return None, _ORBITALS[whole.lower()]
    match = re.match(
        r"(?:(?:site|atom|ion|kind|species)[\s_#:-]*(\d+|[A-Z][a-z]?\d*)|([A-Z][a-z]?)[\s_#-]*\(?(\d+(?![spdf\d]))?\)?)",
        text,
        re.IGNORECASE,
    )
    if not match:
        return None, None
    word, symbol, number = match.groups()
    if symbol is not None:
        symbol = symbol.capitalize() if len(symbol) == 2 or symbol.isupper() else symbol
        word_of_prose = text[:2].islower() and re.match(r"(?:in|as|at|no|he|be|os|am|pa)\b(?!$)", text) is not None
        if number is None and text[match.end(2) : match.end(2) + 1].isalpha():  # as in Col1, which is no Co
            return None, None
        if symbol not in ATOMIC_NUMBERS or ATOMIC_NUMBERS[symbol] == 0 or word_of_prose:
            return None, None
    site = word or f"{symbol}{number or ''}"
    rest = text[match.end() :].strip(" _-.:,()[]")
    rest = re.sub(r"^(?:site|atom)\s*\d*\s*", "", rest).strip(" _-.:,()[]") if symbol is not None else rest
    if not rest or rest.lower() in ("tot", "total", "dos", "sum", "all"):
        return site, None
    rest = re.sub(r"^\d(?=[spdf])", "", rest)  # the shell of 3d
    for whole in (rest.lower(), rest.lower().replace(" ", "")):
        if whole in _ORBITALS:
            return site, _ORBITALS[whole]
    return None, None
