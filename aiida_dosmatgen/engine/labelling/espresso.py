"""pw.x and projwfc.x on one crystal: inputs as text, runs in a folder, what they wrote as arrays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.dft.bands import CHANNELS
from ...core.dft.upf import Upf
from ...core.errors import ContentError
from ...core.units import BOHR, HARTREE

_FROM_OUTSIDE = {signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM}
_PROJECTIONS = "&PROJWFC\n outdir='{folder}'\n filproj='proj'\n ngauss=0\n degauss=0.01\n DeltaE=1.0\n/\n"


class RunFailure(RuntimeError):
    """An executable did not do its work; the message is the reason that the crystal's record keeps."""


class NotConverged(RunFailure):
    """The self-consistent field did not converge in the steps it had."""


class Killed(RuntimeError):
    """An executable was killed from outside: not the crystal's fault, so it enters no record."""


class MissingProgram(ContentError):
    """Nothing can be labelled: no crystal's fault, so that it ends the run and enters no record."""


def pw_text(
    namelists: Mapping[str, Mapping],
    symbols: Sequence[str],
    lattice: np.ndarray,
    fractional: np.ndarray,
    mesh: Sequence[int],
    pseudos: Mapping[str, Upf],
    folder: Path,
) -> str:
    """Return the input of pw.x.

    :param lattice: lattice vectors as rows in Å, shape (3, 3).
    :param fractional: coordinates, shape (n_atoms, 3).
    :param mesh: divisions of the Γ-centred mesh.
    """
    species = sorted(set(symbols))
    where = {"outdir": str(folder), "pseudo_dir": str(pseudos[species[0]].path.parent)}
    blocks = {name: dict(entries) for name, entries in namelists.items()}
    blocks["CONTROL"] |= where
    blocks["SYSTEM"] = {"ibrav": 0, "nat": len(symbols), "ntyp": len(species)} | blocks["SYSTEM"]
    lines = []
    for name, entries in blocks.items():
        lines.append(f"&{name}")
        for key, value in entries.items():
            if isinstance(value, Mapping):  # one for each species
                lines += [f" {key}({species.index(s) + 1})={_fortran(v)}" for s, v in value.items()]
            else:
                lines.append(f" {key}={_fortran(value)}")
        lines.append("/")
    lines += ["ATOMIC_SPECIES", *(f"{s} 1.0 {pseudos[s].path.name}" for s in species)]
    lines += ["CELL_PARAMETERS angstrom", *(" ".join(f"{x:.12f}" for x in vector) for vector in lattice)]
    lines.append("ATOMIC_POSITIONS crystal")
    lines += [f"{s} " + " ".join(f"{x:.12f}" for x in place) for s, place in zip(symbols, fractional, strict=True)]
    lines += ["K_POINTS automatic", " ".join(map(str, mesh)) + " 0 0 0", ""]
    return "\n".join(lines)


def _fortran(value: object) -> str:
    if isinstance(value, bool):
        return f".{str(value).lower()}."
    return repr(value)


