"""Targets from the Materials Project, with a client in its place: no test needs a network."""

import sys
import textwrap

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.tools.materials_project import target_from_mp

CLIENT = """
    import numpy as np
    from pymatgen.core import Structure
    from pymatgen.electronic_structure.core import Orbital, Spin
    from pymatgen.electronic_structure.dos import CompleteDos, Dos

    from .core.exceptions import MPRestError

    SILICON = Structure([[0, 2.715, 2.715], [2.715, 0, 2.715], [2.715, 2.715, 0]], ["Si", "Si"], [[0] * 3, [0.25] * 3])


    class MPRester:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def get_structure_by_material_id(self, material_id):
            return SILICON

        def get_dos_by_material_id(self, material_id, load_projections=False):
            energies = np.arange(-8, 18, 0.05)
            curve = np.where((energies > -6.5) & (energies < 5.51), 8 / 12, 0.0) + np.where(energies > 6.6, 0.9, 0.0)
            total = Dos(5.9, energies, {Spin.up: curve})
            if material_id == "mp-1":
                return total
            if material_id == "mp-2":
                raise MPRestError("No density of states data found for mp-2")
            assert load_projections
            return CompleteDos(SILICON, total, {site: {Orbital.s: {Spin.up: 0.3 * curve}} for site in SILICON})
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    folder = tmp_path / "mp_api" / "client"
    (folder / "core").mkdir(parents=True)
    for path in (tmp_path / "mp_api", folder / "core"):
        (path / "__init__.py").touch()
    (folder / "core" / "exceptions.py").write_text("class MPRestError(Exception):\n    pass\n")
    (folder / "__init__.py").write_text(textwrap.dedent(CLIENT))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MP_API_KEY", "0" * 32)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mp_api"]:
        del sys.modules[name]


def test_with_and_without_projections(aiida_profile, client):
    node = target_from_mp("mp-149")
    assert (node.target.kind, node.target.n_atoms) == ("sites", 2) and "sites held 60.0 %" in node.reading
    assert node.target.dos.zero == "vbm" and node.target.dos.gap == pytest.approx(1.1, abs=0.1)
    total = target_from_mp("mp-1")
    assert (total.target.kind, total.target.n_atoms) == ("total", 2)
    np.testing.assert_allclose(total.target.total, node.target.total, atol=1e-9)
    assert total.target.dos.electrons == pytest.approx(4, abs=0.05)
    assert node.base.attributes.get("label_source") == "Materials Project, mp-149"


def test_what_is_missing_is_said_in_one_line(aiida_profile, client, monkeypatch):
    with pytest.raises(ContentError, match="gives no density of states of mp-2: No density of states data found"):
        target_from_mp("mp-2")
    with pytest.raises(ContentError, match="'silicon' is no id"):
        target_from_mp("silicon")
    with pytest.raises(ValidationError, match="sigma must be a broadening"):
        target_from_mp("mp-149", sigma=-1.0)
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    with pytest.raises(ContentError, match="there is no key"):
        target_from_mp("mp-149")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "mp_api.client", None)
        with pytest.raises(ContentError, match="pip install mp-api"):
            target_from_mp("mp-149")
