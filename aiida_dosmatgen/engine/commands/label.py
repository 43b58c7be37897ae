"""``dosmatgen label``: Quantum ESPRESSO on many crystals; finished records are never computed again."""

from pathlib import Path

from ...core.crystals import CrystalSet
from ...core.job import LabelJob, Results
from ..labelling import estimated_cost, gather, label
from . import Clock, Progress, results


def run(job: LabelJob, folder: Path) -> Results:
    """Label the crystals of a job.

    :raises ContentError: if the crystals cannot be read, or Quantum ESPRESSO is not installed.
    """
    clock = Clock(job.runtime.max_seconds)
    crystals = CrystalSet.load(folder / job.crystals)
    if job.max_cost is not None:
        crystals = crystals[[i for i, c in enumerate(crystals) if estimated_cost(c, job.settings) <= job.max_cost]]
    pseudos = None if job.pseudo_directory is None else folder / job.pseudo_directory
    progress, done = Progress("crystals labelled", len(crystals)), 0
    running = label(crystals, job.settings, folder / job.directory, job.workers, pseudos)
    for index, status in running:
        done += 1
        progress(done, "" if status == "ok" else f"crystal {index}: {status}")
        if done < len(crystals) and not clock.allows():
            running.close()
            break
    labelled, counts = gather(crystals, job.settings, folder / job.directory)
    labelled.save(folder / job.output)
    done = len(crystals) - counts.get("not computed", 0)
    return results(job, folder, clock, output=job.output, done=done, of=len(crystals), details={"statuses": counts})
