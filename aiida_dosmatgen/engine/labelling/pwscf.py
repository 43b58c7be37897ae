"""Labels by Quantum ESPRESSO: energy, forces, stress and per-atom DOS of many crystals, several at a time.

The same as the ``label`` work chain, in the engine: the same inputs, the same formulas (:mod:`...core.dos`), no AiiDA.
One self-consistent run with extra bands, then the projections; each crystal's record is written as soon as it is done,
and a run that is started again continues where it stopped.
"""

import hashlib
import logging
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import spglib

from ...core.crystals import CrystalSet
from ...core.dft.labels import outlier
from ...core.dft.pseudopotentials import DEBIAN_PBE, collect, cutoffs
from ...core.dft.settings import ALMOST_SYMMETRIC, kpoints_mesh, label_namelists, n_bands
from ...core.dft.upf import read_upf
from ...core.dos import check_electrons, project
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.job import LabelSettings
from ...core.units import BOHR, HARTREE
from .espresso import Killed, MissingProgram, RunFailure, run

logger = logging.getLogger(__name__)


def estimated_cost(crystal: CrystalSet, settings: LabelSettings) -> float:
    """Return a rough cost of a label, to compare crystals by: one unit is about a second of a current core.

    Irreducible k-points × plane waves × bands, with a term for the orthogonalisation of many bands.
    """
    symbols = [SYMBOLS[z] for z in crystal.numbers]
    ecutwfc, _ = cutoffs(symbols, settings.stringency)
    mesh = kpoints_mesh(crystal.lattices[0], settings.kpoints_distance)
    cell = (crystal.lattices[0].tolist(), crystal.fractional.tolist(), crystal.numbers.tolist())
    mapping, _ = spglib.get_ir_reciprocal_mesh(mesh, cell, symprec=1e-5)
    bands = n_bands(sum(DEBIAN_PBE[s].valence for s in symbols), len(symbols))
    return 1e-6 * len(np.unique(mapping)) * float(crystal.volumes[0]) * ecutwfc**1.5 * bands * (1 + bands / 40)


def pw_input(
    crystal: CrystalSet, settings: LabelSettings, pseudos: dict[str, Path], folder: Path, symmetry: bool = True
) -> tuple[str, float]:
    """Return the input of pw.x for one crystal, and its number of electrons."""
    symbols = [SYMBOLS[z] for z in crystal.numbers]
    species = sorted(set(symbols))
    missing = [s for s in species if s not in pseudos]
    if missing:
        raise RunFailure(f"no pseudopotential for {' '.join(missing)}")
    ecutwfc, ecutrho = cutoffs(species, settings.stringency)
    valence = {s: read_upf(pseudos[s]).valence for s in species}
    electrons = sum(valence[s] for s in symbols)
    mesh = kpoints_mesh(crystal.lattices[0], settings.kpoints_distance)
    seconds = 0.9 * settings.max_seconds_per_crystal
    namelists = label_namelists(
        electrons, len(symbols), (ecutwfc, ecutrho), settings.smearing, settings.degauss, seconds, symmetry
    )
    namelists["CONTROL"] |= {"outdir": str(folder), "pseudo_dir": str(next(iter(pseudos.values())).parent)}
    namelists["SYSTEM"] |= {"ibrav": 0, "nat": len(symbols), "ntyp": len(species)}
    lines = [
        *(
            line
            for name, entries in namelists.items()
            for line in (f"&{name}", *(f" {key}={_fortran(value)}" for key, value in entries.items()), "/")
        ),
        "ATOMIC_SPECIES", *(f"{s} 1.0 {pseudos[s].name}" for s in species),
        "CELL_PARAMETERS angstrom", *(" ".join(f"{x:.10f}" for x in v) for v in crystal.lattices[0]),
        "ATOMIC_POSITIONS crystal",
        *(f"{s} " + " ".join(f"{x:.10f}" for x in f) for s, f in zip(symbols, crystal.fractional, strict=True)),
        "K_POINTS automatic", " ".join(map(str, mesh)) + " 0 0 0", "",
    ]  # fmt: skip
    return "\n".join(lines), electrons


def _fortran(value: object) -> str:
    if isinstance(value, bool):
        return f".{str(value).lower()}."
    return repr(value)


def label_one(crystal: CrystalSet, settings: LabelSettings, pseudos: dict[str, Path]) -> CrystalSet:
    """Compute one crystal, and return it with its labels. One that is only almost symmetric is computed without symmetry.

    :raises RunFailure: with the reason, if it cannot be labelled.
    """
    try:
        return _label(crystal, settings, pseudos, symmetry=True)
    except RunFailure as exception:
        if ALMOST_SYMMETRIC not in str(exception):
            raise
    return _label(crystal, settings, pseudos, symmetry=False)


def _label(crystal: CrystalSet, settings: LabelSettings, pseudos: dict[str, Path], symmetry: bool) -> CrystalSet:
    defect = crystal.defect()
    if defect:
        raise RunFailure(defect)
    folder = Path(tempfile.mkdtemp(prefix="label-"))
    try:
        text, electrons = pw_input(crystal, settings, pseudos, folder, symmetry)
        run(settings.pw_command, text, folder, settings.max_seconds_per_crystal)
        eigenvalues, weights, labels = _read_pw(folder / "pwscf.save" / "data-file-schema.xml", len(crystal.numbers))
        projection_input = f"&PROJWFC\n outdir='{folder}'\n filproj='proj'\n ngauss=0\n degauss=0.01\n DeltaE=1.0\n/\n"
        output = run(settings.projwfc_command, projection_input, folder, settings.max_seconds_per_crystal)
        projections = _read_projections(output, len(crystal.numbers), *eigenvalues.shape)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    projected = project(eigenvalues, weights, projections, electrons, sigma=settings.sigma)
    problem = check_electrons(projected.electrons, electrons)
    if problem:
        raise RunFailure(problem)
    return crystal.with_columns(
        crystal={
            "energy": np.array([labels["energy"]]),
            "stress": labels["stress"][None],
            "complete_below": np.array([projected.complete_below]),
            "highest_occupied": np.array([projected.highest_occupied]),
            "n_electrons": np.array([electrons]),
            "projected_electrons": np.array([projected.electrons]),
        },
        atom={"forces": labels["forces"], "dos": projected.dos.astype(np.float32)},
    )


