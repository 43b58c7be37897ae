"""A campaign, or a loop that learns, as one HTML file that opens anywhere, without a network.

Begin with :func:`write`. :mod:`.content` (of a loop :mod:`.rounds`) reads the graph into plain values, and :mod:`.page` puts
them into ``page.html`` and ``rounds.html``.
"""

from __future__ import annotations

from pathlib import Path

from aiida import orm

from ..core.files.replacing import replacing
from ..tools.learning import LEARN
from .content import content_of
from .page import render, render_loop
from .rounds import content_of_loop


def write(node: orm.WorkChainNode, path: str | Path) -> Path:
    """Write the page of a campaign: funnel, crystals with their curves and structures, lineage, settings and hashes.

    Of a loop that learns it shows the rounds: distances, funnels, what entered the training set and why, and the verdicts.
    The page is a function of the campaign and of this package's version: in whatever profile it is written, it is the same,
    byte by byte. It asks nothing of any network.

    :param path: of the HTML file; one that is there is replaced.
    :return: the path.
    :raises ValueError: in one line, if the node is neither, or has no ranking or round (yet).
    """
    path = Path(path).expanduser()
    text = render_loop(content_of_loop(node)) if node.process_type == LEARN else render(content_of(node))
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path
