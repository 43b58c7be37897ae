"""Force fields with one interface: a MACE file, a MACE foundation model by name, CHGNet, or any ASE calculator.

Begin with :mod:`.evaluation`, which is the port. :mod:`.mace` evaluates many crystals in one call of a network that
:mod:`.fused_mace` makes faster, and so does :mod:`.chgnet`; :mod:`.calculators` takes the calculators of ASE, one crystal at
a time, and :mod:`.universal` names some that know most elements.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ....core.job import ForceField
from .calculators import CalculatorEvaluator, load_calculator
from .chgnet import WEIGHTS, ChgnetEvaluator, load_chgnet
from .evaluation import Evaluation, Evaluator
from .mace import MaceEvaluator, foundation_file, load_mace

__all__ = ["CalculatorEvaluator", "ChgnetEvaluator", "Evaluation", "Evaluator", "MaceEvaluator", "load"]


def load(
    force_field: ForceField, folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
) -> Evaluator:
    """Load a force field.

    A MACE file is a pickle, and loading it runs the code in it: it is loaded only if its hash is given, which says that it is
    trusted, and that is checked on the very bytes that are then loaded. A foundation model is trusted by its name.

    :param folder: what relative paths are relative to.
    :param dtype: arithmetic of a MACE model or of CHGNet; energies are always summed in float64.
    :raises ContentError: if the file, the name or the calculator cannot be used.
    """
    if force_field.file is not None:
        path = folder / force_field.file
        return load_mace(path, f"MACE file {path.name}", force_field, device, dtype)
    if force_field.foundation is not None:
        path = foundation_file(force_field.foundation)
        return load_mace(path, f"MACE foundation model {force_field.foundation}", force_field, device, dtype)
    if force_field.calculator == "chgnet" and force_field.sha256 is None:
        arguments = {"weights": "0.3.0", **force_field.arguments}
        if set(arguments) == {"weights"} and arguments["weights"] in WEIGHTS:
            return load_chgnet(arguments["weights"], device, dtype)
    return load_calculator(force_field)
