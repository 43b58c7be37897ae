"""How sphinx makes the documentation: ``make docs``."""

import os
import re
import tempfile
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

# The directives of aiida.sphinxext load the default profile: a temporary one, so that no one's is touched.
warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")
os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="dosmatgen-docs-")

from aiida.manage.configuration import create_profile, get_config, load_profile  # noqa: E402

create_profile(
    get_config(create=True), name="docs", email="docs@localhost", storage_backend="core.sqlite_temp", storage_config={}
)
load_profile("docs")

project = "aiida-dosmatgen"
copyright = "the authors of aiida-dosmatgen"
version = release = version_of("aiida-dosmatgen")

extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_click", "sphinx_copybutton", "aiida.sphinxext"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]

html_theme = "sphinx_book_theme"
html_title = f"aiida-dosmatgen {release}"
html_theme_options = {"show_toc_level": 2}
copybutton_exclude = ".linenos, .gp, .go"


def without_pages_of_the_repository(app, docname, source):
    """Leave the text of a link to a page beside the documentation: it leads somewhere in the repository only."""
    here = Path(app.srcdir, docname).parent

    def plain(match):
        path = (here / match[2].partition("#")[0]).resolve()
        inside = Path(app.srcdir).resolve() in path.parents
        return match[0] if inside or path.suffix != ".md" else match[1]

    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)", plain, source[0])


def setup(app):
    """Connect the above."""
    app.connect("source-read", without_pages_of_the_repository)
