"""``aiida-dosmatgen target``: target densities of states."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import yaml

from ..core.errors import ContentError
from ..core.paths import user_path
from .group import Group
from .listing import attribute, nodes_table, say_stored
from .params import TARGET


@click.group("target", cls=Group)
def target() -> None:
    """Target densities of states: import, fetch, sketch, wish, show, list.

    \b
    Example:
      aiida-dosmatgen target import my_dos.csv --per-atom
    """


def _sites(_: click.Context, __: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        return [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of atoms, as 0,3; they count from 0") from None


@target.command("import")
@click.argument("source")
@click.option("--label", help="What the target is called; by default the name of the file.")
@click.option("--n-atoms", type=click.IntRange(1), help="Atoms of the cell that a total curve belongs to.")
@click.option("--per-atom", is_flag=True, help="A total curve is divided by the number of atoms already.")
@click.option("--low", type=float, metavar="EV", help="Energy from which the curve is to be trusted.")
@click.option("--complete-below", "--high", type=float, metavar="EV", help="Energy up to which the curve is to be trusted.")
@click.option("--zero", type=float, metavar="EV", help="The VBM or Fermi energy as in the file, to be zero; in a gap, the VBM.")
@click.option("--sigma", type=float, metavar="EV", help="Gaussian broadening of the curve; that of the models if not given.")
@click.option(
    "--meaning",
    type=click.Choice(["partition", "projections"]),
    help="Whether curves of sites add up to the total, or are what projectors saw.",
)
@click.option("--sites", callback=_sites, metavar="0,3", help="The atoms that the curves are for; the others are free.")
def import_(source: str, label: str | None, per_atom: bool, sites: list[int] | None, **options: Any) -> None:
    """Store a target from a file or folder of densities of states, or from a finished DosWorkChain; say what was made of it.

    SOURCE is a path (vasprun.xml, DOSCAR, files of dos.x and projwfc.x, JSON of pymatgen or the Materials Project, a table of
    any dialect, npz, …), or the pk or uuid of a DosWorkChain, a ValidateWorkChain or a PdosWorkChain.

    \b
    Example:
      aiida-dosmatgen target import vasprun.xml --label silicon
      aiida-dosmatgen target import my_dos.csv --n-atoms 8
    """
    from ..tools import nodes

    given = {name: value for name, value in options.items() if value is not None}
    given |= {"per_atom": True} if per_atom else {}
    given |= {"site_indices": sites} if sites is not None else {}
    if "://" in source:
        raise ContentError(f"{source} is an address; download the file, and give its path")
    path = user_path(source)
    if path.exists() or not source.replace("-", "").isalnum():
        node, reading = nodes.target_and_reading(path, label or _stem(path), **given)
        say_stored(node)
        click.echo(reading)
        return
    node = nodes.target_of_process(source, **given)
    say_stored(nodes.named(node, nodes.normalized(label or f"pdos_{source[:8]}")))


def _stem(path: Path) -> str:
    """Return what a target is called after its file."""
    name = path.resolve().name
    stem = Path(re.sub(r"\.(?:gz|bz2|xz)$", "", name)).stem
    return stem if stem.strip() else name


@target.command("from-mp")
@click.argument("material_id")
@click.option("--label", help="What the target is called; by default MATERIAL_ID.")
@click.option("--sigma", type=float, metavar="EV", help="Gaussian broadening of the curve, if it has any.")
def from_mp(material_id: str, label: str | None, sigma: float | None) -> None:
    """Store the density of states of a material of the Materials Project as a target. Needs mp-api, and a key in MP_API_KEY.

    \b
    Example:
      aiida-dosmatgen target from-mp mp-149 --label silicon
    """
    from ..tools import nodes
    from ..tools.materials_project import target_from_mp

    made = target_from_mp(material_id, **({} if sigma is None else {"sigma": sigma}))
    say_stored(nodes.stored_once(made, label=label or material_id))
    click.echo(made.reading)


@target.command("sketch")
@click.option("--centre", type=float, metavar="EV", help="Centre of gravity of the band; 0 is the highest level.")
@click.option("--width", type=float, metavar="EV", help="From the bottom of the band to its top.")
@click.option("--gap", type=float, default=0.0, show_default=True, metavar="EV", help="Above the filled band; 0 is a metal.")
@click.option("--electrons", type=float, default=4.0, show_default=True, help="In the filled part, for each atom.")
@click.option("--n-atoms", type=click.IntRange(1), help="Atoms of a candidate; open without it.")
@click.option("--wish", "wishes", multiple=True, metavar="TEXT", help="What is asked for besides the curve; see target wish.")
@click.option("--label", help="What the target is called; by default sketch_CENTRE_WIDTH_GAP.")
def sketch_(
    centre: float | None,
    width: float | None,
    gap: float,
    electrons: float,
    n_atoms: int | None,
    wishes: tuple[str, ...],
    label: str | None,
) -> None:
    """Store a target that is drawn from a band's centre and width and the gap above it, and show it.

    What is given as --wish is asked for besides the curve. Without --centre and --width the curve is drawn from the wishes.

    \b
    Example:
      aiida-dosmatgen target sketch --centre -3 --width 6 --gap 1.5 --label semiconductor
    """
    from ..core.target.sketch import sketch
    from ..data.target import DosTargetData
    from ..tools import nodes

    given = _possible(wishes) if wishes else ()
    if centre is None and width is None and given:
        if gap:
            raise ContentError('without --centre and --width a gap is a wish: --wish "gap >= 1.5"')
        _store_wishes(given, n_atoms, label)
        return
    if centre is None or width is None:
        raise ContentError("a sketch needs --centre and --width of its band; or give what you wish for with --wish")
    drawn = sketch(centre, width, gap, electrons=electrons, n_atoms=n_atoms)
    source = f"sketch: centre {centre:g} eV, width {width:g} eV, gap {gap:g} eV, {electrons:g} electrons per atom"
    if given:
        drawn = drawn.wishing(given)
        source = "; ".join([source, *map(str, drawn.wishes)])
    node = nodes.stored_once(DosTargetData(drawn, label_source=source), label=label or f"sketch_{centre:g}_{width:g}_{gap:g}")
    say_stored(node)
    _drawn(node)


@target.command("wish")
@click.argument("wishes", nargs=-1, required=True)
@click.option("--curve", type=TARGET, help="A target whose curve is asked for besides the wishes.")
@click.option("--n-atoms", type=click.IntRange(1), help="Atoms of a candidate, without a curve; open if not given.")
@click.option("--label", help="What the target is called; by default wishes_HASH, or CURVE_wishes.")
def wish_(wishes: tuple[str, ...], curve: Any, n_atoms: int | None, label: str | None) -> None:
    """Store a target of wishes, with a curve or without one, and show it.

    Each of WISHES is a text, or a YAML or JSON file with a list of them. Energies are in eV relative to the highest occupied
    level. Relations are >=, <= and none; each wish may end with "weight 2".

    \b
    gap >= 1.5
    nothing from 0.2 to 2
    states from -2 to 0: 4 +- 0.5 per atom
    peak at -3 +- 0.2
    d band centre -2 +- 0.2 from -10 to 4
    band width <= 3

    \b
    Example:
      aiida-dosmatgen target wish "gap >= 1.5" "peak at -3 +- 0.2" --label wide-gap
    """
    from ..tools import nodes

    given = _possible(wishes)
    if curve is None:
        _store_wishes(given, n_atoms, label)
        return
    if n_atoms is not None:
        raise ContentError("the curve says how many atoms a candidate has; leave out --n-atoms")
    node = nodes.target_with_wishes(curve, given)
    say_stored(nodes.named(node, nodes.normalized(label or f"{curve.label or curve.pk}_wishes")))
    _drawn(node)


def _store_wishes(wishes: Iterable[Any], n_atoms: int | None, label: str | None) -> None:
    """Store a target of wishes alone, and show it."""
    from ..data.target import DosTargetData
    from ..tools import nodes

    made = DosTargetData.from_wishes(wishes, n_atoms)
    node = nodes.stored_once(made, label=label or f"wishes_{made.sha256[:6]}")
    say_stored(node)
    _drawn(node)


def _possible(texts: Iterable[str]) -> tuple[Any, ...]:
    """Return the wishes of texts and files, if a crystal can have them.

    :raises ContentError: in one line, for wishes that none can.
    """
    from ..core.target.possible import check_possible
    from ..core.target.wish_text import wishes_of

    wishes = wishes_of([one for text in texts for one in _wishes_in(text)])
    check_possible(wishes)
    return wishes


def _wishes_in(text: str) -> list[Any]:
    """Return the wishes of a file, or a text as it is."""
    path = user_path(text)
    if path.suffix not in (".yaml", ".yml", ".json"):
        return [text]
    from ..core.target.wish_text import wishes_of

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exception:
        raise ContentError(f"{path} cannot be read: {exception.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as exception:
        raise ContentError(f"{path} is neither YAML nor JSON: {str(exception).splitlines()[0]}") from None
    return list(wishes_of(content, path.name))


def _drawn(node: Any) -> None:
    """Print the picture of a target, and its wishes."""
    from ..tools.curves import in_terminal, ungranted, wishes_in_words

    click.echo(in_terminal({node.label: node.target}, colour=sys.stdout.isatty()))
    for line in [*wishes_in_words(node.target), *ungranted(node.target)]:
        click.echo(line)


@target.command("show")
@click.argument("targets", type=TARGET, nargs=-1, required=True)
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Draw into this file, not into the terminal.")
def show(targets: tuple[Any, ...], png: Path | None) -> None:
    """Show one or more targets (labels, pks or files) as one plot: in the terminal, or as a PNG file.

    \b
    Example:
      aiida-dosmatgen target show my_dos --png my_dos.png
    """
    from ..tools.curves import as_png, in_terminal, wishes_in_words

    curves = {node.label or f"target {node.pk}": node.target for node in targets}
    if png is not None:
        as_png(curves, png)
        click.echo(f"Wrote {png}")
        return
    click.echo(in_terminal(curves, colour=sys.stdout.isatty()))
    for node in targets:
        limit = node.base.attributes.get("complete_below", None)
        compared = f"compared {'everywhere' if limit is None else f'up to {limit:.1f} eV'}"
        click.echo(
            f"{node.label or node.pk}: {_kind(node)}, from {node.base.attributes.get('label_source', None) or 'elsewhere'}, "
            + ("ranked by its wishes" if node.target.only_wishes else compared)
        )
        for line in wishes_in_words(node.target):
            click.echo(f"  {line}")


def _kind(node: Any) -> str:
    get = node.base.attributes.get
    if get("only_wishes", False):
        number = len(get("wishes"))
        return f"{number} wish{'es' if number > 1 else ''}"
    if get("kind") == "total":
        size = get("n_atoms", None)
        return "one total curve" + (f" for {size} atoms" if size else "")
    chosen = get("sites", None)
    return f"curves for {get('n_sites')} sites" + (f" (atoms {', '.join(map(str, chosen))})" if chosen else "")


@target.command("list")
def list_() -> None:
    """List the targets of this profile.

    \b
    Example:
      aiida-dosmatgen target list
    """
    nodes_table(
        "dosmatgen.target",
        {
            "what": _kind,
            "compared below (eV)": attribute("complete_below", lambda e: f"{e:.1f}"),
            "from": attribute("label_source"),
        },
        "There are no targets; import one: aiida-dosmatgen target import my_dos.csv",
    )
