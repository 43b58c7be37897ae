"""The density of states of a crystal: the work chain beside its twin without AiiDA, with the real pw.x and projwfc.x."""

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.manage.caching import disable_caching, enable_caching
from aiida.plugins import WorkflowFactory
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_quantumespresso.common.types import ElectronicType, SpinType
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dft.orientation import oriented
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_upf
from aiida_dosmatgen.data.conversion import structure_of
from aiida_dosmatgen.engine.labelling.label import label_crystal
from aiida_dosmatgen.setup import ensure_debian_family
from aiida_dosmatgen.workflows import dos as dos_module
from aiida_dosmatgen.workflows import retries
from aiida_dosmatgen.workflows.dos import DosWorkChain

from .conftest import FAMILY, QUICK, SERIAL, runs
from .test_learn import add_called

DEBIAN = Path("/usr/share/espresso/pseudo")
IRON = {"cutoff": 28, "density_factor": 9, "scf_distance": 0.6, "bands_distance": 0.6, "points_per_atom": 0, "least_high": 1.0}


@pytest.fixture
def compute(real_codes):
    """Return a function that computes a crystal, and returns the work chain's node."""

    def run(crystal, recipe=QUICK, pseudos=None, codes=None, **inputs):
        codes = {**real_codes, **(codes or {})}
        builder = DosWorkChain.get_builder_from_protocol(
            codes["pw"],
            codes["projwfc"],
            structure_of(crystal) if isinstance(crystal, CrystalSet) else crystal,
            "fast",
            {"pseudo_family": ensure_debian_family().label, "recipe": recipe},
            SERIAL,
            ["Si"],
        )
        if pseudos:
            builder.pseudos = {symbol: UpfData(path) for symbol, path in pseudos.items()}
        for name, value in inputs.items():
            builder[name] = value
        return run_get_node(builder)[1]

    return run


@pytest.fixture(scope="module")
def kept():
    """What several tests look at, by its name."""
    return {}


@pytest.fixture
def plain(compute, kept):
    """The work chain of silicon as it is, which runs once."""
    if "silicon" not in kept:
        with disable_caching():
            kept["silicon"] = compute(silicon()).uuid
    return orm.load_node(kept["silicon"])


def silicon(strain=0.0):
    """A strained and displaced crystal if asked for: no symmetry, so that no mistake cancels."""
    atoms = bulk("Si")
    if strain:
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain * np.array([[0.3, -0.9, 0.4], [-0.9, -1.2, 0.7], [0.4, 0.7, 0.8]])))
        atoms.set_scaled_positions([[0.02, 0, 0], [0.27, 0.24, 0.26]])
    return CrystalSet.from_ase(atoms)


def twin(crystal, recipe, files):
    return label_crystal(crystal, Recipe(**recipe), {s: read_upf(path) for s, path in files.items()}, dtype=np.float32)


SILICON = {"Si": DEBIAN / "Si.pbe-rrkj.UPF"}  # of the family, too


def test_silicon_is_that_of_the_executable(plain):
    _is_that_of_the_executable(plain, silicon())


@pytest.mark.slow
def test_a_crystal_without_symmetry_is_that_of_the_executable(compute):
    """With a file that is given."""
    strained = silicon(0.05)
    _is_that_of_the_executable(compute(strained, pseudos=SILICON), strained)


def _is_that_of_the_executable(node, crystal):
    assert node.is_finished_ok, node.exit_message
    # at the origin that the work chain gives it: off it the forces are others by what this low cutoff leaves
    _same(node.outputs.dos.crystals, twin(oriented(crystal), QUICK, SILICON))
    assert [len(runs(node, step)) for step in ("scf", "bands", "projwfc")] == [1, 1, 1]


@pytest.mark.slow
def test_iron_is_that_of_the_executable(compute):
    crystal, files = CrystalSet.from_ase(bulk("Fe")), {"Fe": DEBIAN / "Fe.pbe-nd-rrkjus.UPF"}
    node = compute(crystal, IRON, files)
    assert node.is_finished_ok, node.exit_message
    got = node.outputs.dos.crystals
    assert got.crystal_columns["magnetization"][0, 0] > 1.5
    up, down = got.atom_columns["dos"][0].sum(1)
    assert np.abs(up - down).max() > 0.5
    _same(got, twin(crystal, IRON, files))


