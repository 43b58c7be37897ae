"""Data never runs code: archives, job files, checkpoints, structures, tables and YAML that try to, each with a marker file."""

import gzip
import html
import io
import json
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.manage import get_manager
from aiida.tools.archive import create_archive, import_archive

from aiida_dosmatgen import report
from aiida_dosmatgen.cmdline.main import main as command_line
from aiida_dosmatgen.core.crystal_files.structures import read_structures
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_files import read_curves
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import read_header
from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.core.labelled.importing import streams
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.trust import validate_trust
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.commands import importing as command_import
from aiida_dosmatgen.engine.commands import inspect
from aiida_dosmatgen.setup.settings import ComputerSettings
from tests.synthetic import make_campaign, shared_nodes, synthetic

__all__ = ["make_campaign", "shared_nodes", "synthetic"]

REFUSED = (ContentError, ValidationError)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """The file that code in data would write; the working directory is that of the data."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "marker"
    assert not (tmp_path / "marker").exists(), "code in data was run"


def test_the_bomb_goes_off_where_nothing_stops_it(tmp_path):
    """Else the other tests could not fail."""
    torch.save(Bomb(tmp_path / "marker"), tmp_path / "bomb.model")
    torch.load(tmp_path / "bomb.model", weights_only=False)
    assert (tmp_path / "marker").exists()


# --- job files ----------------------------------------------------------------------------------------------------------------

CALCULATORS = [
    ("builtins:open", {"file": "marker", "mode": "w"}),
    ("os:system", {"command": "touch marker"}),
    ("subprocess:Popen", {"args": ["touch", "marker"]}),
    ("pathlib:Path.touch", {"self": "marker"}),
    ("ase.calculators.vasp:Vasp", {"command": "touch marker"}),
    ("ase.calculators.calculator:os.system", {"command": "touch marker"}),
    ("ase.calculators.emt:os.system", {"command": "touch marker"}),
    ("hostile:make", {}),
    ("hostile", {}),
]


@pytest.mark.parametrize(("calculator", "arguments"), CALCULATORS, ids=[name for name, _ in CALCULATORS])
def test_calculators_of_a_job_file(marker, crystals, capsys, calculator, arguments):
    crystals.save("crystals.npz")
    (marker.parent / "hostile.py").write_text("open('marker', 'w')\nmake = print\n")
    sys.path.insert(0, str(marker.parent))
    try:
        field = {"calculator": calculator, "arguments": arguments}
        job = {"kind": "relax", "crystals": "crystals.npz", "force_field": field}
        (marker.parent / "job.json").write_text(json.dumps(job))
        assert main(["relax", "job.json"]) == 2
    finally:
        sys.path.remove(str(marker.parent))
    assert "entry point" in capsys.readouterr().err


def test_the_model_file_of_a_job_file_that_says_its_own_hash(marker, crystals, capsys):
    crystals.save("crystals.npz")
    torch.save(Bomb(marker), "bomb.model")
    sha256 = sha256_of(marker.parent / "bomb.model")
    job = {"kind": "relax", "crystals": "crystals.npz", "force_field": {"file": "bomb.model", "sha256": sha256}}
    (marker.parent / "job.json").write_text(json.dumps(job))
    assert main(["relax", "job.json"]) == 2
    assert f"--trust {sha256}" in capsys.readouterr().err
    assert main(["relax", "job.json", "--trust", "0" * 64]) == 2


@pytest.mark.parametrize("name", ["pw_command", "projwfc_command"])
def test_the_programs_of_a_job_file(marker, crystals, capsys, name):
    crystals.save("crystals.npz")
    job = {"kind": "label", "crystals": "crystals.npz", "settings": {name: ["touch", str(marker)]}}
    (marker.parent / "job.json").write_text(json.dumps(job))
    assert main(["label", "job.json"]) == 2
    assert f"the job would run touch {marker}" in capsys.readouterr().err


# --- archives of AiiDA --------------------------------------------------------------------------------------------------------


@pytest.fixture
def profile(aiida_config, aiida_profile_factory, request):
    """Return a function that makes an empty profile of a name."""
    return lambda name: aiida_profile_factory(aiida_config, name=f"{name}-{request.node.name}")


@pytest.fixture
def sent(profile, marker):
    """Return a function that stores a node in a colleague's profile, and returns an archive with it."""

    def send(make):
        with profile("colleague"):
            create_archive([make()], filename=marker.parent / "hostile.aiida")
        return marker.parent / "hostile.aiida"

    return send


