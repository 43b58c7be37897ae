"""A curve written in a random dialect is read back the same; what is no file of curves never ends in a traceback."""

import gzip

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_dosmatgen.core.curve_files import read_content
from aiida_dosmatgen.core.errors import ContentError

UNITS = {"eV": 1.0, "meV": 1e-3, "Ha": 27.211386245988, "Ry": 13.605693122994}


@st.composite
def dialects(draw):
    """Return the bytes of a file, with the energies, the total, the sites (or None) and the zero that are in it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(20, 120))
    low, high = draw(st.floats(-15, -4)), draw(st.floats(3, 12))
    energies = np.linspace(low, high, n)
    n_sites = draw(st.integers(0, 3))
    centres, heights = rng.uniform(low, high, (max(n_sites, 1), 4, 1)), rng.uniform(0.1, 3, (max(n_sites, 1), 4, 1))
    sites = (heights * np.exp(-((energies - centres) ** 2))).sum(1) + 0.7  # each holds enough electrons to be one
    unit = draw(st.sampled_from(list(UNITS)))
    spins, negative = draw(st.booleans()), draw(st.booleans())
    fermi = draw(st.none() | st.floats(low + 1, high - 1)) if n_sites else None
    names, columns = [f"energy ({unit})"], [energies / UNITS[unit]]
    for i, site in enumerate(sites):
        label = f"Si{i + 1}" if n_sites else "DOS"
        parts = [("", 1.0)] if not spins else [(" up", 0.6), (" down", -0.4 if negative else 0.4)]
        for spin, share in parts:
            names.append(f"{label}{spin} (states/{unit})")
            columns.append(share * site * UNITS[unit])
    if draw(st.booleans()):
        names.append("integrated DOS")
        columns.append(np.cumsum(sites.sum(0)))
    if draw(st.booleans()):
        names.insert(0, "")
        columns.insert(0, np.arange(n))
    if draw(st.booleans()):
        columns = [column[::-1] for column in columns]
    comma = draw(st.booleans())
    separator = draw(st.sampled_from([";", "\t", "|"] if comma else [",", ";", "\t", ", "]))
    form = draw(st.sampled_from(["{:.10f}", "{:.10e}", "{:+.10E}"]))
    exponent = draw(st.sampled_from("eEdD"))
    lines = []
    if fermi is not None:
        lines.append(f"{draw(st.sampled_from('#%!'))} Fermi energy = {fermi / UNITS[unit]:.10f}")
    lines.append(separator.join(names))
    for row in zip(*columns, strict=True):
        cells = [form.format(value).replace("e", exponent).replace("E", exponent) for value in row]
        lines.append(separator.join(cell.replace(".", ",") if comma else cell for cell in cells))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + end * draw(st.integers(0, 3))
    if draw(st.booleans()):
        text = text.replace("-", "\u2212")
    content = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    return (gzip.compress(content) if draw(st.booleans()) else content), energies, sites, n_sites, fermi


@settings(max_examples=80, deadline=None)
@given(dialects())
def test_a_curve_in_a_random_dialect_is_read_back_the_same(dialect):
    content, energies, sites, n_sites, fermi = dialect
    read = read_content(content, "curve")
    shift = 0.0 if fermi is None else fermi
    np.testing.assert_allclose(read.curves.energies, energies - shift, atol=1e-5)
    np.testing.assert_allclose(read.curves.sites, sites, atol=1e-5)
    assert read.curves.resolved == bool(n_sites)
    assert read.curves.zero == (None if fermi is None else "fermi")
    assert ("zero" in read.unknown) == (fermi is None)
    assert "\n" not in read.said


_WORDS = st.sampled_from(
    [
        *("E DOS -1.0 0 1,5 1e3 1D-2 nan *** # % & ; { [ | up Si1 s \u2212 <?xml <modeling> LOBSTER ]}".split()),
        *("\t", " ", "\n", '"', "energy (eV)", "EFermi = 1 eV", "2 2 1 0", '{"energies": [0, 1]', "\0"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_WORDS, max_size=60).map("".join) | st.text(max_size=200) | st.binary(max_size=200))
def test_whatever_else_is_read_or_refused_in_one_line(content):
    try:
        read = read_content(content, "file")
    except ContentError as exception:
        assert "\n" not in str(exception) and "file" in str(exception)
    else:
        assert np.isfinite(read.curves.values).all()
