"""Entry point of ``aiida-dosmatgen``. If libraries are missing, it prints in one line what to install."""

from __future__ import annotations

import importlib.util
import sys

PACKAGES = {"aiida": "aiida-core", "aiida_quantumespresso": "aiida-quantumespresso", "aiida_pseudo": "aiida-pseudo"}
"""What the extra ``workflows`` brings and a compute node does not have: modules, and their names on the package index."""


def run() -> None:
    """Run the command line.

    :raises SystemExit: always, with the exit status; 2, and one line on stderr, if a package of the AiiDA side is missing.
    """
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            line = f"aiida-dosmatgen: {package} is not installed; run: pip install 'aiida-dosmatgen[workflows]'"
            print(line, file=sys.stderr)
            sys.exit(2)
    from .main import main

    main()


if __name__ == "__main__":
    run()
