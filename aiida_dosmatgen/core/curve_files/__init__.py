"""Files of densities of states as people have them: tables of any dialect, and the output of VASP, Quantum ESPRESSO and others.

Begin with :func:`.read.read_curves` and the table of readers above it. Each reader returns a :class:`.found.Found`, what
stands in the file; ``made.py`` makes :class:`~aiida_dosmatgen.core.curves.Curves` of it, and says in one line how.
"""

from .found import ReadCurves
from .likeness import compare_files
from .read import read_content, read_curves

__all__ = ["ReadCurves", "compare_files", "read_content", "read_curves"]
