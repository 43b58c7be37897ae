"""A table of numbers in any dialect: separators, decimal commas, comments, headings."""

from __future__ import annotations

import csv
import dataclasses
import re
from array import array

import numpy as np

from ...errors import ContentError
from .headings import Column, understand

_NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eEdDqQ][-+]?\d+)?|(?:\d+\.\d*|\.\d+)[-+]\d{3})")
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf(?:inity)?)|\*{2,}", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+\.\d*|(?:\.\d{3})+,\d*|(?:['’ ]\d{3})+(?:[.,]\d*)?)")
_COMMENT = re.compile(r"^\s*(?:[#%!@;*]|//)+")
_REMARK = re.compile(r"\s[#!%].*$")
_UNIT = re.compile(r"[\[(][^\])]*[\])]")
_ENERGY_FIRST = re.compile(
    r"^\s*((?:e|en|energy|energies|energie)(?:\s*-\s*e\S*)?(?:\s*[\[(][^\])]*[\])])?)[\s,;]+", re.IGNORECASE
)
_UNITS = re.compile(r"[\[(]?(?:[\w/.^\-* ⁻¹]*(?:eV|Ha|Ry|Hartree)[\w/.^\-* ⁻¹]*|arb\.? ?u\w*\.?|a\. ?u\.)[\])]?")
_EMPTY = re.compile(r"[,;|\s]*|[|+\-=:\s]*\|[|+\-=:\s]*")  # cells without anything in them, or the rule below a heading
_MOST_ROWS = 1_000_000
_MOST_LETTERS = 200_000  # of a line
_WIDEST = 100  # letters of a number; the time to tell whether longer ones are any grows with their square
_LONGEST = 1000  # letters of a comment that are looked at


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Numbers in columns, and what stood above them.

    :param values: shape (n_rows, n_columns).
    :param lines: number of the line of each row, from 1.
    :param headings: what a line above calls the columns, in words; None if none of the lines does.
    :param heading: that line, or the last one that looks like a heading; empty if there is none.
    :param notes: all lines that are no rows, comment signs removed.
    """

    values: np.ndarray
    lines: list[int]
    headings: list[str] | None
    heading: str
    notes: list[str]


def read_table(text: str, name: str) -> Table:
    """Read the one table of a text.

    Columns are separated by commas, semicolons, tabs, bars or spaces; numbers have points or commas, and exponents of C or
    Fortran. Lines that begin with ``# % ! @ ; * //`` are comments. Lines of words above the numbers are headings.

    :param name: of the file, for errors.
    :raises ContentError: naming the line.
    """
    if max(text.count("\n"), text.count("\r")) > 2 * _MOST_ROWS:
        raise ContentError(f"{name} has more than {_MOST_ROWS} rows; thin it out")
    numbers, width = array("d"), 0  # of all rows, one after the other: a fifth of the memory of lists
    lines: list[int] = []
    above: list[tuple[str, str]] = []  # headings and comments: the text, and how its line is separated
    notes: list[str] = []
    dialect: tuple[str, bool] | None = None
    empty_at_end = False
    widths, zeros, whole = (
        set[tuple[int, ...]](),
        False,
        True,
    )  # of every second cell: digits behind a decimal comma have one width
    ends: list[int] = []  # rows after which a set of xmgrace ends
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > _MOST_LETTERS:
            raise ContentError(f"{name}, line {number} has more than {_MOST_LETTERS} letters; it is no table of curves")
        comment = _COMMENT.match(line)
        bare = line[comment.end() :].strip() if comment else line.strip(" \r\n\f\v")
        if line.strip() == "&":  # the end of a set of xmgrace
            ends.append(len(lines))
            continue
        if comment or _EMPTY.fullmatch(bare):
            if bare.strip() and not _EMPTY.fullmatch(bare):
                bare = bare[:_LONGEST]
                notes.append(bare)
                if width < 2 and not line.lstrip().startswith("@"):  # of xmgrace, which names no columns
                    above.append((bare, ""))
                    if line.startswith(";") and line.count(";") > 1:  # no comment, but an empty name of a column
                        above.append((line.strip(), ";"))
            continue
        bare = _REMARK.sub("", bare).strip(" ")
        own = _dialect(bare)
        cells = _cells(bare, *(dialect or own))
        if dialect is not None and not _all_numbers(cells) and _all_numbers(_cells(bare, *own)):
            cells = _cells(bare, *own)  # whole numbers, say, among others with a decimal comma
        empty_at_end = empty_at_end or bare.rstrip(" ")[-1:] in (",", ";")
        if not _all_numbers(cells):
            if not width and not _begins_like_numbers(cells):
                above.append((bare, own[0]))
                notes.append(bare[:_LONGEST])
                continue
            raise ContentError(f"{name}, line {number}: {_what_is_wrong(cells)}")
        if width == 1 and len(lines) == 1 and len(cells) > 1:  # the number of rows, above them
            numbers, lines, dialect, width = array("d"), [], own, 0
        if width and len(cells) != width:
            raise ContentError(f"{name}, line {number}: {len(cells)} columns, but {width} in line {lines[0]}")
        if len(lines) >= _MOST_ROWS:
            raise ContentError(f"{name} has more than {_MOST_ROWS} rows; thin it out")
        dialect = dialect or own
        if dialect[0] == ",":
            widths.add(tuple(len(cell) for cell in cells[1::2]))
            zeros = zeros or any(re.match(r"0\d", cell) for cell in cells[1::2])
            whole = whole and all(cell.lstrip("+-").isdigit() for cell in cells)
        numbers.extend([_number(cell) for cell in cells])
        width = len(cells)
        lines.append(number)
    if len(lines) < 2 or width < 2:
        begun = next((line for line, _ in above if re.match(r"[-+.]?\d", line)), None)
        if begun is not None and not lines:
            raise ContentError(f"{name}: no line is of numbers alone; one begins {begun[:30]!r}; write units into a heading")
        raise ContentError(
            f"{name} has no table of numbers (two columns and two lines or more): "
            "energies in the first column, densities of states in the others"
        )
    if whole and zeros and len(widths) == 1 and width >= 4 and width % 2 == 0:
        raise ContentError(f"{name}: commas seem to be decimal as well as between columns; separate columns by semicolons")
    headings, heading = _headings(above, width, empty_at_end)
    values = np.array(numbers).reshape(-1, width)
    both = _spins_side_by_side(values, headings, notes)
    if both is not None:
        return Table(both[0], lines[: len(both[0])], both[1], heading, notes)
    again = next((row for row in ends if 0 < row < len(lines)), None)
    if again is not None:
        raise ContentError(f"{name}, line {lines[again]}: a second set of curves begins; give a file with one table")
    return Table(values, lines, headings, heading, notes)


def _spins_side_by_side(
    values: np.ndarray, headings: list[str] | None, notes: list[str]
) -> tuple[np.ndarray, list[str] | None] | None:
    """Put the curves of spin down, which Elk and ABINIT write below those of spin up, beside them; None if there are none."""
    half = len(values) // 2
    if len(values) % 2 or half < 2 or not np.array_equal(values[:half, 0], values[half:, 0]):
        return None
    said = all(any(re.search(rf"spin[ _-]?{spin}", note, re.IGNORECASE) for note in notes) for spin in ("up", "down"))
    below = bool(values[half:, 1].max() <= 0 and values[half:, 1].min() < 0)
    if not said and not below:
        return None
    names = None
    if headings is not None or said:
        first, *rest = headings or ["energy", *["dos"] * (values.shape[1] - 1)]
        names = [first, *(f"{heading} up" for heading in rest), *(f"{heading} down" for heading in rest)]
    return np.hstack([values[:half], values[half:, 1:]]), names


# --- cells and numbers ----------------------------------------------------------------------------------------------------


def _dialect(line: str) -> tuple[str, bool]:
    """Return the separator of a line, a blank for any white space, and whether commas are decimal."""
    for separator in ("\t", ";", "|"):
        if separator in line:
            return separator, "," in line and not re.search(r"\d\.\d", line)
    if "," not in line:
        return " ", False
    words = line.split()
    if len(words) > 1 and all(re.fullmatch(r"[-+]?\d+(?:,\d+)?(?:[eEdD][-+]?\d+)?", word) for word in words):
        return " ", True  # numbers such as -10,5 between blanks
    return ",", False


def _cells(line: str, separator: str, decimal_comma: bool) -> list[str]:
    if separator == " ":
        cells = line.split()
    elif '"' in line:
        cells = _quoted(line, separator)
    else:
        cells = [cell.strip() for cell in line.split(separator)]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()  # separators at the end of a line
    if len(cells) > 1 and separator in "|\t" and not cells[0]:
        cells.pop(0)
    quoted = '"' in line and any(re.fullmatch(r"[-+]?\d+,\d+", cell) for cell in cells)
    return [cell.replace(",", ".") for cell in cells] if decimal_comma or quoted else cells


def _is_number(cell: str) -> bool:
    return len(cell) <= _WIDEST and _NUMBER.fullmatch(cell) is not None


def _all_numbers(cells: list[str]) -> bool:
    return bool(cells) and all(_is_number(cell) for cell in cells)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        pass
    text = re.sub(r"[dDqQ]", "e", cell)
    fused = re.fullmatch(r"([-+]?[\d.]+)([-+]\d{3})", text)  # Fortran leaves the letter out where three digits follow
    return float(f"{fused[1]}e{fused[2]}" if fused else text)


def _begins_like_numbers(cells: list[str]) -> bool:
    """Say whether a line above the first row is a row that was not understood, rather than a heading."""
    if re.search(r"[^\W\d_]{2}", cells[0]):
        return False
    numbers = sum(bool(_is_number(cell)) and "." in cell for cell in cells)
    return bool(re.match(r"[-+.]?\d", cells[0])) or 2 * numbers >= len(cells)


def _what_is_wrong(cells: list[str]) -> str:
    bad = next(cell for cell in cells if not _is_number(cell))[:_WIDEST]
    if not bad:
        return "an empty cell; write a number in each"
    if _THOUSANDS.fullmatch(bad):
        return f"{bad!r} has a separator of thousands; write numbers without it, in Excel in the format General"
    if re.match(r"#(?:N/A|REF!|DIV/0!|VALUE!|NAME\?|NUM!)", bad):
        return f"{bad!r} is an error of a spreadsheet; put its formula right, or leave the line out"
    if _NOT_FINITE.fullmatch(bad):
        return f"{bad!r} is no finite number; write a number, or leave the line out"
    if len(re.findall(r"[-+]?\d*\.\d+", bad)) > 1:
        return f"{bad!r} are numbers that run into each other; put blanks between them"
    return f"{bad[:40]!r} is no number; mark comments with #"


# --- headings -------------------------------------------------------------------------------------------------------------


def _headings(above: list[tuple[str, str]], n: int, empty_at_end: bool = False) -> tuple[list[str] | None, str]:
    """Return the names of the columns, and the line that they are from: the last line above that has as many.

    A list of them, numbered from 1, counts as well.

    :param empty_at_end: whether rows end with empty cells, which may have names.
    """
    listed = [match for line, _ in above if (match := re.fullmatch(r"(\d+)\s{2,}(\S.*)", line))]
    if [int(match[1]) for match in listed] == list(range(1, n + 1)):
        return [match[2].strip() for match in listed], listed[0][0]
    projectors = _projectors([line for line, _ in above])
    if len(projectors) == n - 1:
        return ["energy (eV)", *projectors], "projectors"
    best, score = None, -1
    for place in range(len(above) - 1, -1, -1):
        line, separator = above[place]
        cells = _split(line, separator, n)
        if cells is None and empty_at_end and separator in (",", ";"):
            cells = [*_cells_of_heading(line, separator), ""][:n] if line.count(separator) >= n else None
        if cells is None or not any(re.search(r"[^\W\d_]", cell) for cell in cells):
            continue
        if place and all(len(cell) < _LONGEST and _UNITS.fullmatch(cell) for cell in cells):
            names = _split(*above[place - 1], n)
            if names is not None:  # a line of units below the names
                line = above[place - 1][0]
                cells = [f"{a} ({b.strip('[]()')})" for a, b in zip(names, cells, strict=True)]
        columns = [understand(cell) for cell in cells]
        if separator in ("", " ") and _is_prose(cells, columns):
            continue
        understood = sum(column.role not in ("unknown", "index") for column in columns)
        understood += n * any(column.role == "energy" for column in columns)
        if understood > score:
            best, score = (cells, line), understood
    if best is not None:
        return best
    words = [
        line for line, separator in above if separator or re.match(r"(?:e|en|energy|energies|energie)\b", line, re.IGNORECASE)
    ]
    return None, words[-1] if words else ""


def _projectors(above: list[str]) -> list[str]:
    """Return names of the columns that OptaDOS lists in boxes: the atoms, angular momenta and spin of each."""
    names: list[str] = []
    atoms, momenta = set[str](), set[str]()
    for line in above:
        if re.match(r"\|\s*Column:\s*\d+\s+contains", line):
            names.append("")
            atoms, momenta = set(), set()
        match = re.match(r"\|\s*([A-Z][a-z]?)\s*(\d+)\s+([spdf])\s+(Up|Down)?\s*\|", line)
        if match and names:
            atoms.add(f"{match[1]}{match[2]}")
            momenta.add(match[3])
            place = min(atoms) if len(atoms) == 1 else "" if len(momenta) == 1 else " and ".join(sorted(atoms))
            names[-1] = f"{place} {min(momenta) if len(momenta) == 1 else ''} {match[4] or ''}".strip()
    return names


def _is_prose(cells: list[str], columns: list[Column]) -> bool:
    """Say whether the words of a line are no names of columns, as of ``Sigma = 0.05`` or ``Tetrahedron method``."""
    if any(cell == "=" or _is_number(cell) for cell in cells):
        return True
    return len(cells) == 2 and all(column.role == "unknown" for column in columns)


def _split(line: str, separator: str, n: int) -> list[str] | None:
    """Split a heading into the names of ``n`` columns, None if it cannot be."""
    line = re.sub(r"[,;]?\s*\be_?f(?:ermi)?\w*\s*[:=]\s*[-+\d.eEdD]+\s*(?:eV|Ha|Ry)?\s*$", "", line, flags=re.IGNORECASE)
    if separator and separator != " ":
        tries = [_cells_of_heading(line, separator)]
    else:
        joined = re.sub(r"\s+(?=[\[(])", "", line)
        joined = _UNIT.sub(lambda unit: unit[0].replace(" ", ""), joined)
        joined = re.sub(r"(?<=\w)\s*-\s*(?=[eE]_?[fF])", "-", joined)
        tries = [_cells_of_heading(line, mark) for mark in (",", "\t", ";", "|") if mark in line]
        tries += [re.split(r"\s{2,}", line.strip()), joined.split(), joined.replace(",", " ").split()]
        first = _ENERGY_FIRST.match(line)
        if first:
            rest = line[first.end() :].strip()
            for part in (rest.split(","), re.split(r"\s{2,}", rest), [rest]):
                tries.append([first[1], *(cell.strip() for cell in part)])
    return next((cells for cells in tries if len(cells) == n), None)


def _cells_of_heading(line: str, separator: str) -> list[str]:
    cells = _quoted(line, separator)
    while len(cells) > 1 and not cells[-1] and not line.rstrip().endswith('""'):
        cells.pop()
    framed = separator == "|" and line.strip()[:1] == line.strip()[-1:] == "|"
    return cells[1:] if framed and len(cells) > 1 and not cells[0] else cells


def _quoted(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):  # a cell of a hundred thousand letters
        return line.split(separator)