def run(command: Sequence[str], text: str, folder: Path, seconds: float) -> str:
    """Run an executable serially with a text as standard input, and return what it printed.

    :raises RunFailure: with its own words, if it stopped early or took longer than ``seconds``.
    :raises Killed: if somebody or the system ended it.
    :raises MissingProgram: if it is not installed.
    """
    program = Path(command[-1]).name
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ESPRESSO_TMPDIR": str(folder)}
    try:
        result = subprocess.run(
            list(command),
            input=text,
            cwd=folder,
            env=environment,
            timeout=max(seconds, 0.01),
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise MissingProgram(f"{command[0]} is not installed; install Quantum ESPRESSO (Debian: quantum-espresso)") from None
    except subprocess.TimeoutExpired:
        raise RunFailure(f"{program} took longer than {seconds:.4g} s") from None
    if -result.returncode in _FROM_OUTSIDE:
        raise Killed(f"{program} was killed by signal {-result.returncode}")
    if result.returncode < 0:
        raise RunFailure(f"{program} crashed with signal {-result.returncode}")
    if "convergence NOT achieved" in result.stdout:
        raise NotConverged("the self-consistent field did not converge")
    if "JOB DONE" not in result.stdout:
        error = re.search(r"Error in routine\s+(.*?)\s*\n\s*(.*?)\s*\n", result.stdout)
        raise RunFailure(f"{program}: " + (" ".join(error.groups()) if error else "ended without JOB DONE"))
    return result.stdout


@dataclass(frozen=True)
class PwResult:
    """What pw.x wrote.

    :param eigenvalues: eV, shape (n_spins, n_kpoints, n_bands).
    :param weights: of the k-points, adding up to one, shape (n_kpoints,).
    :param kpoints: in units of the reciprocal lattice vectors, shape (n_kpoints, 3).
    :param energy: eV.
    :param forces: eV/Å, shape (n_atoms, 3), None for a run that has none.
    :param magnetization: total and absolute in μB, None without spin.
    """

    eigenvalues: np.ndarray
    weights: np.ndarray
    kpoints: np.ndarray
    energy: float
    forces: np.ndarray | None
    magnetization: tuple[float, float] | None


def read_pw(folder: Path, lattice: np.ndarray) -> PwResult:
    """Read ``data-file-schema.xml`` of a run in a folder.

    :param lattice: lattice vectors as rows in Å, shape (3, 3).
    :raises RunFailure: for what is missing.
    """
    output = ET.parse(folder / "pwscf.save" / "data-file-schema.xml").getroot().find("output")
    if output is None:
        raise RunFailure("pw.x wrote no output section")

    def numbers(path: str, parent: ET.Element = output) -> np.ndarray | None:
        element = parent.find(path)
        return None if element is None or element.text is None else np.array(element.text.split(), float)

    spins = 2 if (output.findtext("magnetization/lsda") or "false").strip() == "true" else 1
    points = output.findall("band_structure/ks_energies")
    levels = [numbers("eigenvalues", point) for point in points]
    places = [point.find("k_point") for point in points]
    energy = numbers("total_energy/etot")
    alat = output.find("atomic_structure").get("alat")  # type: ignore[union-attr]
    if not points or any(x is None for x in (*levels, *places)) or energy is None or alat is None:
        raise RunFailure("pw.x left out bands or the energy")
    eigenvalues = np.stack(levels).reshape(len(points), spins, -1).transpose(1, 0, 2) * HARTREE  # type: ignore[arg-type]
    weights = np.array([float(place.attrib["weight"]) for place in places])  # type: ignore[union-attr]
    cartesian = np.stack([np.array(place.text.split(), float) for place in places])  # type: ignore[union-attr]
    forces = numbers("forces")
    total, absolute = numbers("magnetization/total"), numbers("magnetization/absolute")
    return PwResult(
        eigenvalues,
        weights / weights.sum(),
        cartesian / (float(alat) * BOHR) @ np.asarray(lattice).T,
        float(energy[0]) * HARTREE,
        None if forces is None else forces.reshape(-1, 3) * HARTREE / BOHR,
        None if total is None or absolute is None or spins == 1 else (float(total[0]), float(absolute[0])),
    )


@dataclass(frozen=True)
class Projections:
    """What projwfc.x printed.

    :param values: Σ|⟨φ|ψ⟩|² over the orbitals of each atom and channel, symmetrised, shape (n_atoms, n_channels, n_spins,
        n_kpoints, n_bands).
    :param moments: spin moments in μB by Löwdin charges, shape (n_atoms,); zeros without spin.
    """

    values: np.ndarray
    moments: np.ndarray


def project(command: Sequence[str], folder: Path, n_atoms: int, shape: tuple[int, ...], seconds: float) -> Projections:
    """Run projwfc.x on what pw.x left in a folder.

    :param shape: (n_spins, n_kpoints, n_bands).
    :raises RunFailure: if it did not print what there should be.
    """
    output = run(command, _PROJECTIONS.format(folder=folder), folder, seconds)
    orbitals = [(int(atom) - 1, int(l)) for atom, l in re.findall(r"state #\s*\d+: atom\s+(\d+)\s.*?\(l=\s*(\d)", output)]
    blocks = re.split(r"==== e\(\s*\d+\) =", output)[1:]
    if len(blocks) != np.prod(shape) or not orbitals:
        raise RunFailure(f"projwfc.x printed {len(blocks)} states, expected {np.prod(shape)}")
    values = np.zeros((n_atoms, len(CHANNELS), len(blocks)))
    for i, block in enumerate(blocks):
        for weight, state in re.findall(r"(\d\.\d+)\*\[#\s*(\d+)\]", block.split("|psi|^2")[0]):
            atom, l = orbitals[int(state) - 1]
            values[atom, l, i] += float(weight)
    moments = np.array(re.findall(r"polarization\s*=\s*(-?[\d.]+)", output)[:n_atoms], float)
    return Projections(
        values.reshape(n_atoms, len(CHANNELS), *shape), moments if len(moments) == n_atoms else np.zeros(n_atoms)
    )
