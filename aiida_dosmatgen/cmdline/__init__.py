"""The command line ``aiida-dosmatgen``."""

import warnings

# A first command makes the folder; that is no reason to worry.
warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")
