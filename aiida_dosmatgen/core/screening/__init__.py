"""The screening: which candidates are ranked, in which order and geometry, and why the others are rejected. Pure functions.

Begin with :func:`screen` in ``screen.py``. To add a criterion, give :class:`ScreenCriteria` a field (``criteria.py``), write
the function that says which candidates fail it (``filters.py``), and give it an entry in the table of ``funnel.py``. What it
looks at beyond the columns of the crystals is computed in ``candidates.py``.
"""

from .criteria import RankWeights, ScreenCriteria
from .screen import Screened, screen
from .thinning import Predict, Thinned, looking, thin

__all__ = ["Predict", "RankWeights", "ScreenCriteria", "Screened", "Thinned", "looking", "screen", "thin"]
