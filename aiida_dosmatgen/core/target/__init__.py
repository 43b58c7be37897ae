"""The target density of states.

Begin with :class:`DosTarget` in ``target.py``; ``files.py`` makes one of the files that people have, ``points.py``
puts their points on equidistant energies, ``checks.py`` refuses what is none, ``combining.py`` makes one target of
several, and ``archive.py`` keeps them. Wishes, which a target may have besides a curve or instead of one,
are in ``wishes.py``.
"""

from .target import DosTarget

__all__ = ["DosTarget"]
