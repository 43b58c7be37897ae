"""Sets of labelled crystals that others have made: MP-DOS, parquet files, records of pymatgen and emmet, extxyz, shards.

Begin with :func:`.read.read_set` and the table of formats above it. A format gives one record after the other, so that memory
holds what is kept and no file as a whole; :mod:`.site_curves` puts each record on the energies of the set and refuses what is
no crystal or no density of states, with the reason. :mod:`.mpdos` reads MP-DOS alone, where a bad record is an error.
"""

from .read import Dropped, ImportedSet, read_set

__all__ = ["Dropped", "ImportedSet", "read_set"]
