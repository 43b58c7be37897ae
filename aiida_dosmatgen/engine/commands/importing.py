"""``dosmatgen import``: one labelled set of the files of others."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import ContentError
from ...core.labelled.importing import Dropped, read_set
from ...core.labelled.shards import card_of_shards, folder_of_shards, load_shards

_MOST_NAMED = 20  # dropped records on the screen; the card names more
_SAID_EACH = 2000  # records


def write(files: Sequence[Path], output: Path) -> None:
    """Read files, and save the labelled crystals with a card.

    :raises ContentError: if a file cannot be read, or nothing is left.
    """
    if output.suffix != ".npz" or not output.parent.is_dir():
        raise ContentError(f"{output}: labelled crystals are saved as a file .npz in a folder that exists")
    folder = folder_of_shards(files[0])
    if folder is not None and len(files) == 1:
        crystals = load_shards(folder)
        crystals.save(output, card=card_of_shards(folder))
        print(f"{len(crystals)} crystals of {folder} in {output}")
        return
    named = 0

    def tell(done: int, lost: Dropped | None) -> None:
        nonlocal named
        if lost is not None and named < _MOST_NAMED:
            print(f"left out {lost.record}: {lost.reason}", file=sys.stderr)
            named += 1
        if done % _SAID_EACH == 0:
            print(f"{done} records read", file=sys.stderr)

    found = read_set(files, progress=tell)
    found.crystals.save(output, card=found.card())
    for note in found.notes:
        print(note, file=sys.stderr)
    print(f"{len(found.crystals)} crystals in {output}; {len(found.dropped)} records left out")
