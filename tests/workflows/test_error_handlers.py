"""What a campaign does with a crystal that DFT cannot compute, with the real executables."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from ase import Atoms
from ase.build import bulk

from aiida_dosmatgen.calculations.functions import screen
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.setup import ensure_debian_family

from .conftest import QUICK, SERIAL
from .windowed import CampaignOfGivenCandidates


@pytest.fixture
def candidates(aiida_profile):
    """What a finished candidates work chain leaves: silicon in three crystals; two atoms of the second lie at one place."""
    rng = np.random.default_rng(1)
    every = [
        bulk("Si", "diamond", a=5.43),
        Atoms("Si2", scaled_positions=[[0, 0, 0], [0, 0, 1e-6]], cell=[3, 3, 3], pbc=True),
        bulk("Si", "sc", a=2.55),
    ]
    n_atoms = [len(atoms) for atoms in every]
    crystals = CrystalSet(
        n_atoms,
        np.concatenate([atoms.numbers for atoms in every]),
        np.concatenate([atoms.get_scaled_positions() for atoms in every]),
        np.stack([atoms.cell.array for atoms in every]),
        {
            "candidate": np.array([3, 5, 8]),
            "seed": np.array([1, 1, 1]),
            "energy": -5.1 * np.array(n_atoms),
            "status": np.array(["converged"] * 3),
        },
        {"predicted_dos": rng.uniform(size=(sum(n_atoms), DEFAULT_GRID.n)).astype(np.float32)},
    )
    result, node = screen.run_get_node(
        crystals=CrystalSetData(crystals),
        references=orm.Dict({"energies": {"Si": -5.0}}),
        criteria=orm.Dict({"min_contact": 0.0}),
    )
    assert node.is_finished_ok and result["crystals"].base.attributes.get("n_crystals") == 3, result["report"].get_dict()
    chain = orm.WorkChainNode()
    chain.set_process_label("CandidatesWorkChain")
    chain.set_process_state("finished")
    chain.set_exit_status(0)
    chain.store()
    for name in ("crystals", "report"):
        result[name].base.links.add_incoming(chain, LinkType.RETURN, name)
    chain.seal()
    return chain


@pytest.mark.slow
def test_a_campaign_goes_on_after_an_incurable_crystal_and_says_why(real_codes, candidates, models, codes):
    """Two atoms of the second crystal lie at one place, at which pw.x stops."""
    builder = CampaignOfGivenCandidates.get_builder_from_protocol(
        {**real_codes, "dosmatgen": codes["dosmatgen"]},
        {"silicon": DosTargetData(DosTarget(np.exp(-0.5 * (DEFAULT_GRID.points + 3) ** 2)[None]))},
        **models,
        protocol="fast",
        overrides={"validate": {"pseudo_family": ensure_debian_family().label, "recipe": QUICK}},
        dft_options=SERIAL,
        top_k=3,
        max_concurrent=2,
    )
    builder.given = orm.Str(candidates.uuid)
    node = run_get_node(builder)[1]
    assert node.is_finished_ok, node.exit_message
    rows = {row["candidate"]: row for row in node.outputs.ranking["targets"]["silicon"]}
    assert {candidate: row["status"] for candidate, row in rows.items()} == {3: "validated", 5: "failed", 8: "validated"}
    assert "overlap" in rows[5]["reason"]
