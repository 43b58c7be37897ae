"""Chemical symbols and atomic numbers."""

from .errors import ContentError

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg "
    "Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()
"""``SYMBOLS[z]`` is the symbol of atomic number ``z``; index 0 is the placeholder ``X``."""

ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}


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