def label(
    crystals: CrystalSet,
    settings: LabelSettings,
    directory: Path,
    workers: int = 1,
    pseudo_directory: Path | None = None,
) -> Generator[tuple[int, str], None, None]:
    """Label crystals several at a time, one serial pw.x each, and yield (index, status) as each is done.

    Records are ``directory/records/<hash of the crystal and the settings>.npz``; existing ones are not computed again.

    :param pseudo_directory: where the UPF files are; by default Debian's, copied below ``directory``.
    """
    records = directory / "records"
    records.mkdir(parents=True, exist_ok=True)
    if pseudo_directory is None:
        pseudos = collect(directory / "pseudopotentials")
    else:
        pseudos = {
            s: pseudo_directory / f"{p.name}.upf"
            for s, p in DEBIAN_PBE.items()
            if (pseudo_directory / f"{p.name}.upf").is_file()
        }
    pseudos = {symbol: path.resolve() for symbol, path in pseudos.items()}

    def work(i: int) -> str:
        record = record_path(directory, crystals[i], settings)
        if record.exists():
            return str(CrystalSet.load(record).crystal_columns["status"][0])
        try:
            labelled = label_one(crystals[i], settings, pseudos)
            status = "ok"
        except Killed as exception:
            return str(exception)
        except MissingProgram:
            raise
        except (RunFailure, ContentError) as exception:
            labelled, status = crystals[i], str(exception)
        labelled.with_columns(crystal={"status": np.array([status])}).save(record)
        return status

    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(work, i): i for i in range(len(crystals))}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:  # whoever stops listening must not wait for the crystals not yet begun
        pool.shutdown(cancel_futures=True)


def record_path(directory: Path, crystal: CrystalSet, settings: LabelSettings) -> Path:
    """Return where the record of a crystal with these settings is kept."""
    digest = hashlib.sha256(settings.physics().encode())
    for array in (crystal.numbers, crystal.fractional, crystal.lattices):
        digest.update(np.ascontiguousarray(array).tobytes())
    return directory / "records" / f"{digest.hexdigest()[:32]}.npz"


def gather(crystals: CrystalSet, settings: LabelSettings, directory: Path) -> tuple[CrystalSet, dict[str, int]]:
    """Join the finished records of a run, without those that failed or are outliers (:mod:`...core.dft.labels`).

    The limits are applied here and are not kept in the records: they can change without a new calculation.

    :return: the labelled crystals in their original order, and how often each status occurs.
    """
    done: list[CrystalSet] = []
    counts: dict[str, int] = {}
    for crystal in crystals:
        record = record_path(directory, crystal, settings)
        if not record.exists():
            counts["not computed"] = counts.get("not computed", 0) + 1
            continue
        labelled = CrystalSet.load(record)
        status = str(labelled.crystal_columns["status"][0])
        if status == "ok":
            status = outlier(labelled) or status
        counts[status] = counts.get(status, 0) + 1
        if status == "ok":
            done.append(labelled)
    return CrystalSet.concatenate(done), counts


def _read_pw(path: Path, n_atoms: int) -> tuple[np.ndarray, np.ndarray, dict]:
    output = ET.parse(path).getroot().find("output")
    if output is None:
        raise RunFailure("pw.x wrote no output section")

    def numbers(element: ET.Element | None) -> np.ndarray:
        if element is None or element.text is None:
            raise RunFailure("pw.x left out energies, forces or stress")
        return np.array(element.text.split(), float)

    points = output.findall("band_structure/ks_energies")
    eigenvalues = np.stack([numbers(p.find("eigenvalues")) for p in points]) * HARTREE
    weights = np.array([float(p.find("k_point").attrib["weight"]) for p in points])  # type: ignore[union-attr]
    return eigenvalues, weights, {
        "energy": float(numbers(output.find("total_energy/etot"))[0]) * HARTREE,
        "forces": numbers(output.find("forces")).reshape(n_atoms, 3) * HARTREE / BOHR,
        "stress": -numbers(output.find("stress")).reshape(3, 3) * HARTREE / BOHR**3,
    }  # fmt: skip


def _read_projections(output: str, n_atoms: int, n_kpoints: int, n_bands: int) -> np.ndarray:
    """Sum the printed |⟨φ|ψ⟩|² (symmetrised) over the orbitals of each atom, shape (n_atoms, n_kpoints, n_bands)."""
    atom_of_state = [int(a) - 1 for a in re.findall(r"state #\s*\d+: atom\s+(\d+)", output)]
    values = np.zeros((n_atoms, n_kpoints * n_bands))
    blocks = re.split(r"==== e\(\s*\d+\) =", output)[1:]
    if len(blocks) != n_kpoints * n_bands or not atom_of_state:
        raise RunFailure(f"projwfc.x printed {len(blocks)} states, expected {n_kpoints * n_bands}")
    for i, block in enumerate(blocks):
        for weight, state in re.findall(r"(\d\.\d+)\*\[#\s*(\d+)\]", block.split("|psi|^2")[0]):
            values[atom_of_state[int(state) - 1], i] += float(weight)
    return values.reshape(n_atoms, n_kpoints, n_bands)
