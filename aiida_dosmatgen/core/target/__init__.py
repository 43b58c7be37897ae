"""The target density of states.

Begin with :class:`DosTarget` in ``target.py``; ``files.py`` makes one of the files that people have, ``points.py``
puts their points on equidistant energies. Wishes, which a target may have besides a curve or instead of one,
are in ``wishes.py``.
"""

from .target import DosTarget

__all__ = ["DosTarget"]
