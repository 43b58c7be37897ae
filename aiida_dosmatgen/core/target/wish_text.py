"""Wishes as people write them: ``gap >= 1.5``, ``nothing from -1 to 0``, ``d band centre -2.0 +- 0.2``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import ContentError
from ..strict import explain
from .wishes import KINDS, Wish, wish_of

FORMS = {
    "gap": "gap >= 1.5 +- 0.1",
    "nothing": "nothing from 0.2 to 2 +- 0.1",
    "states": "states from -2 to 0: 4 +- 0.5 per atom",
    "peak": "peak at -3 +- 0.2",
    "band": "d band centre -2 +- 0.2 from -10 to 4",
}
"""An example of each form."""

_SAME = {
    "−": "-", "–": "-", "≥": ">=", "≤": "<=", "±": "+-", "+/-": "+-", "center": "centre",
    "at least": ">=", "at most": "<=",
}  # fmt: skip
_UNITS = re.compile(r"(?<=[\d.\s])(states\s*/\s*atom|electrons\s*/\s*atom|per atom|/\s*atom|ev)(?![a-z])")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_BETWEEN = rf"from (?P<low>{_NUMBER}) to (?P<high>{_NUMBER})"
_VALUE = rf"(?P<relation>>=|<=|=)? ?(?P<value>{_NUMBER})"
_TOLERANCE = rf"(?: ?\+- ?(?P<tolerance>{_NUMBER}))?"
_CHANNEL = r"(?:(?P<channel>[spdf])[ -])?"
_WEIGHT = rf"(?:,? \(?weight (?P<weight>{_NUMBER})\)?)?"
_PATTERNS = {
    "gap": rf"(?:band )?gap:? ?{_VALUE}{_TOLERANCE}{_WEIGHT}",
    "nothing": rf"(?:no {_CHANNEL}states|nothing) {_BETWEEN}{_TOLERANCE}{_WEIGHT}",
    "states": rf"{_CHANNEL}states {_BETWEEN} ?:? ?{_VALUE}{_TOLERANCE}{_WEIGHT}",
    "peak": rf"{_CHANNEL}peak at (?P<energy>{_NUMBER}){_TOLERANCE}{_WEIGHT}",
    "band centre": rf"{_CHANNEL}band centre:? ?{_VALUE}{_TOLERANCE}(?: {_BETWEEN})?{_WEIGHT}",
    "band width": rf"{_CHANNEL}band width:? ?{_VALUE}{_TOLERANCE}(?: {_BETWEEN})?{_WEIGHT}",
}
_SHOWN = 80  # letters of a text in a message
_WORDS = ("channel", "relation")


def wish(text: str) -> Wish:
    """Return the wish that a text is.

    :raises ContentError: in one line, with an example of what was meant.
    """
    given = re.sub(r"(?<=\d),(?=\d)", ".", " ".join(text.lower().split()))  # a decimal comma
    for other, same in _SAME.items():
        given = given.replace(other, same)
    given = " ".join(_UNITS.sub(" ", given).split()).replace(" ,", ",")
    for kind, pattern in _PATTERNS.items():
        found = re.fullmatch(pattern, given)
        if found is None:
            continue
        values = {
            key: value if key in _WORDS else float(value) for key, value in found.groupdict().items() if value is not None
        }
        try:
            return KINDS[kind].model_validate(values)
        except ValidationError as exception:
            raise ContentError(f"{given[:_SHOWN]!r}: {explain(exception)}") from None
    shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …")
    unit = re.search(r"\d\s*(mev|kev|ha|hartree|ry|rydberg|k|nm|cm-1|per cell|/ ?cell|j)\b", given)
    if unit:
        raise ContentError(f"{shown} is in {unit[1]!r}; give energies in eV, and states per atom")
    meant = [example for word, example in FORMS.items() if word in given] or list(FORMS.values())
    raise ContentError(f"{shown} is no wish; write it like {' | '.join(repr(example) for example in meant)}")


def wishes_of(content: Any, name: str = "the wishes") -> tuple[Wish, ...]:
    """Return wishes from texts and mappings, as a YAML or JSON file has them.

    :param content: a list of them, or a mapping that has such a list as ``wishes``.
    :param name: of the file, for errors.
    :raises ContentError: in one line, naming what is wrong with which.
    """
    if isinstance(content, Mapping):
        if set(content) != {"wishes"}:
            raise ContentError(f"{name}: expected a list of wishes, or the single key 'wishes' with one; got {sorted(content)}")
        content = content["wishes"]
    if isinstance(content, str | bytes) or not isinstance(content, Iterable):
        raise ContentError(f"{name}: expected a list of wishes, not {content!r}")
    found: list[Wish] = []
    for number, item in enumerate(content, 1):
        try:
            if isinstance(item, Wish):
                found.append(item)
            elif isinstance(item, Mapping):
                found.append(wish_of(item))
            else:
                found.append(wish(item if isinstance(item, str) else str(item)))
        except ContentError as exception:
            raise ContentError(f"{name}, wish {number}: {exception}") from None
        if found[-1] in found[:-1]:
            raise ContentError(f"{name}: {found[-1]} is wished for twice; give it a weight")
    if not found:
        raise ContentError(f"{name}: there are none; write one like {FORMS['gap']!r}")
    return tuple(found)
