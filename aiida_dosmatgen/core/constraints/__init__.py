"""What is held fixed of a candidate.

Begin with ``constraints.py``, which is made of ``sites.py`` and ``lattice.py``; ``restrictions.py``, ``assignment.py`` and
``placement.py`` find contradictions before sampling.
"""
