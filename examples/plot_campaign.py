"""Plot target, predicted and DFT curves of a campaign's best crystals: ``verdi run examples/plot_campaign.py PK picture.png``.

Needs matplotlib, which pymatgen brings along.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from aiida.orm import load_node


def main(pk: str, path: str) -> None:
    """Draw one panel for each validated crystal of the first target, best first."""
    campaign = load_node(pk)
    name, rows = next(iter(campaign.tools.ranking().items()))
    rows = [row for row in rows if row["status"] == "validated"]
    figure, panels = plt.subplots(1, len(rows), figsize=(3.6 * len(rows), 3.0), sharey=True, squeeze=False)
    for panel, row in zip(panels[0], rows, strict=True):
        campaign.tools.plot_dos(name, row["candidate"], panel)
        panel.set(xlabel="energy (eV)", ylabel="", ylim=(0, 1.3 * panel.get_ylim()[1]))
        panel.set_title(f"{row['formula']}, candidate {row['candidate']}: {row['dft']['mae']:.3f}", fontsize=10)
        panel.get_legend().remove()
    panels[0][0].set_ylabel("DOS (states/eV/atom)")
    panels[0][0].legend(frameon=False, fontsize=9, ncols=3, loc="upper center", columnspacing=1, handlelength=1.2)
    figure.tight_layout()
    figure.savefig(Path(path), dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:])
