"""The target density of states.

Begin with :class:`DosTarget` in ``target.py``; ``text.py`` reads the CSV and JSON files that people have, ``distances.py``
compares a crystal with a target.
"""

from .target import DosTarget

__all__ = ["DosTarget"]
