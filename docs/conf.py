"""How sphinx makes the documentation: ``make docs``."""

import os
import tempfile
from importlib.metadata import version as version_of

# The directives of aiida.sphinxext load the default profile: a temporary one, so that no one's is touched.
os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="dosmatgen-docs-")

from aiida.manage.configuration import create_profile, get_config, load_profile

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
