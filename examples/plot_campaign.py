"""Plot target, predicted and DFT curves of a campaign's best crystals: ``verdi run examples/plot_campaign.py PK picture.png``.

Needs matplotlib, which pymatgen brings along.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from aiida.orm import WorkChainNode, load_node


def main(pk: str, path: str) -> None:
    """Draw one panel for each validated crystal of the first target, best first."""
    campaign = load_node(pk)
    name, rows = next(iter(campaign.outputs.ranking.get_dict()["targets"].items()))
    target = campaign.inputs.targets[name].target
    survivors = campaign.outputs.candidates[name].crystals
    rows = [row for row in rows if row["status"] == "validated"]
    energies = target.grid.points
    figure, panels = plt.subplots(1, len(rows), figsize=(3.6 * len(rows), 3.0), sharey=True, squeeze=False)
    for panel, row in zip(panels[0], rows, strict=True):
        chosen = survivors.crystal_columns["candidate"].tolist().index(row["candidate"])
        validation: WorkChainNode = load_node(row["validation"])
        computed = validation.outputs.dos.crystals.atom_columns["dos"].mean(0)
        panel.fill_between(energies, target.total, color="0.85", label="target")
        panel.plot(
            energies, survivors[chosen].atom_columns["predicted_dos"].mean(0), "--", color="C1", lw=1.2, label="predicted"
        )
        panel.plot(energies, computed, color="C0", lw=1.4, label="DFT")
        panel.axvline(0, color="0.5", lw=0.6)
        top = 1.35 * max(target.total.max(), computed.max())
        panel.set(xlim=(-10, min(10, target.complete_below)), ylim=(0, top), xlabel="energy (eV)")
        panel.set_title(f"{row['formula']}, candidate {row['candidate']}: {row['dft']['mae']:.3f}", fontsize=10)
    panels[0][0].set_ylabel("DOS (states/eV/atom)")
    panels[0][0].legend(frameon=False, fontsize=9, ncols=3, loc="upper center", columnspacing=1, handlelength=1.2)
    figure.tight_layout()
    figure.savefig(Path(path), dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:])