def test_a_calculator_of_an_archive(profile, sent, marker, monkeypatch):
    def make():
        node = ForceFieldData.from_calculator("ase.calculators.emt:EMT", file=str(marker), mode="w")
        node.base.attributes.set("name", "builtins:open")
        monkeypatch.setattr(ForceFieldData, "_validate", lambda self: True)  # a colleague's own version
        node.store()
        monkeypatch.undo()
        return node

    archive = sent(make)
    with profile("mine"):
        import_archive(archive)
        (node,) = orm.QueryBuilder().append(ForceFieldData).all(flat=True)
        assert node.name == "builtins:open"
        assert "'builtins:open' is neither the name of an entry point" in validate_trust(node, None)
        with pytest.raises(ValueError, match="neither the name of an entry point"):
            node.job_section()


def test_a_model_file_of_an_archive_that_says_it_is_trusted(profile, sent, marker):
    """Neither a colleague's trust counts, nor what earlier versions wrote into extras, which an archive can forge."""
    torch.save(Bomb(marker), "bomb.model")

    def make():
        return ForceFieldData.from_file("bomb.model").store().trust(sha256_of(marker.parent / "bomb.model"))

    archive = sent(make)
    with profile("mine"):
        import_archive(archive)
        (node,) = orm.QueryBuilder().append(ForceFieldData).all(flat=True)
        node.base.extras.set("dosmatgen_trusted_in", [get_manager().get_profile().uuid])
        assert not node.is_trusted and "forcefield trust" in validate_trust(node, None)
        assert node.trust(node.sha256).is_trusted


# --- files --------------------------------------------------------------------------------------------------------------------


