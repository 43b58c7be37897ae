"""How sphinx makes the documentation: ``make docs``."""

import os
import re
import sys
import tempfile
import warnings
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

# The directives of aiida.sphinxext load the default profile: a temporary one, so that no one's is touched.
warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")
os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="dosmatgen-docs-")

import ziafont  # noqa: E402
import ziamath  # noqa: E402
from aiida.manage.configuration import create_profile, get_config, load_profile  # noqa: E402
from docutils import nodes  # noqa: E402

create_profile(
    get_config(create=True), name="docs", email="docs@localhost", storage_backend="core.sqlite_temp", storage_config={}
)
load_profile("docs")

ziafont.config.svg2 = False  # paths in each formula: symbols would need names that no other formula of the page has

project = "aiida-dosmatgen"
author = "The aiida-dosmatgen team"
project_copyright = author
version = release = version_of("aiida-dosmatgen")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "aiida.sphinxext",
]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
suppress_warnings = [
    "config.cache",
    "ref.python",  # a type of the same name in two modules: one of them is linked
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
maximum_signature_line_length = 88
toc_object_entries = False  # the contents of a page are its headings; with all functions the build takes longer

html_theme = "sphinx_book_theme"
html_title = f"aiida-dosmatgen {release}"
html_theme_options = {
    "show_toc_level": 2,
    "navbar_persistent": [],  # one search field: that of the sidebar
    "collapse_navbar": True,  # only the branch of the page: all modules of the API on each page are most of the work
}
html_math_renderer = "svg"
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"


def without_pages_of_the_repository(app, docname, source):
    """Leave the text of a link to a page beside the documentation: it leads somewhere in the repository only."""
    here = Path(app.srcdir, docname).parent

    def plain(match):
        path = (here / match[2].partition("#")[0]).resolve()
        inside = Path(app.srcdir).resolve() in path.parents
        return match[0] if inside or path.suffix != ".md" else match[1]

    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)", plain, source[0])


def with_bars_as_text(app, what, name, thing, options, lines):
    """Take ``|x|`` in docstrings for a magnitude, which reStructuredText takes for a substitution."""
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", line) for line in lines]


def with_whole_names(app, what, name, thing, options, lines):
    """Give ``:mod:`.name``` the whole name of the module beside the one that says so: there are others called the same."""
    module = sys.modules.get(name if what == "module" else getattr(thing, "__module__", None) or name)
    if module is None:
        return
    package = module.__name__ if hasattr(module, "__path__") else module.__package__

    def whole(match):
        return f":mod:`~{package}.{match[1]}`" if find_spec(f"{package}.{match[1]}") else match[0]

    lines[:] = [re.sub(r":mod:`\.(\w+)`", whole, line) for line in lines]


def drawn(formula: str, inline: bool) -> str:
    """Return a formula as SVG in the colour of the text, on its line: neither a script nor a network is needed to read it."""
    size = 16
    picture = ziamath.Latex(formula, size=size, inline=inline, color="currentColor").svgxml()
    _, top, _, height = (float(number) for number in picture.get("viewBox").split())
    picture.set("style", f"height:{height / size:.3f}em;width:auto;vertical-align:{-(top + height) / size:.3f}em")
    picture.set("role", "img")
    picture.set("aria-label", formula)
    return ElementTree.tostring(picture, encoding="unicode")


def visit_math(self, node):
    """Write a formula within a line."""
    self.body.append(drawn(node.astext(), inline=True))
    raise nodes.SkipNode


def visit_math_block(self, node):
    """Write a formula of its own."""
    self.body.append(f'<p style="text-align:center">{drawn(node.astext(), inline=False)}</p>')
    raise nodes.SkipNode


def setup(app):
    """Connect the above."""
    app.connect("source-read", without_pages_of_the_repository)
    app.connect("autodoc-process-docstring", with_bars_as_text)
    app.connect("autodoc-process-docstring", with_whole_names)
    app.add_html_math_renderer("svg", (visit_math, None), (visit_math_block, None))