def _same(got, expected):
    np.testing.assert_allclose(got.atom_columns["dos"], expected.atom_columns["dos"], atol=1e-6)
    for name in ("energy", "zero", "gap", "low", "high", "n_electrons", "projected", "magnetization", "fallback"):
        np.testing.assert_allclose(got.crystal_columns[name], expected.crystal_columns[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(got.atom_columns["forces"], expected.atom_columns["forces"], atol=1e-4)
    np.testing.assert_allclose(got.atom_columns["moment"], expected.atom_columns["moment"], atol=5e-3)
    sums, curves = curves_of(got, 0, "projections"), curves_of(got)
    occupied = sums.energies <= 0
    assert (sums.total <= curves.total + 1e-3)[occupied].all()
    share = sums.total[occupied].sum() / curves.total[occupied].sum()
    assert share == pytest.approx(got.crystal_columns["projected"][0], abs=0.02)


# --- what goes wrong, made to happen with the real executables ----------------------------------------------------------------


@pytest.mark.slow
def test_what_does_not_converge_is_tried_in_other_ways(compute, monkeypatch):
    monkeypatch.setattr(dos_module, "FALLBACKS", ({"electron_maxstep": 1}, {}))
    node = compute(silicon())
    assert node.is_finished_ok, node.exit_message
    first, second = runs(node, "scf")
    assert first.exit_status == 410 and second.is_finished_ok  # electronic convergence not reached
    assert node.outputs.dos.crystals.crystal_columns["fallback"][0] == 1
    monkeypatch.setattr(dos_module, "FALLBACKS", ({"electron_maxstep": 1}, {"electron_maxstep": 2}))
    node = compute(silicon())
    assert node.exit_status == DosWorkChain.exit_codes.ERROR_NOT_CONVERGED.status
    assert "in any of 2 ways" in node.exit_message
    assert len(runs(node, "scf")) == 2 and not runs(node, "bands")


@pytest.fixture
def disturbed(compute, killed, kept):
    """The work chain of silicon whose first bands do not reach far enough, and whose executables are killed once each."""
    if "disturbed" not in kept:
        codes = {name: killed(name, times=1) for name in ("pw", "projwfc")}
        kept["disturbed"] = compute(silicon(), {**QUICK, "high": 40.0, "least_high": 15.0}, codes=codes).uuid
    node = orm.load_node(kept["disturbed"])
    assert node.is_finished_ok, node.exit_message
    return node


@pytest.mark.slow
def test_bands_that_do_not_reach_far_enough_become_more(disturbed):
    node = disturbed
    first, second = runs(node, "bands")
    assert second.inputs.parameters["SYSTEM"]["nbnd"] > first.inputs.parameters["SYSTEM"]["nbnd"]
    assert [job.is_finished_ok for job in runs(node, "scf")] == [False, True]  # the killed one, and no other for more bands
    assert node.outputs.dos.crystals.crystal_columns["high"][0] > 15


@pytest.mark.slow
def test_a_nearly_symmetric_crystal_is_computed_without_symmetry(compute):
    """pw.x finds 48 operations in a cell that is off by 1e-7, and projwfc.x stops at the first of them."""
    node = compute(silicon(1e-7).replace(fractional=silicon().fractional))
    assert node.is_finished_ok, node.exit_message
    first, second = runs(node, "projwfc")
    assert "d_matrix" in first.outputs.retrieved.base.repository.get_object_content("aiida.out")
    assert not first.is_finished_ok and second.is_finished_ok
    assert [job.inputs.parameters["SYSTEM"].get("nosym", False) for job in runs(node, "bands")] == [False, True]


@pytest.mark.slow
def test_a_killed_run_is_run_again(disturbed):
    assert [job.is_finished_ok for job in runs(disturbed, "scf")] == [False, True]
    assert [job.is_finished_ok for job in runs(disturbed, "projwfc")] == [False, True, True]  # the last one of more bands


def test_what_is_always_killed_is_given_up_with_the_reason(compute, killed, monkeypatch):
    """After two runs here; the number itself is that of other tests, in which nothing runs."""
    monkeypatch.setattr(retries, "LIMIT", 2)
    node = compute(silicon(), codes={"pw": killed("pw", times=1000)})
    assert node.exit_status == DosWorkChain.exit_codes.ERROR_SCF_FAILED.status
    assert len(runs(node, "scf")) == 2
    assert node.outputs.failure["reason"] == node.exit_message


def test_what_crashes_is_not_repeated(compute, real_codes, tmp_path):
    script = tmp_path / "pw-crashes"
    script.write_text("#!/bin/bash\nsleep 60 < /dev/null &\nkill -SEGV $!\nwait $!\n")
    script.chmod(0o755)
    node = compute(silicon(), codes={"pw": real_codes.make("pw", f"crashes-{tmp_path.name}", script)})
    assert node.exit_status == DosWorkChain.exit_codes.ERROR_SCF_FAILED.status
    assert len(runs(node, "scf")) == 1


@pytest.mark.slow
def test_what_the_cache_has_lost_is_computed_again(compute, plain):
    """The work directory of a cached self-consistent run was emptied, so that other bands cannot start from it."""
    first = plain
    with enable_caching():
        equal = compute(silicon())
        other = compute(silicon(), {**QUICK, "bands_distance": 0.6})
    jobs = [job for step in ("scf", "bands", "projwfc") for job in runs(equal, step)]
    assert len(jobs) == 3 and all(job.base.caching.is_created_from_cache for job in jobs)
    np.testing.assert_array_equal(
        equal.outputs.dos.crystals.atom_columns["dos"], first.outputs.dos.crystals.atom_columns["dos"]
    )
    assert other.is_finished_ok, other.exit_message
    assert [job.base.caching.is_created_from_cache for job in runs(other, "scf")] == [True, False]
    assert [job.is_finished_ok for job in runs(other, "bands")] == [False, True]
    assert runs(first, "scf")[0].base.caching.is_valid_cache  # it is somebody else's


# --- before anything runs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def build(codes, pseudo_family):
    def _build(atoms=None, recipe=None, **kwargs):
        atoms = bulk("SiC", "zincblende", a=4.36) if atoms is None else atoms
        structure = atoms if isinstance(atoms, orm.StructureData) else orm.StructureData(ase=atoms)
        overrides = {"pseudo_family": FAMILY, "recipe": recipe or {}, **kwargs.pop("overrides", {})}
        arguments = {"protocol": "fast", "overrides": overrides, **kwargs}
        return DosWorkChain.get_builder_from_protocol(codes["pw"], codes["projwfc"], structure, **arguments)

    return _build


def test_protocols_are_recipes(build, process):
    recipes = {
        protocol: Recipe.model_validate(process(build(protocol=protocol)).inputs.recipe.get_dict())
        for protocol in ("fast", "balanced", "stringent")
    }
    assert recipes["fast"] == Recipe(density_factor=8, symmetric_mesh=True)  # the family has an ultrasoft file of carbon
    meshes = [recipe.bands_mesh(bulk("Si").cell.array, 2)[0] for recipe in recipes.values()]
    assert meshes == sorted(set(meshes))


@pytest.mark.parametrize("protocol", ["balanced", "stringent"])
def test_protocols_mean_what_they_mean_in_aiida_quantumespresso(build, process, protocol):
    recipe = process(build(protocol=protocol)).inputs.recipe
    scf = WorkflowFactory("quantumespresso.pw.base").get_protocol_inputs(protocol)
    bands = WorkflowFactory("quantumespresso.pdos").get_protocol_inputs(protocol)["nscf"]
    assert (recipe["scf_distance"], recipe["bands_distance"]) == (scf["kpoints_distance"], bands["kpoints_distance"])
    assert recipe["degauss"] == scf["pw"]["parameters"]["SYSTEM"]["degauss"]


def test_spin_is_asked_for_as_in_aiida_quantumespresso(build, process):
    def moments(atoms, **given):
        return process(build(atoms, **given)).inputs.recipe["moments"]

    silicon, rocksalt = bulk("Si"), bulk("SiC", "rocksalt", a=4.0)
    assert "Si" not in moments(silicon)
    assert moments(silicon, spin_type=SpinType.NONE) == {}
    assert moments(silicon, spin_type=SpinType.COLLINEAR)["Si"] == 0.1
    given = {"spin_type": SpinType.COLLINEAR, "initial_magnetic_moments": {"Si": 1.5}}
    assert moments(rocksalt, **given) == {"Si": 1.5}
    chain = process(build(rocksalt, **given))
    assert chain.setup() is None
    system = chain._scf()[1].pw.parameters["SYSTEM"]
    assert (system["nspin"], system["starting_magnetization"]) == (2, {"C": 0.1 / 4, "Si": 1.5 / 4})
    two = orm.StructureData(cell=silicon.cell.array.tolist())
    for name, position in (("Si1", [0, 0, 0]), ("Si2", [1.3575, 1.3575, 1.3575])):
        two.append_atom(symbols="Si", name=name, position=position)
    assert moments(two, initial_magnetic_moments={"Si1": 1, "Si2": 1}) == {"Si": 1.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spin_type": SpinType.SPIN_ORBIT}, "spin_type is spin_orbit; .* collinear"),
        ({"spin_type": SpinType.NONE, "initial_magnetic_moments": {"Si": 1}}, "do not go with spin_type none"),
        ({"initial_magnetic_moments": {"Si": 1, "Si1": 2}}, "Si has several"),
        ({"electronic_type": ElectronicType.INSULATOR}, "electronic_type is insulator"),
    ],
)
def test_spin_that_the_recipe_cannot_have_is_refused(build, given, message):
    structure = orm.StructureData(cell=bulk("Si").cell.array.tolist())
    structure.append_atom(symbols="Si", name="Si1", position=[0, 0, 0])
    with pytest.raises(ValueError, match=message):
        build(structure, **given)


def test_the_density_factor_is_that_of_the_files(build, process):
    def factor(*args, **kwargs):
        return process(build(*args, **kwargs)).inputs.recipe["density_factor"]

    assert factor(bulk("Si")) == 4
    assert factor() == 8
    assert factor(recipe={"density_factor": 12}) == 12


def test_inputs_of_pw(build, process):
    chain = process(build(recipe={"functional": {"vdw_corr": "grimme-d3"}, "hubbard": {"C": 2.0}, "moments": {"Si": 2.0}}))
    assert chain.setup() is None
    _, inputs = chain._scf()
    system = inputs.pw.parameters["SYSTEM"]
    assert system["vdw_corr"] == "grimme-d3"
    assert (system["lda_plus_u"], system["Hubbard_U"]) == (True, {"C": 2.0})
    assert (system["nspin"], system["starting_magnetization"]) == (2, {"C": 0.1 / 4, "Si": 2.0 / 4})
    assert inputs.handler_overrides.get_dict()["handle_electronic_convergence_not_reached"] == {"enabled": False}
    assert inputs.pw.metadata.options.max_wallclock_seconds == 43200
    assert inputs.kpoints.get_kpoints_mesh()[0] == [5, 5, 5]
    assert set(inputs.pw.pseudos) == {"Si", "C"}


def test_kinds_are_renamed_by_their_symbols(build, process):
    structure = orm.StructureData(cell=bulk("Si").cell.array.tolist())
    for name, position in (("SiA", [0, 0, 0]), ("SiB", [1.3575, 1.3575, 1.3575])):
        structure.append_atom(symbols="Si", name=name, position=position)
    chain = process(build(structure))
    assert chain.setup() is None
    assert chain.ctx.structure.get_kind_names() == ["Si"] and len(chain.ctx.structure.sites) == 2
    assert set(chain._scf()[1].pw.pseudos) == {"Si"}


def test_a_run_that_was_submitted_as_the_daemon_died_is_waited_for(build, process):
    chain = process(build())
    assert chain.setup() is None
    submitted = orm.WorkChainNode().store()
    submitted.set_process_state("running")
    submitted.set_checkpoint("where it is")
    add_called(chain.node, submitted, "scf_1")
    job = orm.CalcJobNode().store()
    job.set_process_state("waiting")
    job.set_checkpoint("where it is")
    add_called(chain.node, job, "projwfc_2", LinkType.CALL_CALC)
    count = orm.QueryBuilder().append(orm.ProcessNode).count
    before = count()
    assert chain.run_step()["scf"].uuid == submitted.uuid and count() == before
    assert chain.submitted("projwfc_2").uuid == job.uuid and chain.submitted("scf_2") is None


def test_what_cannot_be_computed_is_refused_before_pw_runs(build, process):
    exit_codes = DosWorkChain.exit_codes
    builder = build()
    builder.structure = orm.StructureData(ase=bulk("GaAs", "zincblende", a=5.65))
    exit_code = process(builder).setup()
    assert exit_code.status == exit_codes.ERROR_NO_PSEUDOPOTENTIAL.status
    assert exit_code.message == "pseudopotentials: no pseudopotential for As Ga; there are some for C Si"

    vacancy = orm.StructureData(cell=bulk("Si").cell.array.tolist())
    vacancy.append_atom(symbols="Si", weights=0.8, position=[0, 0, 0])
    with pytest.raises(ValueError, match="is an alloy or has vacancies"):
        process(build(vacancy))


def test_a_pseudopotential_that_projects_nothing_is_refused(build, process, tmp_path):
    path = tmp_path / "Si.upf"
    path.write_text('<UPF version="2.0.1">\n<PP_HEADER element="Si" z_valence="4.0" number_of_wfc="0"/>\n</UPF>\n')
    builder = build(bulk("Si"))
    builder.pseudos = {"Si": UpfData(path)}
    exit_code = process(builder).setup()
    assert exit_code.status == DosWorkChain.exit_codes.ERROR_NO_PSEUDOPOTENTIAL.status
    assert (
        exit_code.message
        == "pseudopotentials: the pseudopotential of Si has no atomic wavefunctions, so that nothing can be projected"
    )


def test_a_magnetic_element_without_spin_is_said(build, process, tmp_path, caplog):
    path = tmp_path / "Fe.upf"
    path.write_text('<UPF version="2.0.1">\n<PP_HEADER element="Fe" z_valence="16.0" number_of_wfc="3"/>\n</UPF>\n')
    builder = build(recipe={"moments": {"Mn": 5.0}})
    builder.structure, builder.pseudos = orm.StructureData(ase=bulk("Fe")), {"Fe": UpfData(path)}
    chain = process(builder)
    assert chain.setup() is None
    assert "nspin" not in chain._scf()[1].pw.parameters["SYSTEM"]
    assert "Fe: computed without spin" in caplog.text
    assert Recipe(moments={"Mn": 5.0}).unpolarised(["Fe", "Mn"]) == [] == Recipe().unpolarised(["Fe"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pw": {"max_iteration": 1}}, "unknown key 'pw.max_iteration'.*'max_iterations'"),
        ({"recipe": {"cut_off": 1}}, "recipe: .*cut_off"),
        ({"recipe": {"cutoff": -1}}, "recipe: .*cutoff"),
        ({"pseudo_family": "none/such"}, "no pseudopotential family 'none/such'"),
    ],
)
def test_bad_overrides_are_refused(build, overrides, message):
    with pytest.raises(ValueError, match=message):
        build(overrides=overrides)


@pytest.mark.slow
def test_symmetry_is_seen_however_a_crystal_lies(compute, plain):
    atoms = bulk("Si")
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    turned = compute(CrystalSet.from_ase([atoms]))
    first, second = (runs(node, "bands")[0].outputs.output_parameters["number_of_k_points"] for node in (plain, turned))
    assert first == second
    one, other = (curves_of(node.outputs.dos.crystals) for node in (plain, turned))
    np.testing.assert_allclose(one.values, other.values, atol=1e-4)
