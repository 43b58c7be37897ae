"""Jobs that share the candidates of a work chain."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.workflows.candidates import CandidatesWorkChain

from .jobs import job


@pytest.fixture
def build(codes, models, target_node):
    def _build(**kwargs):
        given = {"target": target_node, **models, "protocol": "fast", **kwargs}
        return CandidatesWorkChain.get_builder_from_protocol(codes["dosmatgen"], **given)

    return _build


def test_jobs_that_aiida_failed_with_are_submitted_again(build, process, crystals, monkeypatch):
    """Their work chain excepted, or lost its outputs when the daemon was killed; one that crashed is not repeated."""
    submitted = []

    def submit(self, cls, metadata, **inputs):
        submitted.append(metadata["call_link_label"])
        return job(cls.__name__, 0)

    monkeypatch.setattr(CandidatesWorkChain, "submit", submit)
    chain = process(build(n_candidates=9, n_jobs=3))
    chain.ctx.reference_energies = orm.Dict()
    assert chain.is_sample_left()
    chain.run_sample()
    assert submitted == ["sample_0", "sample_1", "sample_2"]
    whole = CrystalSetData(crystals.with_columns(crystal={"candidate": np.array([4, 5, 6])}))
    lost = orm.WorkChainNode().store()
    whole.store().base.links.add_incoming(lost, link_type=LinkType.RETURN, link_label="crystals")
    lost.set_process_state("finished")
    lost.set_exit_status(11)
    excepted = orm.WorkChainNode().store()
    excepted.set_process_state("excepted")
    excepted.set_exception("aio_pika.exceptions.ConnectionClosed")
    chain.ctx.update(sample_0=lost, sample_1=job("SampleBaseWorkChain", 0, crystals=whole), sample_2=excepted)
    assert chain.inspect_sample() is None and chain.is_sample_left() and "sampled" not in chain.outputs
    chain.run_sample()
    assert submitted[3:] == ["sample_0", "sample_2"]
    excepted.set_exception("ValueError: the structure has vacancies")
    chain.ctx.update(sample_0=chain.ctx.sample_1, sample_2=excepted)
    assert chain.inspect_sample() is None and not chain.is_sample_left()
    assert list(chain.shares()) == ["_0", "_1"]


def test_jobs_share_the_candidates(build, process):
    def shares(**kwargs):
        return list(process(build(**kwargs)).shares().items())

    assert shares(n_candidates=10) == [("", (0, 10))]
    assert shares(n_candidates=10, n_jobs=3) == [("_0", (0, 3)), ("_1", (3, 6)), ("_2", (6, 10))]
    assert [share for _, share in shares(n_candidates=2, n_jobs=9)] == [(0, 1), (1, 2)]
    with pytest.raises(ValueError, match="n_jobs is 0"):
        build(n_jobs=0)


def test_the_share_of_a_lost_job_is_left_out(build, process, crystals):
    numbered = crystals.with_columns(crystal={"candidate": np.array([4, 5, 6])})
    chain = process(build(n_candidates=12, n_jobs=3))
    chain.ctx.sample_0 = job("SampleBaseWorkChain", 301, "killed")
    chain.ctx.sample_1 = job("SampleBaseWorkChain", 0, crystals=CrystalSetData(numbered[[2, 0]]))
    chain.ctx.sample_2 = job("SampleBaseWorkChain", 410, "stopped", crystals=CrystalSetData(numbered[[1]]))
    assert chain.inspect_sample() is None
    assert list(chain.shares()) == ["_1", "_2"]
    assert chain.outputs["sampled"].crystals == numbered
    chain.ctx.relax_1 = chain.ctx.relax_2 = job("RelaxBaseWorkChain", 301, "the disk is full")
    exit_code = chain.inspect_relax()
    assert exit_code.status == 302 and exit_code.message.count("the disk is full") == 1
