"""Constraints: what they resolve to, and what is refused, naming both sides."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from aiida_dosmatgen.core.constraints.constraints import Constraints, own_size, resolve, sizes_allowed
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleJob
from aiida_dosmatgen.core.strict import explain

ELEMENTS = ["N", "Al", "Ga", "As"]
CUBE = [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]
LONG = [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 8.0]]


def site(sites, **held):
    return {"sites": sites, **held}


def constraints(**given) -> Constraints:
    return Constraints.model_validate(given)


@pytest.fixture
def template() -> CrystalSet:
    """GaAs with an iron atom, in a cell that is not reduced."""
    return CrystalSet(
        np.array([3]),
        np.array([31, 33, 26]),
        np.array([[0, 0, 0], [0.25, 0.25, 0.25], [1.5, -0.5, 0.1]]),
        np.array([[[4.0, 0, 0], [4.0, 4.0, 0], [0, 8.0, 4.0]]]),
    )


# --- what is held -----------------------------------------------------------------------------------------------------------


def test_nothing_is_held_without_constraints():
    held = resolve(None, 3, ELEMENTS)
    assert held.allowed.shape == (3, 4)
    assert held.allowed.all()
    assert not held.coordinates_held.any()
    assert held.lattice is held.volume is held.shape is held.counts is held.basis is held.template is None


def test_elements_allowed_and_forbidden_of_several_entries_all_hold():
    given = constraints(
        sites=[
            site([0], element="Ga"),
            site([1, 2], allowed=["Ga", "As"]),
            site([2], forbidden=["Ga", "Fe"]),
            site("all", forbidden=["N"]),
        ]
    )
    held = resolve(given, 4, ELEMENTS)
    expected = [["Ga"], ["Ga", "As"], ["As"], ["Al", "Ga", "As"]]
    assert [[ELEMENTS[e] for e in np.flatnonzero(row)] for row in held.allowed] == expected


def test_coordinates_are_the_given_numbers():
    rows = [[0.1, 1.2, -0.3], [1 / 3, 0.5, 1e-17]]
    held = resolve(constraints(sites=[site([3, 1], coordinates=rows)]), 4, ELEMENTS)
    assert held.coordinates_held.tolist() == [False, True, False, True]
    assert held.coordinates[[3, 1]].tolist() == rows
    assert held.basis is None


def test_a_composition_leaves_only_elements_that_occur_with_it():
    given = constraints(sites=[site([0], allowed=["Ga"]), site([1], allowed=["Ga", "As"])], composition={"Ga": 1, "As": 2})
    held = resolve(given, 3, ELEMENTS)
    assert held.counts.tolist() == [0, 0, 1, 2]
    assert [[ELEMENTS[e] for e in np.flatnonzero(row)] for row in held.allowed] == [["Ga"], ["As"], ["As"]]


@pytest.mark.parametrize(("formula", "counts"), [("GaAs", [0, 0, 3, 3]), ("Al(GaN)", [2, 2, 2, 0]), ("Ga2Al", [0, 2, 4, 0])])
def test_a_formula_gives_the_composition_of_each_size(formula, counts):
    assert resolve(constraints(formula=formula), 6, ELEMENTS).counts.tolist() == counts


def test_volume_and_shape_together_are_a_lattice():
    held = resolve(constraints(lattice={"volume": 64.0, "shape": [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]}), 2, ELEMENTS)
    np.testing.assert_allclose(held.lattice, np.eye(3) * 4, rtol=1e-15)
    assert held.volume is held.shape is None


def test_what_agrees_is_accepted():
    given = constraints(
        sites=[
            site([0], element="Ga", coordinates=[[0, 0, 0]]),
            site("all", allowed=["Ga"]),
            site([0], coordinates=[[0, 0, 0]]),
        ],
        lattice={"matrix": CUBE, "volume": 64, "shape": (3 * np.array(CUBE)).tolist()},
        composition={"Ga": 4},
        formula="Ga2",
    )
    held = resolve(given, 4, ELEMENTS)
    assert held.lattice.tolist() == CUBE
    assert held.volume is held.shape is None


def test_a_template_gives_elements_coordinates_and_cell(template):
    given = constraints(
        sites=[site([1], element="template"), site([2], coordinates="template")], lattice={"matrix": "template"}
    )
    held = resolve(given, 3, ELEMENTS, template)
    assert [ELEMENTS[e] for e in np.flatnonzero(held.allowed[1])] == ["As"]
    assert held.allowed[2].all()  # its iron is not asked for
    assert held.coordinates[2].tolist() == [1.5, -0.5, 0.1]
    assert np.array_equal(held.lattice, template.lattices[0])
    assert held.template is None


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"lattice": {"volume": "template"}}, False),
        ({"lattice": {"shape": "template"}}, True),
        ({"sites": [site([0], coordinates="template")]}, True),
        ({"sites": [site([0], element="template")]}, False),
    ],
)
def test_coordinates_and_cells_of_a_template_refer_to_its_basis(template, given, own):
    held = resolve(constraints(**given), 3, ELEMENTS, template)
    assert (held.basis is not None) == own
    if own:
        assert np.array_equal(held.basis, template.lattices[0])
    if held.volume is not None:
        assert held.volume == pytest.approx(64)


def test_the_cell_of_a_template_holds_for_any_number_of_atoms(template):
    given = constraints(lattice={"matrix": "template"})
    assert own_size(given, 3) == 3
    assert sizes_allowed(given, 3, 5) is None
    assert len(resolve(given, 5, ELEMENTS, template).allowed) == 5


def test_a_start_is_kept_and_gives_the_basis(template):
    first = template.replace(numbers=np.array([31, 33, 7]))
    held = resolve(None, 3, ELEMENTS, first, start=True)
    assert held.template is first
    assert np.array_equal(held.basis, first.lattices[0])


# --- sizes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "template", "size"),
    [
        ({}, 5, None),
        ({"formula": "GaAs"}, None, None),
        ({"composition": {"Ga": 1, "As": 3}}, None, 4),
        ({"sites": [site("all", coordinates=[[0, 0, 0], [0.5, 0.5, 0.5]])]}, None, 2),
        ({"sites": [site([0], element="template")]}, 5, 5),
        ({"lattice": {"volume": "template"}}, 5, 5),
    ],
)
def test_the_size_that_constraints_imply(given, template, size):
    assert own_size(constraints(**given), template) == size


def test_no_constraints_allow_all_sizes():
    assert own_size(None, 3) is None
    assert sizes_allowed(None, 3, 7) is None


@pytest.mark.parametrize(
    ("given", "template", "sizes"),
    [
        ({"formula": "Ga2N"}, None, [3, 6, 9]),
        ({"composition": {"Ga": 1, "N": 3}}, None, [4]),
        ({"sites": [site([0, 3], element="Ga")]}, None, [4, 5, 6, 7, 8, 9, 10]),
        ({"sites": [site([0, 1, 2], element="Ga")], "formula": "GaAs"}, None, [6, 8, 10]),
        ({"sites": [site([0], coordinates="template")]}, 5, [5]),
        ({"sites": [site("all", coordinates=[[0, 0, 0], [0.5, 0.5, 0.5]])]}, None, [2]),
    ],
)
def test_the_sizes_that_constraints_allow(given, template, sizes):
    asked = constraints(**given)
    assert [n for n in range(1, 11) if sizes_allowed(asked, template, n) is None] == sizes


# --- refusals ---------------------------------------------------------------------------------------------------------------

MALFORMED = {
    "nothing held": ({"sites": [site([0])]}, ["nothing is constrained"]),
    "no site": ({"sites": [site([], element="Ga")]}, ["sites"]),
    "negative": ({"sites": [site([-1], element="Ga")]}, ["sites", "greater than or equal to 0"]),
    "twice": ({"sites": [site([1, 2, 1], element="Ga")]}, ["atom 1 twice"]),
    "no element": ({"sites": [site([0], element="Xx")]}, ["'Xx' is not a chemical element"]),
    "placeholder": ({"sites": [site([0], allowed=["X"])]}, ["'X' is not a chemical element"]),
    "rows": ({"sites": [site([0, 1], coordinates=[[0, 0, 0]])]}, ["2 atoms", "1 rows"]),
    "nan": ({"sites": [site([0], coordinates=[[0, 0, float("nan")]])]}, ["coordinates", "finite"]),
    "two elements": (
        {"sites": [site([0, 1], element="Ga"), site([1], element="As")]},
        ["sites[0] fixes atom 1 to Ga", "sites[1] fixes atom 1 to As"],
    ),
    "outside allowed": (
        {"sites": [site([1], element="Ga"), site("all", allowed=["As", "N"])]},
        ["sites[0] fixes atom 1 to Ga", "sites[1] allows atom 1 only As, N"],
    ),
    "forbidden": (
        {"sites": [site([1], element="Ga", forbidden=["Ga"])]},
        ["sites[0] fixes atom 1 to Ga", "sites[0] forbids atom 1 Ga"],
    ),
    "nothing left": (
        {"sites": [site([1], allowed=["Ga", "As"]), site([1], forbidden=["Ga"]), site([1], forbidden=["As"])]},
        [
            "sites[0] allows atom 1 only Ga, As",
            "sites[1] forbids atom 1 Ga",
            "sites[2] forbids atom 1 As",
            "no element is left",
        ],
    ),
    "not in the composition": (
        {"sites": [site([1], element="Ga")], "composition": {"Al": 1, "N": 1}},
        ["sites[0] fixes atom 1 to Ga", "composition has no Ga"],
    ),
    "not in the formula": (
        {"sites": [site([1], allowed=["Ga", "As"])], "formula": "AlN"},
        ["sites[0] allows atom 1 only Ga, As", "formula has only Al, N"],
    ),
    "two places": (
        {"sites": [site([1], coordinates=[[0, 0, 0]]), site([0, 1], coordinates=[[0.5, 0, 0], [0.25, 0, 0]])]},
        ["sites[0] puts atom 1 at (0, 0, 0)", "sites[1] puts it at (0.25, 0, 0)"],
    ),
    "index": ({"sites": [site([4], element="Ga")], "composition": {"Ga": 4}}, ["sites[0] names atom 4", "has 4"]),
    "too many": (
        {"sites": [site([0, 1, 2], element="Ga")], "composition": {"Ga": 2, "As": 2}},
        ["composition has 2 As", "sites[0]", "only atom 3 for As"],
    ),
    "none for it": (
        {"sites": [site([0, 1], allowed=["Ga", "Al"])], "composition": {"As": 1, "Ga": 1}},
        ["composition has 1 As", "sites[0]", "no atom for As"],
    ),
    "rows for all": (
        {"sites": [site("all", coordinates=[[0, 0, 0]])], "composition": {"Ga": 2}},
        ["sites[0].coordinates has 1 rows", "has 2"],
    ),
    "composition and formula": (
        {"composition": {"Ga": 3, "As": 2}, "formula": "GaAs"},
        ["composition (Ga3 As2)", "formula GaAs"],
    ),
    "composition and larger formula": ({"composition": {"Ga": 1, "As": 1}, "formula": "Ga2As2"}, ["composition", "formula"]),
    "zero of an element": ({"composition": {"Ga": 0}}, ["composition.Ga", "greater than or equal to 1"]),
    "empty composition": ({"composition": {}}, ["composition"]),
    "formula": ({"formula": "GaAs)"}, ["'GaAs)' is not a chemical formula"]),
    "unknown key": ({"elements": ["Ga"]}, ["elements: unknown key"]),
    "empty lattice": ({"lattice": {}}, ["nothing is constrained"]),
    "flat": ({"lattice": {"matrix": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}}, ["lie in a plane"]),
    "zero vector": ({"lattice": {"shape": [[0, 0, 0], [0, 1, 0], [0, 0, 1]]}}, ["lie in a plane"]),
    "left-handed": ({"lattice": {"matrix": [[0, 4, 0], [4, 0, 0], [0, 0, 4]]}}, ["left-handed"]),
    "infinite": ({"lattice": {"matrix": [[float("inf"), 0, 0], [0, 4, 0], [0, 0, 4]]}}, ["finite"]),
    "volume": ({"lattice": {"volume": 0}}, ["volume", "greater than 0"]),
    "matrix and volume": ({"lattice": {"matrix": CUBE, "volume": 65}}, ["matrix has the volume 64", "volume is 65"]),
    "matrix and shape": ({"lattice": {"matrix": CUBE, "shape": LONG}}, ["matrix and lattice.shape disagree"]),
}


@pytest.mark.parametrize(("given", "fragments"), MALFORMED.values(), ids=MALFORMED)
def test_what_contradicts_itself_is_refused_when_it_is_read(given, fragments):
    with pytest.raises(ValidationError) as caught:
        constraints(**given)
    line = explain(caught.value)
    assert "\n" not in line
    for fragment in fragments:
        assert fragment in line


IMPOSSIBLE = {
    "index": ({"sites": [site([4], element="Ga")]}, ["sites[0] names atom 4", "has 3"]),
    "size": ({"composition": {"Ga": 2, "As": 2}}, ["composition (Ga2 As2) has 4 atoms", "has 3"]),
    "formula": ({"formula": "GaAs"}, ["formula GaAs has 2 atoms", "3 atoms"]),
    "unknown element": (
        {"sites": [site([0], element="Fe")]},
        ["sites[0].element has Fe", "the checkpoint generates only N, Al"],
    ),
    "unknown allowed": ({"sites": [site([0], allowed=["Ga", "Fe"])]}, ["sites[0].allowed has Fe", "checkpoint"]),
    "unknown in composition": ({"composition": {"Fe": 3}}, ["composition has Fe", "checkpoint"]),
    "unknown in formula": ({"formula": "FeGa2"}, ["formula has Fe", "checkpoint"]),
    "all forbidden": ({"sites": [site("all", forbidden=ELEMENTS)]}, ["sites[0] forbids atom 0 N, Al, Ga, As", "checkpoint"]),
    "unknown in template": (
        {"sites": [site([2], element="template")]},
        ["sites[0] fixes atom 2 to Fe as in the template", "checkpoint generates only"],
    ),
    "template's element": (
        {"sites": [site([0], element="template"), site([0], element="N")]},
        ["sites[0] fixes atom 0 to Ga as in the template", "sites[1] fixes atom 0 to N"],
    ),
    "template and composition": (
        {"sites": [site([0], element="template")], "composition": {"N": 3}},
        ["sites[0] fixes atom 0 to Ga as in the template", "composition has no Ga"],
    ),
    "template's place": (
        {"sites": [site([1], coordinates="template"), site([1], coordinates=[[0, 0, 0]])]},
        ["sites[0] puts atom 1 at (0.25, 0.25, 0.25)", "sites[1] puts it at (0, 0, 0)"],
    ),
    "template's volume": (
        {"lattice": {"matrix": LONG, "volume": "template"}},
        ["lattice.matrix has the volume 128", "lattice.volume is 64"],
    ),
    "template's shape": ({"lattice": {"matrix": CUBE, "shape": "template"}}, ["lattice.matrix and lattice.shape disagree"]),
    "on top of each other": (
        {"sites": [site([0], coordinates=[[0, 0, 0]]), site([2], coordinates=[[0.95, 0, 0]])], "lattice": {"matrix": CUBE}},
        ["sites[0] puts atom 0", "sites[1] puts atom 2", "0.2 Å"],
    ),
    "one place": (
        {"sites": [site([0, 1], coordinates=[[0, 0, 0], [1, -1, 2]])]},
        ["puts atom 0", "puts atom 1", "only 0 of"],
    ),
    "thin": ({"lattice": {"matrix": [[0.3, 0, 0], [0, 9, 0], [0, 0, 9]]}}, ["lattice.matrix", "0.3 Å", "its own image"]),
}


@pytest.mark.parametrize(("given", "fragments"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_a_crystal_cannot_meet_is_refused_naming_both(given, fragments, template):
    with pytest.raises(ContentError) as caught:
        resolve(constraints(**given), 3, ELEMENTS, template)
    line = str(caught.value)
    assert line.startswith("constraints: ")
    assert "\n" not in line
    for fragment in fragments:
        assert fragment in line


LOOKS_IMPOSSIBLE = {
    "composition": {"sites": [site([0, 1], element="template")], "composition": {"Ga": 1, "As": 2}},
    "distance": {
        "sites": [site([0, 1], coordinates=[[0, 0, 0], [0.5, 0.51, 0]])],
        "lattice": {"matrix": [[4, 0, 0], [-4, 4, 0], [0, 0, 4]]},
    },
}


@pytest.mark.parametrize("given", LOOKS_IMPOSSIBLE.values(), ids=LOOKS_IMPOSSIBLE)
def test_what_only_looks_impossible_is_accepted(given, template):
    resolve(constraints(**given), 3, ELEMENTS, template.replace(numbers=np.array([31, 33, 7])))


def test_distances_are_taken_between_the_nearest_images():
    skewed = [[4.0, 0, 0], [20.0, 4.0, 0], [8.0, -12.0, 4.0]]
    inverse = np.linalg.inv(skewed)
    rows = (np.array([[0.0, 0, 0], [3.9, 3.9, 3.9]]) @ inverse).tolist()
    with pytest.raises(ContentError, match=r"only 0\.17 Å apart"):
        resolve(constraints(sites=[site([0, 1], coordinates=rows)], lattice={"matrix": skewed}), 2, ELEMENTS)


@pytest.mark.parametrize(
    "given",
    [
        {"sites": [site([0], element="template")]},
        {"sites": [site([0], coordinates="template")]},
        {"lattice": {"volume": "template"}},
    ],
)
def test_a_template_that_is_asked_for_must_be_there(given):
    with pytest.raises(ContentError, match="asks for the template, but there is none"):
        resolve(constraints(**given), 3, ELEMENTS)


def test_templates_must_fit(template):
    held = constraints(sites=[site([0], element="template")])
    with pytest.raises(ContentError, match=r"sites\[0\].element is the template's, which has 3 atoms, but the crystal has 4"):
        resolve(held, 4, ELEMENTS, template)
    with pytest.raises(ContentError, match="starts from the template, which has 3 atoms, but the crystal has 4"):
        resolve(None, 4, ELEMENTS, template, start=True)
    with pytest.raises(ContentError, match="starts from the template, which has Fe, but the checkpoint generates only N, Al"):
        resolve(None, 3, ELEMENTS, template, start=True)
    with pytest.raises(ContentError, match="NaN"):
        resolve(held, 3, ELEMENTS, template.replace(lattices=np.full((1, 3, 3), np.nan)))
    with pytest.raises(ContentError, match="lie in a plane"):
        resolve(held, 3, ELEMENTS, template.replace(lattices=np.ones((1, 3, 3))))


def test_a_template_that_is_not_used_is_not_looked_at(template):
    broken = template.replace(lattices=np.full((1, 3, 3), np.nan))
    assert resolve(constraints(formula="GaAs"), 2, ELEMENTS, broken).counts.tolist() == [0, 0, 1, 1]


def test_the_documented_examples_are_valid():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "constraints.md").read_text()
    examples = re.findall(r"^\|[^|]*\| `(\{.*\})` \|$", page, re.MULTILINE)
    assert len(examples) == 11
    for example in examples:
        Constraints.model_validate_json(example)
    job = re.search(r"```json\n(.*?)```", page, re.DOTALL).group(1)
    assert SampleJob.model_validate_json(job).parameters.constraints.from_template
