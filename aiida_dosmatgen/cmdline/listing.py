"""Tables of nodes, and cards of single ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import yaml

from ..tools.text import table


def nodes_table(entry_point: str, columns: Mapping[str, Callable[[Any], Any]], empty: str) -> None:
    """Print all nodes of a class, oldest first.

    :param entry_point: of the class.
    :param columns: what stands beside pk and label, by its heading.
    :param empty: what is printed if there are none.
    """
    from aiida.orm import QueryBuilder
    from aiida.plugins import DataFactory

    query = QueryBuilder().append(DataFactory(entry_point), tag="node").order_by({"node": {"id": "asc"}})
    rows: list[Sequence[Any]] = []
    for node in query.all(flat=True):
        cells = [column(node) for column in columns.values()]
        rows.append([node.pk, node.label or "–", *("–" if cell is None else cell for cell in cells)])
    if rows:
        click.echo("\n".join(table(["pk", "label", *columns], rows, right=["pk"])))
    else:
        click.echo(empty)


def attribute(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[[Any], Any]:
    """Return what reads an attribute of a node."""

    def read(node: Any) -> Any:
        value = node.base.attributes.get(name, None)
        return None if value is None else convert(value)

    return read


def short_hash(value: str) -> str:
    """Return the beginning of a hash."""
    return value[:8]


def card(node: Any, leave_out: Sequence[str] = ()) -> str:
    """Return the description of a node, as YAML."""
    attributes = {
        name: value for name, value in sorted(node.base.attributes.items()) if name not in {"filename", "content", *leave_out}
    }
    head = {"pk": node.pk, "uuid": node.uuid, "label": node.label, "stored": f"{node.ctime:%Y-%m-%d %H:%M}"}
    return yaml.safe_dump(
        {**head, **attributes}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    ).rstrip()


def say_stored(node: Any, default: str = "") -> None:
    """Say where a stored node is; one without a label gets the default."""
    from ..tools.nodes import named, normalized

    if not node.label and default:
        named(node, normalized(default))
    click.echo(f"{type(node).__name__}<{node.pk}> {node.label or node.uuid}")
