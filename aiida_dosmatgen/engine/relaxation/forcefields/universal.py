"""Universal potentials that come whole from the package index, their weights inside: CHGNet and SevenNet.

They are entry points of ``dosmatgen.calculators`` in ``pyproject.toml``, so that a job says ``chgnet`` or ``sevennet``; the
package of SevenNet is the user's to install. CHGNet is evaluated in batches by :mod:`.chgnet`, but for its old weights. Only
weights inside of the packages can be asked for: names come with job files and archives, and loading any other file would run
the code in it.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from ....core.errors import ContentError

CHGNET = ("0.3.0", "0.2.0", "r2scan")
SEVENNET = ("7net-0", "7net-l3i5")
"""Weights inside of the wheels of chgnet 0.4 and sevenn 0.13."""


def chgnet(weights: str = "0.3.0", device: str = "cpu") -> Any:
    """Return an ASE calculator with CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)).

    :raises ContentError: for weights that the package does not bring, or without the package.
    """
    _among(weights, CHGNET)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            from chgnet.model.dynamics import CHGNetCalculator
            from chgnet.model.model import CHGNet
        except ImportError as exception:
            raise ContentError(f"CHGNet cannot be imported ({exception}); pip install chgnet") from None
        model = CHGNet.load(model_name=weights, use_device=device, verbose=False)
        return CHGNetCalculator(model, use_device=device, on_isolated_atoms="ignore")


def sevennet(weights: str = "7net-0", device: str = "cpu") -> Any:
    """Return an ASE calculator with SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)).

    :raises ContentError: for weights that the package does not bring, or without the package.
    """
    _among(weights, SEVENNET)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            from sevenn.calculator import SevenNetCalculator
        except ImportError as exception:
            raise ContentError(f"SevenNet cannot be imported ({exception}); pip install sevenn") from None
        return SevenNetCalculator(model=weights, device=device)


def _among(weights: str, known: tuple[str, ...]) -> None:
    if weights not in known:
        raise ContentError(f"weights: {weights!r} is none of {', '.join(known)}")
