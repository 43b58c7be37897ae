"""``dosmatgen crystals``: the crystals of a data set, in the order in which to label them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.dft.upf import read_folder
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.job import CrystalsJob, Results
from ...core.labelled.reserved import read_reserved
from ..labelling.order import LARGE, SHARES, balanced, relative_cost
from ..labelling.sources import distorted, elements, outside, real_crystals, substituted
from . import Clock, results


def restart_files(job: CrystalsJob) -> list[str]:
    """Name nothing: it takes minutes."""
    return []


def run(job: CrystalsJob, folder: Path) -> Results:
    """Make the crystals of a job.

    :raises ContentError: if a file cannot be read, or nothing is left.
    """
    clock = Clock(job.runtime.max_seconds)
    valences = _valences(job, folder)
    symbols = [symbol for symbol in SYMBOLS if symbol in valences and symbol in (job.elements or valences)]
    reserved = read_reserved(job.reserved, folder)

    def kept(crystals: Iterable[CrystalSet]) -> list[CrystalSet]:
        return list(outside(crystals, reserved, set(symbols), job.max_atoms))

    made = [crystal for name in job.structures for crystal in kept(real_crystals(folder / name))]
    if job.ground_states:
        made += kept(elements(symbols))
    if job.substituted:
        made += kept(substituted(symbols, job.substituted, job.max_atoms, job.seed))
    made += kept(distorted(made, job.distorted, job.seed))
    if not made:
        raise ContentError("there are no crystals; give structures, ground_states or substituted")
    crystals = CrystalSet.concatenate(made)
    costs, magnetic = [], []
    for crystal in crystals:
        atoms = [SYMBOLS[z] for z in crystal.numbers]
        mesh = job.recipe.bands_mesh(crystal.lattices[0], len(atoms))
        valence = sum(valences[symbol] for symbol in atoms)
        magnetic.append(job.recipe.magnetic(atoms))
        costs.append(relative_cost(crystal, valence, mesh, magnetic[-1]))
    # formation energies, and so what they teach, need the elements
    kinds = crystals.crystal_columns["kind"]
    wanted = {"large": crystals.n_atoms >= LARGE, "magnetic": np.array(magnetic), "real": kinds == "real"}
    shares = [(wanted[name], share) for name, share in SHARES.items()]
    crystals = crystals[balanced(crystals, np.array(costs), kinds == "element", shares)]
    crystals.save(folder / job.output)
    details = {
        "kinds": Counter(crystals.crystal_columns["kind"].tolist()),
        "elements": len(set(crystals.numbers.tolist())),
        "reserved_systems": len(reserved),
    }
    return results(job, folder, clock, output=job.output, done=len(crystals), of=len(crystals), details=details)


def _valences(job: CrystalsJob, folder: Path) -> dict[str, float]:
    if job.pseudo_directory is None:
        return dict(job.valences or {})
    return {symbol: upf.valence for symbol, upf in read_folder(folder / job.pseudo_directory).items()}
