"""A small vasprun.xml: silicon with one k-point, as pymatgen reads it."""

import numpy as np
import pytest

from aiida_dosmatgen.core.curve_files import read_content, read_curves
from aiida_dosmatgen.core.errors import ContentError

ENERGIES = np.linspace(-8, 14, 441)
FILLED, EMPTY = np.array([-6.0, 1.0, 4.0, 5.5]), np.array([7.0, 9.0])
SIGMA = 0.2  # of VASP


def total():
    width = SIGMA / np.sqrt(2)
    shape = np.exp(-0.5 * ((ENERGIES[:, None] - np.concatenate([FILLED, EMPTY])) / width) ** 2)
    return 2 * shape.sum(1) / (width * np.sqrt(2 * np.pi))


def vasprun(ismear=0):
    def table(columns, name):
        return "".join("<r>" + " ".join(f"{value:.6f}" for value in row) + f"</r>{name}" for row in np.column_stack(columns))

    structure = """<crystal><varray name="basis"><v>0 2.715 2.715</v><v>2.715 0 2.715</v><v>2.715 2.715 0</v></varray>
      <i name="volume">40.0</i>
      <varray name="rec_basis"><v>-0.18 0.18 0.18</v><v>0.18 -0.18 0.18</v><v>0.18 0.18 -0.18</v></varray>
      </crystal><varray name="positions"><v>0 0 0</v><v>0.25 0.25 0.25</v></varray>"""
    curve = total()
    orbitals = table([ENERGIES, 0.1 * curve, 0.2 * curve, 0.0 * curve], "")
    partial = "".join(f'<set comment="ion {i}"><set comment="spin 1">{orbitals}</set></set>' for i in (1, 2))
    levels = "".join(f"<r>{e:.4f} {float(e < 6):.4f}</r>" for e in np.concatenate([FILLED, EMPTY]))
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp </i><i name="version" type="string">6.4.1  </i></generator>
 <incar><i type="int" name="ISMEAR">{ismear}</i><i name="SIGMA">{SIGMA}</i></incar>
 <kpoints><generation param="Gamma"><v type="int" name="divisions">1 1 1</v></generation>
  <varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>
 <parameters><i type="int" name="ISMEAR">{ismear}</i><i name="SIGMA">{SIGMA}</i><i name="NELECT">8.0</i>
  <i type="int" name="ISPIN">1</i><i type="int" name="NELM">60</i><i type="int" name="NSW">0</i>
  <i type="int" name="IBRION">-1</i>
  <i type="logical" name="LSORBIT">F</i><i type="logical" name="LNONCOLLINEAR">F</i></parameters>
 <atominfo><atoms>2</atoms><types>1</types>
  <array name="atoms"><dimension dim="1">ion</dimension>
   <field type="string">element</field><field type="int">atomtype</field>
   <set><rc><c>Si</c><c>1</c></rc><rc><c>Si</c><c>1</c></rc></set></array>
  <array name="atomtypes"><dimension dim="1">type</dimension><field type="int">atomspertype</field>
   <field type="string">element</field>
   <field>mass</field><field>valence</field><field type="string">pseudopotential</field>
   <set><rc><c>2</c><c>Si</c><c>28.085</c><c>4.0</c><c>PAW_PBE Si 05Jan2001</c></rc></set></array></atominfo>
 <structure name="initialpos">{structure}</structure>
 <calculation>
  <scstep><energy><i name="e_fr_energy">-10.8</i><i name="e_wo_entrp">-10.8</i><i name="e_0_energy">-10.8</i></energy></scstep>
  <structure>{structure}</structure>
  <varray name="forces"><v>0 0 0</v><v>0 0 0</v></varray>
  <varray name="stress"><v>0 0 0</v><v>0 0 0</v><v>0 0 0</v></varray>
  <energy><i name="e_fr_energy">-10.8</i><i name="e_wo_entrp">-10.8</i><i name="e_0_energy">-10.8</i></energy>
  <eigenvalues><array><dimension dim="1">band</dimension><dimension dim="2">kpoint</dimension>
   <dimension dim="3">spin</dimension>
   <field>eigene</field><field>occ</field><set><set comment="spin 1"><set comment="kpoint 1">{levels}</set></set></set></array>
  </eigenvalues>
  <dos><i name="efermi">6.2</i>
   <total><array><dimension dim="1">gridpoints</dimension><dimension dim="2">spin</dimension>
    <field>energy</field><field>total</field><field>integrated</field>
    <set><set comment="spin 1">{table([ENERGIES, curve, np.cumsum(curve) * 0.05], "")}</set></set></array></total>
   <partial><array><dimension dim="1">gridpoints</dimension><dimension dim="2">spin</dimension>
    <dimension dim="3">ion</dimension>
    <field>energy</field><field>s</field><field>p</field><field>d</field><set>{partial}</set></array></partial>
  </dos>
 </calculation>
 <structure name="finalpos">{structure}</structure>
</modeling>
"""


def test_vasprun(tmp_path):
    (tmp_path / "vasprun.xml").write_text(vasprun())
    for path in (tmp_path / "vasprun.xml", tmp_path):
        read = read_curves(path)
        curves = read.curves
        assert len(curves) == 2 and read.elements == ("Si", "Si")
        assert (curves.zero, curves.gap, curves.n_electrons) == ("vbm", pytest.approx(1.5), 8)
        assert curves.energies[0] == pytest.approx(-13.5)
        assert curves.sigma == pytest.approx(SIGMA / np.sqrt(2)) and "sigma" not in read.unknown
        np.testing.assert_allclose(curves.total, total(), atol=1e-4)
        assert curves.projected == pytest.approx(0.6, abs=0.01)
        assert np.trapezoid(curves.total[curves.energies < 0.7], dx=0.05) == pytest.approx(8, abs=0.01)


def test_tetrahedra_do_not_broaden():
    assert read_content(vasprun(-5), "vasprun.xml").curves.sigma == 0


def test_an_incomplete_run_is_refused_in_one_line():
    with pytest.raises(ContentError, match="is the run complete") as caught:
        read_content(vasprun()[:-3000], "vasprun.xml")
    assert "\n" not in str(caught.value)
