"""Which candidates go on to DFT, in which order and form, and why the others do not: pure functions.

Begin with :func:`screen` in ``screen.py``. To add a criterion, give :class:`ScreenCriteria` a field (``criteria.py``), write
the function that says which candidates fail it (``filters.py``), and apply it in :func:`screen`.
"""

from .criteria import RankWeights, ScreenCriteria
from .screen import Screened, screen

__all__ = ["RankWeights", "ScreenCriteria", "Screened", "screen"]
