"""The table of pseudopotentials, and the folder made of the files that are installed."""

import gzip

import pytest

from aiida_dosmatgen.core.dft.pseudopotentials import DEBIAN_PBE, collect, cutoffs
from aiida_dosmatgen.core.dft.upf import read_upf
from aiida_dosmatgen.core.errors import ContentError


def test_each_installed_file_is_of_its_element(tmp_path):
    found = collect(tmp_path)
    assert sorted(path.name for path in found.values()) == sorted(path.name for path in tmp_path.iterdir())
    assert set(found) == set(DEBIAN_PBE)
    for symbol, path in found.items():
        assert path.name.startswith(f"{symbol}.pbe-")
        upf = read_upf(path)
        assert (upf.element, upf.valence) == (symbol, DEBIAN_PBE[symbol].valence)


def test_both_formats_and_compressed_files_are_taken(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with gzip.open(source / "Ga.pbe-dn-kjpaw_psl.0.2.upf.gz", "wt") as stream:
        stream.write('<PP_HEADER element="Ga" z_valence="  1.300000000000000E+001"/>')
    (source / "Si.pbe-rrkj.UPF").write_text("   Si   Element\n    4.00000000000      Z valence\n")
    (source / "Al.pz-vbc.UPF").write_text("not in the table")
    found = collect(tmp_path / "family", [source])
    assert {symbol: read_upf(path).valence for symbol, path in found.items()} == {"Ga": 13, "Si": 4}
    assert len(list((tmp_path / "family").iterdir())) == 2


def test_no_files_are_refused(tmp_path):
    with pytest.raises(ContentError, match="no pseudopotentials in .*; install the package quantum-espresso-data"):
        collect(tmp_path / "family", [tmp_path / "nowhere"])


def test_a_file_that_is_no_pseudopotential_is_refused(tmp_path):
    path = tmp_path / "Si.upf"
    path.write_text("hello")
    with pytest.raises(ContentError, match="does not say its element and its valence electrons"):
        read_upf(path)


@pytest.mark.parametrize("stringency", ["fast", "normal"])
def test_the_cutoffs_satisfy_all_elements(stringency):
    together = cutoffs(["Si", "O", "Si"], stringency)
    assert together == tuple(max(pair) for pair in zip(cutoffs(["Si"], stringency), cutoffs(["O"], stringency), strict=True))


def test_the_table_is_sane():
    for pseudo in DEBIAN_PBE.values():
        for wfc, rho in (pseudo.fast, pseudo.normal):
            assert rho >= 4 * wfc
        assert pseudo.normal > pseudo.fast


def test_an_unknown_element_is_refused():
    with pytest.raises(ContentError, match="no pseudopotential for Xe; known are H B C"):
        cutoffs(["Si", "Xe"], "fast")
