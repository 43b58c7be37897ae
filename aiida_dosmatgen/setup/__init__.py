"""Set up and check what a campaign needs.

Begin with ``localhost.py``, which sets up this machine step by step (``models.py``, ``pseudopotentials.py``, ``daemon.py``),
or with ``cluster.py``, which sets up a Slurm cluster from ``settings.py`` over ``connection.py``. ``doctor.py`` looks at every
part.
"""

from .codes import CODES
from .daemon import ensure_daemon
from .localhost import ensure_codes, ensure_computer, ensure_profile
from .models import MODELS, ensure_models
from .pseudopotentials import ensure_debian_family, ensure_pseudo_family

__all__ = [
    "CODES",
    "MODELS",
    "ensure_codes",
    "ensure_computer",
    "ensure_daemon",
    "ensure_debian_family",
    "ensure_models",
    "ensure_profile",
    "ensure_pseudo_family",
]
