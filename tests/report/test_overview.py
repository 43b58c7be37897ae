"""What the page says of each target, without a browser."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.report.content import content_of
from aiida_dosmatgen.report.overview import CLOSE, best_of
from aiida_dosmatgen.tools.campaign import results_of
from aiida_dosmatgen.tools.ranking import format_ranking


@pytest.fixture
def crystals(synthetic):
    """Four crystals that pass the screening."""
    return synthetic.made_up(np.random.default_rng(3), 4, largest=3)


@pytest.fixture
def campaign(make_campaign, crystals):
    """A campaign of which two crystals were validated."""
    return make_campaign(n_candidates=4, n_ranked=4, n_validated=2, n_failed=1, crystals=crystals)


def rows_of(campaign):
    """Return the overview as the page has it."""
    return content_of(campaign)["overview"]


def test_the_nearest_by_dft_is_the_best(campaign):
    results = results_of(campaign)
    (row,) = rows_of(campaign)
    distances = [crystal.row["dft"]["mae"] for crystal in results.crystals if crystal.validated]
    assert row["distance"] == min(distances)
    best = results.crystals[row["place"]]
    assert best.row["dft"]["mae"] == min(distances) and best == best_of(results)["target"]
    assert row["met"] == ("yes" if row["distance"] <= CLOSE else "no")
    assert row["known"] is None  # there is nothing to compare it with


def test_without_a_validation_it_is_the_first_of_the_ranking(make_campaign, crystals):
    (row,) = rows_of(make_campaign(n_candidates=4, n_ranked=4, n_validated=0, n_failed=0, crystals=crystals))
    assert (row["place"], row["validated"], row["distance"], row["met"]) == (0, False, None, "")


def train(synthetic, shared_nodes, training_set):
    """Let a stored checkpoint come from a training set."""
    graph = synthetic.Graph(shared_nodes, 9)
    graph.process(
        "calcjob",
        "TrainCalculation",
        "aiida.calculations:dosmatgen.train",
        {"dataset": -training_set.pk},
        {"checkpoint": -shared_nodes["checkpoint"].pk},
    )
    graph.store()


def bare(crystals, source, name):
    """Return crystals without columns but those that name them."""
    n = len(crystals)
    return crystals.replace(crystal_columns={"source": np.array([source] * n), "id": np.array([name] * n)}, atom_columns={})


@pytest.mark.parametrize("learnt", [True, False])
def test_it_says_that_the_best_is_one_of_the_training_set(synthetic, shared_nodes, campaign, learnt):
    best = results_of(campaign).crystals[rows_of(campaign)[0]["place"]].crystal
    strained = bare(best.replace(lattices=1.02 * best.lattices), "aflow", "the very one")
    others = bare(synthetic.made_up(np.random.default_rng(8), 5, largest=3), "aflow", "another")
    known = CrystalSet.concatenate([others, strained] if learnt else [others])
    labels = {"dos": np.ones((len(known.numbers), 400))}
    node = LabelledCrystalSetData(known.with_columns({"complete_below": np.full(len(known), 5.0)}, labels)).store()
    results, unlinked = results_of(campaign), content_of(campaign)["overview"][0]
    assert unlinked["known"] is None  # a set that nothing was learnt from says nothing
    train(synthetic, shared_nodes, node)
    (row,) = rows_of(campaign)
    assert row["known"] == ("in the training set: aflow the very one" if learnt else "")
    assert row["place"] == results.crystals.index(best_of(results)["target"])


def test_it_says_that_the_best_is_one_of_the_known_crystals(synthetic, shared_nodes, campaign):
    best = results_of(campaign).crystals[rows_of(campaign)[0]["place"]].crystal
    known = CrystalSetData(best.replace(crystal_columns={}, atom_columns={})).store()
    graph = synthetic.Graph(shared_nodes, 5)
    graph.link(-known.pk, -campaign.pk, "candidates__known", LinkType.INPUT_WORK)
    graph.store()
    (row,) = rows_of(orm.load_node(campaign.uuid))
    assert row["known"] == "in the known crystals, crystal 0"


def test_checkpoints_say_what_they_learnt_from_where_the_set_is_not(synthetic, shared_nodes, make_campaign, crystals, tmp_path):
    def of(seed, known):
        learnt = TrainingCrystals.of(bare(known, "", "")).to_bytes()
        path = synthetic._checkpoint(tmp_path / "learnt.safetensors", "denoiser", learnt)
        shared_nodes["checkpoint"] = CheckpointData(path).store()
        return make_campaign(seed=seed, n_candidates=4, n_ranked=4, n_validated=2, n_failed=1, crystals=crystals)

    unknown = of(1, synthetic.made_up(np.random.default_rng(8), 5, largest=3))
    assert rows_of(unknown)[0]["known"] == "" and "learnt from" not in format_ranking(unknown)
    known = of(2, crystals.replace(lattices=1.03 * crystals.lattices))
    assert rows_of(known)[0]["known"] == "one of the crystals that the denoiser learnt from, by its fingerprint"
    (line,) = [line for line in format_ranking(known).splitlines() if "learnt from" in line]
    numbers = [str(crystal.row["candidate"]) for crystal in results_of(known).crystals]
    assert line == f"  candidates that the denoiser learnt from, by their fingerprints: {', '.join(numbers)}"
