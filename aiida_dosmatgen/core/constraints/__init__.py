"""What is held fixed of a candidate.

Begin with ``constraints.py``; ``restrictions.py``, ``assignment.py`` and ``placement.py`` find contradictions before sampling.
"""