def test_checkpoints(marker):
    torch.save(Bomb(marker), "pickle.safetensors")
    header = {
        "format": "dosmatgen-checkpoint", "version": 2, "kind": "os:system", "elements": ["Si"], "sigma": 0.3,
        "architecture": {"__class__": "touch marker"}, "grid": {"emin": -10.0, "emax": 10.0, "n": 400}, "training": {},
        "metrics": {}, "engine_version": "0",
    }  # fmt: skip
    text = json.dumps({"__metadata__": {"dosmatgen": json.dumps(header)}}).encode()
    (marker.parent / "kind.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    for name in ("pickle.safetensors", "kind.safetensors"):
        for read in (read_header, load_model):
            with pytest.raises(ContentError):
                read(marker.parent / name)


def test_arrays_with_pickled_objects(marker):
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(marker)
    np.savez(
        "hostile.npz", **{"__header__": np.array(json.dumps({"format": "dosmatgen-crystals", "version": 1}))}, n_atoms=bomb
    )
    for read in (CrystalSet.load, DosTarget.load, CrystalSetData.from_file, lambda path: inspect.write(str(path), False)):
        with pytest.raises(REFUSED):
            read(marker.parent / "hostile.npz")


READERS = {
    "inspect": lambda path: inspect.write(str(path), False),
    "crystals": CrystalSetData.from_file,
    "labelled crystals": LabelledCrystalSetData.from_file,
    "checkpoint": CheckpointData.from_file,
    "target": lambda path: read_curves(path),
    "set": lambda path: command_import.write([path], path.parent / "imported.npz"),
}


@pytest.mark.parametrize(
    "name", ["bomb.pt", "bomb.pth", "bomb.ckpt", "bomb.model", "bomb.npy", "bomb.npz", "bomb.pkl", "bomb.csv"]
)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_pickles_under_any_name(marker, name, read):
    if name.endswith(".npy"):
        array = np.empty(1, dtype=object)
        array[0] = Bomb(marker)
        np.save(marker.parent / name, array)
    elif name.endswith((".pt", ".pth", ".ckpt", ".model")):
        torch.save(Bomb(marker), marker.parent / name)
    else:
        (marker.parent / name).write_bytes(pickle.dumps(Bomb(marker)))
    if read is READERS["inspect"] and name.endswith((".pt", ".pth", ".ckpt", ".model")):
        read(marker.parent / name)  # it says that this is a pickle, and does not open it
        return
    with pytest.raises(REFUSED) as refused:
        read(marker.parent / name)
    assert len(str(refused.value).splitlines()) == 1


def zip_bomb(path):
    np.savez_compressed(
        path, __header__=np.array(json.dumps({"format": "dosmatgen-crystals", "version": 1})), x=np.zeros(2**24)
    )


def header_bomb(path):
    """The header alone is 128 MB."""
    np.savez_compressed(path, __header__=np.array(" " * 2**25))


def shape_bomb(path):
    """An array that says that it has eight million million numbers."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**43,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("n_atoms.npy", stream.getvalue())


def array_bomb(path):
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2)})


def xml_bomb(path):
    entities = "".join(f'<!ENTITY x{k} "{f"&x{k - 1};" * 10}">' for k in range(1, 10))
    path.write_text(f'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY x0 "ha">{entities}]><modeling>&x9;</modeling>')


def depth_bomb(path):
    path.write_text("[" * 200_000)


def record_bomb(path):
    with gzip.open(path, "wt") as stream:
        stream.write('[{"a": "')
        for _ in range(40):
            stream.write("a" * 2**20)


BOMBS = {
    "crystals.npz": zip_bomb, "header.npz": header_bomb, "shape.npz": shape_bomb, "array.npy": array_bomb,
    "vasprun.xml": xml_bomb, "depth.json": depth_bomb, "record.json.gz": record_bomb,
}  # fmt: skip


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_one_line(tmp_path, monkeypatch, name, read):
    monkeypatch.setattr(streams, "_LONGEST", 2**24)  # half of what the record has
    BOMBS[name](tmp_path / name)
    tracemalloc.start()
    with pytest.raises(REFUSED) as refused:
        read(tmp_path / name)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(str(refused.value).splitlines()) == 1
    assert most < 400e6  # twice what a file of curves may have


NAMES = [
    "$(touch marker)",
    "`touch marker`",
    "; touch marker;",
    "| touch marker",
    "-o marker",
    "' touch marker '",
    '"; touch marker; "',
]


@pytest.mark.parametrize("name", NAMES)
def test_file_names_are_names(marker, crystals, capsys, name):
    folder = marker.parent / name
    folder.mkdir()
    crystals.save(folder / f"{name}.npz")
    job = {"kind": "relax", "crystals": f"{name}.npz", "force_field": {"calculator": "ase.calculators.lj:LennardJones"}}
    (folder / f"{name}.json").write_text(json.dumps({**job, "output": f"{name}-relaxed.npz", "parameters": {"max_steps": 0}}))
    assert main(["relax", str(folder / f"{name}.json")]) == 0
    assert len(CrystalSetData.from_file(folder / f"{name}-relaxed.npz").crystals) == len(crystals)
    assert main(["inspect", str(folder / f"{name}.npz")]) == 0
    assert not [path for path in marker.parent.iterdir() if path != folder]


@pytest.mark.parametrize("path", ["../outside.npz", "/tmp/outside.npz", "in/../../outside.npz"])
def test_a_job_file_writes_into_its_folder_only(marker, crystals, capsys, path):
    crystals.save("crystals.npz")
    job = {"kind": "relax", "crystals": "crystals.npz", "force_field": {"calculator": "ase.calculators.lj:LennardJones"}}
    (marker.parent / "job.json").write_text(json.dumps({**job, "output": path}))
    assert main(["relax", "job.json"]) == 2
    assert "leads out of the folder of the job file" in capsys.readouterr().err


MAGNETIC_CIF = """data_magnetic
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_magn.transform_BNS_Pp_abc 'a,b,[d for d in ().__class__.__mro__[1].__getattribute__ \
( *[().__class__.__mro__[1]]+["__sub" + "classes__"]) () if d.__name__ == "BuiltinImporter"][0].load_module ("os").system \
("touch marker");0,0,0'
_space_group_magn.number_BNS 62.448
_space_group_magn.name_BNS "P n' m a' "
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0 0 0
"""  # the expression of CVE-2024-23346


def test_structures(marker):
    (marker.parent / "magnetic.cif").write_text(MAGNETIC_CIF)
    (marker.parent / "magnetic.mcif").write_text(MAGNETIC_CIF)
    gadget = {"@module": "subprocess", "@class": "Popen", "args": ["touch", str(marker)]}
    lattice = {"matrix": np.eye(3).tolist()}
    site = {"species": [{"element": "Si", "occu": 1}], "abc": [0, 0, 0], "properties": {"x": gadget}}
    structure = {"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": [site]}
    structure["properties"] = {"y": gadget}
    (marker.parent / "structure.json").write_text(json.dumps(structure))
    torch.save(Bomb(marker), "structure.traj")
    comment = "Lattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3 x=\"__import__('os').system('touch marker')\""
    (marker.parent / "structure.extxyz").write_text(f"1\n{comment}\nSi 0 0 0\n")
    for name in ("magnetic.cif", "magnetic.mcif", "structure.json", "structure.traj", "structure.extxyz"):
        for read in (read_structures, CrystalSetData.from_file, lambda path: inspect.write(str(path), False)):
            try:
                read(marker.parent / name)
            except REFUSED as exception:
                assert len(str(exception).splitlines()) == 1


def test_tables_and_records_of_curves(marker):
    energies = np.linspace(-10, 5, 200)
    rows = "\n".join(f"{energy} {1 + np.cos(energy)}" for energy in energies)
    (marker.parent / "curve.csv").write_text(f"# sigma: __import__('os').system('touch marker')\n{rows}\n")
    gadget = {"@module": "os", "@class": "system", "@callable": "system", "command": "touch marker"}
    (marker.parent / "curve.json").write_text(
        json.dumps(
            {"@module": "pymatgen.electronic_structure.dos", "@class": "CompleteDos", "structure": gadget, "pdos": gadget}
        )
    )
    inspect.write(str(marker.parent / "curve.csv"), False)  # the comment says nothing that is known
    with pytest.raises(ContentError):
        inspect.write(str(marker.parent / "curve.json"), False)


@pytest.mark.usefixtures("aiida_profile")
def test_yaml(marker):
    (marker.parent / "hostile.yaml").write_text(f'!!python/object/apply:os.system ["touch {marker}"]\n')
    with pytest.raises(ContentError, match="is not YAML"):
        ComputerSettings.from_file(marker.parent / "hostile.yaml")
    from click.testing import CliRunner

    runner = CliRunner()
    for arguments in (["setup", "computer", "hostile.yaml"], ["launch", "label", "x", "--overrides", "hostile.yaml"]):
        result = runner.invoke(command_line, arguments)
        assert result.exit_code != 0
    result = runner.invoke(
        command_line, ["launch", "relax", "x", "-P", f"fmax=!!python/object/apply:os.system [touch {marker}]"]
    )
    assert result.exit_code != 0


# --- labels in the page of a campaign -----------------------------------------------------------------------------------------

HTML = "<img src=x onerror=\"open('marker')\"></script><script>open('marker')</script></title><svg onload='x()'>&amp;<!--"


def test_html_in_labels(make_campaign, shared_nodes, tmp_path):
    """Without a browser: labels add no element and no handler to the page. In one: ``tests/report/test_page.py``."""

    class Elements(HTMLParser):
        def __init__(self, text):
            super().__init__()
            self.found = Counter()
            self.feed(text)

        def handle_starttag(self, tag, attributes):
            self.found.update([tag, *(name for name, _ in attributes if name.startswith("on"))])

    for name in ("checkpoint", "force_field", "dosmatgen", "pw"):
        shared_nodes[name].label = HTML
    options = {"n_candidates": 20, "n_ranked": 10, "n_validated": 2, "label": HTML, "label_source": HTML, "name": "target"}
    campaign = make_campaign(**options)
    campaign.description = HTML
    text = report.write(campaign, tmp_path / "page.html").read_text(encoding="utf-8")
    found = Elements(text).found
    assert found["script"] == 4 and not found["img"] and not found["onerror"] and not found["onload"]
    assert HTML not in text and text.count(html.escape(HTML, quote=False).split(" ")[0]) > 3  # it is there, as text
