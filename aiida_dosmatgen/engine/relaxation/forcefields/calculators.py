"""Any ASE calculator as a force field."""

from __future__ import annotations

import importlib
import logging
from importlib.metadata import entry_points

import numpy as np

from ....core.crystals import CrystalSet
from ....core.elements import SYMBOLS
from ....core.errors import ContentError
from ....core.forcefields import ENTRY_POINTS, problem_of_calculator
from ....core.job import ForceField
from .evaluation import Evaluation

logger = logging.getLogger(__name__)


class CalculatorEvaluator:
    """Any ASE calculator, one crystal at a time. A crystal on which it raises gets NaN, the others their values.

    ASE calculators do not say which elements they know; that is found out by trying each once, on a lone atom in a box.
    """

    sha256: str | None = None

    def __init__(self, calculator, description: str) -> None:
        self.calculator, self.description = calculator, description
        self._known: dict[int, bool] = {}

    def knows(self, numbers: np.ndarray) -> np.ndarray:
        """Say which atomic numbers the calculator takes."""
        for number in np.unique(numbers):
            if int(number) not in self._known:
                self._known[int(number)] = self._takes(int(number))
        return np.array([self._known[int(number)] for number in numbers], dtype=bool)

    def _takes(self, number: int) -> bool:
        from ase import Atoms

        box = Atoms([number, number], positions=[[0, 0, 0], [0, 0, 2.5]], cell=[8.0] * 3, pbc=True)
        try:
            self._results(box)
        except Exception as exception:  # whatever a foreign calculator raises for an element that it does not know
            logger.warning("%s does not take %s: %s", self.description, SYMBOLS[number], exception)
            return False
        return True

    def _results(self, atoms) -> tuple[float, np.ndarray, np.ndarray]:
        atoms.calc = self.calculator
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)

    def evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Compute the crystals one after another."""
        energies, stresses = np.full(len(crystals), np.nan), np.full((len(crystals), 3, 3), np.nan)
        forces = np.full((len(crystals.numbers), 3), np.nan)
        offsets = crystals.offsets
        for i, atoms in enumerate(crystals.to_ase()):
            try:
                energies[i], forces[offsets[i] : offsets[i + 1]], stresses[i] = self._results(atoms)
            except Exception as exception:  # of a foreign calculator; it must not cost the other crystals
                logger.warning("%s failed on crystal %d of the batch: %s", self.description, i, exception)
                self.calculator.reset() if hasattr(self.calculator, "reset") else None
        return Evaluation(energies, forces, stresses)


def load_calculator(force_field: ForceField) -> CalculatorEvaluator:
    """Make an ASE calculator, from its entry point or from its class, which is checked before anything is called.

    :raises ContentError: if there is none of that name, it may not be used, or it gives no energies, forces and stresses.
    """
    name = force_field.calculator or ""
    if force_field.sha256 is not None:
        raise ContentError("force_field.sha256: a calculator has no file to check; leave it out")
    named = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    problem = problem_of_calculator(name)
    if problem is None and ":" not in name and name not in named:
        known = f"installed are {', '.join(sorted(named))}" if named else "none is installed"
        problem = f"there is no entry point {name!r} of {ENTRY_POINTS}; {known}"
    if problem:
        raise ContentError(f"force_field.calculator: {problem}")
    module, _, attribute = name.partition(":")
    try:
        maker = named[name].load() if name in named else getattr(importlib.import_module(module), attribute)
        calculator = maker(**force_field.arguments)
    except Exception as exception:  # importing and calling foreign code
        reason = " ".join(str(exception).split()) or type(exception).__name__
        raise ContentError(f"force_field.calculator: {name} cannot be made: {reason}") from None
    lacking = {"energy", "forces", "stress"} - set(getattr(calculator, "implemented_properties", ()))
    if lacking:
        raise ContentError(f"force_field.calculator: {name} does not give {', '.join(sorted(lacking))}")
    arguments = ", ".join(f"{k}={v!r}" for k, v in force_field.arguments.items())
    return CalculatorEvaluator(calculator, f"ASE calculator {name}({arguments})")
