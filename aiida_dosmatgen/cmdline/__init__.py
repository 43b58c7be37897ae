"""The command line ``aiida-dosmatgen``.

Begin with :mod:`.main`, which lists the commands, and with :mod:`.group`, the base of all of them. Then read the module of a
command, ``cmd_NAME.py``.
"""

import warnings

# A first command makes the folder; that is no reason to worry.
warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")
