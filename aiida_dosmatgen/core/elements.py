"""Chemical symbols and atomic numbers."""

import re

from .errors import ContentError

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg "
    "Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()
"""``SYMBOLS[z]`` is the symbol of atomic number ``z``; index 0 is the placeholder ``X``."""

ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}

COVALENT_RADII = (
    0.2,  # the placeholder X
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02,
    1.06, 2.03, 1.76, 1.7, 1.6, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.2, 1.19, 1.2, 1.2,
    1.16, 2.2, 1.95, 1.9, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39,
    1.4, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.9, 1.87, 1.87,
    1.75, 1.7, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.4, 1.5, 1.5, 2.6, 2.21, 2.15,
    2.06, 2.0, 1.96, 1.9, 1.87, 1.8, 1.69,
)  # fmt: skip
"""Covalent radii in Å by atomic number up to curium, from Cordero et al., Dalton Trans. 2832 (2008)."""


def atomic_number(symbol: str) -> int:
    """Return the atomic number of a chemical symbol.

    :raises ContentError: if there is no such element.
    """
    number = ATOMIC_NUMBERS.get(symbol, 0)
    if number == 0:
        raise ContentError(f"{symbol!r} is not a chemical element; give a symbol such as 'Si'")
    return number


def formula(numbers) -> str:
    """Return the chemical formula of a list of atomic numbers, elements in alphabetical order, e.g. ``As1Ga1`` → ``AsGa``."""
    counts: dict[str, int] = {}
    for number in numbers:
        symbol = SYMBOLS[int(number)]
        counts[symbol] = counts.get(symbol, 0) + 1
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in sorted(counts.items()))


def parse_formula(text: str) -> dict[str, int]:
    """Return how many atoms of each element a chemical formula has: ``Ca(OH)2`` → {"Ca": 1, "O": 2, "H": 2}.

    :raises ContentError: if it is not a formula of known elements in whole numbers.
    """
    tokens = re.findall(r"[A-Z][a-z]?|\d+|[()]|.", text)
    stack: list[dict[str, int]] = [{}]
    group: dict[str, int] = {}  # what a number behind it multiplies
    for token in [*tokens, "end"]:
        factor = int(token) if token.isdecimal() else 1
        if factor < 1 or (token.isdecimal() and not group):
            raise ContentError(f"{text!r} is not a chemical formula; write one such as GaAs, Al2O3 or Ca(OH)2")
        for symbol, count in group.items():
            stack[-1][symbol] = stack[-1].get(symbol, 0) + factor * count
        group = {}
        if token == "(":
            stack.append({})
        elif token == ")" and len(stack) > 1 and stack[-1]:
            group = stack.pop()
        elif token in ATOMIC_NUMBERS and token != "X":
            group = {token: 1}
        elif not token.isdecimal() and token != "end":
            raise ContentError(f"{text!r} is not a chemical formula ({token!r}); write one such as GaAs, Al2O3 or Ca(OH)2")
    if len(stack) > 1 or not stack[0]:
        raise ContentError(f"{text!r} is not a chemical formula; write one such as GaAs, Al2O3 or Ca(OH)2")
    return stack[0]
