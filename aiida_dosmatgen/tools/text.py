"""Tables as plain text, drawn by rich: for terminals, pipes and notebooks alike."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_WIDEST = 10_000  # no line is broken: whoever reads it may


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], right: Collection[str] = ()) -> list[str]:
    """Return the lines of a table.

    :param right: headings of the columns that are set flush right.
    """
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        drawn.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    return _lines(drawn, rows)


def pairs(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return lines of a name and its description, in two columns."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(no_wrap=True)
    drawn.add_column(no_wrap=True)
    return _lines(drawn, rows)


def _lines(drawn: Table, rows: Iterable[Sequence[Any]]) -> list[str]:
    for row in rows:
        drawn.add_row(*map(str, row))
    stream = io.StringIO()
    Console(file=stream, width=_WIDEST, color_system=None, markup=False, emoji=False, highlight=False).print(drawn)
    return [line.rstrip() for line in stream.getvalue().splitlines()]
