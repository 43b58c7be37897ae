"""From target densities of states to DFT-validated crystals: ``verdi run examples/submit_campaign.py``.

The campaign runs in AiiDA's daemon; this script submits it, waits, and prints the ranking. For another machine, or targets of
your own, change what stands here at the top.
"""

import sys
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent  # of this script: verdi run leaves only its name in __file__

# --- What is asked for -------------------------------------------------------------------------------------------------

# Files of target densities of states, by names of your choice: CSV (energy in eV relative to the highest occupied level, then
# one column in states/eV for each site), JSON or npz.
TARGETS = {"rocksalt_PbTe": HERE / "targets" / "rocksalt_PbTe.csv"}

# fast, balanced or stringent; see aiida_dosmatgen/workflows/protocols
PROTOCOL = "fast"
N_CANDIDATES = 64  # sampled for each target
TOP_K = 2  # of each target are validated by DFT
SEED = 1  # another seed gives other candidates

# --- With what ---------------------------------------------------------------------------------------------------------

# The label of a stored node, or the path of a file; for the force field also mace:NAME, a MACE foundation model.
CHECKPOINT = "dosmatgen-denoiser"
PREDICTOR = "dosmatgen-predictor"
FORCE_FIELD = "dosmatgen-forcefield"

# --- Where -------------------------------------------------------------------------------------------------------------

# Labels of codes, as verdi code list prints them. On a cluster: "pw@cluster" and so on.
CODES = {
    "dosmatgen": "dosmatgen@localhost",
    "pw": "pw@localhost",
    "projwfc": "projwfc@localhost",
}

# Options of the jobs of dosmatgen (one each to sample, relax and predict). On a cluster add "queue_name", "account", and
# "device": "cuda" on a GPU node.
OPTIONS = {
    "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
    "max_wallclock_seconds": 1800,
    "withmpi": False,
}
# Options of the jobs of Quantum ESPRESSO. Small cells on one machine run fastest serially, one job a core.
DFT_OPTIONS = {
    "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
    "max_wallclock_seconds": 1800,
    "withmpi": False,
}
MAX_CONCURRENT = 2  # validations at a time
RELAX_BY_DFT = False  # whether pw.x relaxes the candidates before it computes their DOS

# --- Everything else ---------------------------------------------------------------------------------------------------

# Takes precedence over the protocol, nested as the inputs are, for example another pseudopotential family, denser k-points, and
# only some elements:
# OVERRIDES = {
#     "validate": {"pseudo_family": "SSSP/1.3/PBE/efficiency", "recipe": {"cutoff": 60, "bands_distance": 0.2}},
#     "candidates": {"criteria": {"allowed_elements": ["Si", "C"], "max_formation_energy": 0.2}},
# }
OVERRIDES: dict = {}


def main() -> int:
    """Submit, wait, print; the exit status is 0 if the campaign ended well."""
    from aiida.common.exceptions import InvalidOperation, NotExistent, ValidationError
    from aiida.engine import submit

    from aiida_dosmatgen.tools import daemon, nodes
    from aiida_dosmatgen.tools.progress import wait
    from aiida_dosmatgen.tools.ranking import format_lineage, format_ranking
    from aiida_dosmatgen.workflows.campaign import CampaignWorkChain

    try:
        problem = daemon.problem()
        if problem:
            raise InvalidOperation(problem)
        builder = CampaignWorkChain.get_builder_from_protocol(
            codes=CODES,
            targets={name: nodes.target(path) for name, path in TARGETS.items()},
            checkpoint=nodes.checkpoint(CHECKPOINT),
            predictor=nodes.checkpoint(PREDICTOR),
            force_field=nodes.force_field(FORCE_FIELD),
            protocol=PROTOCOL,
            overrides=OVERRIDES,
            options=OPTIONS,
            dft_options=DFT_OPTIONS,
            seed=SEED,
            n_candidates=N_CANDIDATES,
            top_k=TOP_K,
            max_concurrent=MAX_CONCURRENT,
            relax=RELAX_BY_DFT,
        )
        campaign = submit(builder)
    except (InvalidOperation, NotExistent, ValidationError, ValueError) as exception:
        print(f"submit_campaign: {exception}")
        return 1

    print(f"Submitted CampaignWorkChain<{campaign.pk}>: {N_CANDIDATES} candidates each for {', '.join(TARGETS)}")
    later = f"verdi process status {campaign.pk}   verdi process report {campaign.pk}"
    if not wait(campaign, still_possible=daemon.problem):
        print(f"\nNo longer waiting; the campaign continues in the daemon. To look again:\n  {later}")
        print(f"Its ranking when it has ended:\n  print(load_node({campaign.pk}).tools.table())   in verdi shell")
        return 130
    if "ranking" not in campaign.outputs:
        print(f"CampaignWorkChain<{campaign.pk}> failed: {campaign.exit_message or campaign.exception}\n  {later}")
        return 1
    print("\n" + format_ranking(campaign))
    best = campaign.tools.best()
    if best is not None:
        print(f"\nLineage of the best one, candidate {best['candidate']} ({best['formula']}) for {best['target']}:")
        print(format_lineage(campaign.tools.lineage()))
    if not campaign.is_finished_ok:
        print(f"\nCampaignWorkChain<{campaign.pk}>: {campaign.exit_message}\n  {later}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
