"""The outlier filter for labels, with the same limits for the executable and the work chain.

Beyond them a label is not wrong, but says nothing about crystals that anybody meets, and outweighs those in a training.
"""

import numpy as np
from ase.units import GPa

from ..crystals import CrystalSet

MAX_STRESS = 500.0  # GPa
MAX_FORCE = 30.0  # eV/Å
MAX_CHARGE_LOST = 0.05  # share of the electrons that the projection may lose or count twice


def outlier(labelled: CrystalSet) -> str | None:
    """Return why the outlier filter removes a labelled crystal from the training data, or None.

    :param labelled: one crystal with ``forces`` (eV/Å), and where it has them ``stress`` (eV/Å³) and, of sums of projections,
        ``n_electrons`` and ``projected_electrons``.
    """
    columns = labelled.crystal_columns
    if "stress" in columns and np.abs(columns["stress"]).max() / GPa > MAX_STRESS:
        return f"outlier: a stress above {MAX_STRESS:g} GPa"
    if np.linalg.norm(labelled.atom_columns["forces"], axis=1).max() > MAX_FORCE:
        return f"outlier: a force above {MAX_FORCE:g} eV/Å"
    partition = "meaning" in columns and columns["meaning"][0] == "partition"  # holds all electrons by what it is
    if not partition and abs(1 - columns["projected_electrons"][0] / columns["n_electrons"][0]) > MAX_CHARGE_LOST:
        return f"outlier: more than {MAX_CHARGE_LOST:.0%} of the charge lost in the projection"
    return None
