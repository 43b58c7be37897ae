"""The HTML of a page: templates, style, scripts and libraries put into one text.

Labels, file names and messages come from people and other programs. The template escapes all of them, the data are JSON in
which no tag can begin, the scripts put text into the page as text, and the page's policy lets no other script run, and nothing
be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
import markupsafe

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_NOTHING = "'none'"
_HERE = files(__package__)
_SCRIPTS = ("vendor/plotly-basic.min.js", "vendor/3Dmol-min.js", "page.js")


def render(content: Mapping[str, Any]) -> str:
    """Return the page.

    :param content: of :func:`~aiida_dosmatgen.report.content.content_of`.
    """
    scripts = [_inline(_read(name)) for name in _SCRIPTS]
    return _template("page.html").render(
        **content,
        style=markupsafe.Markup(_read("page.css")),
        scripts=[markupsafe.Markup(script) for script in scripts],
        policy=_policy(scripts),
        data=markupsafe.Markup(_json(content["payload"])),
    )


def render_loop(content: Mapping[str, Any]) -> str:
    """Return the page of a loop that learns; it has no scripts.

    :param content: of :func:`~aiida_dosmatgen.report.rounds.content_of_loop`.
    """
    style = markupsafe.Markup(_read("page.css"))
    return _template("rounds.html").render(**content, style=style, policy=_policy([]))


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )
    environment.filters |= {"number": _number, "count": "{:,}".format, "chemical": chemical}
    return environment.get_template(name)


def chemical(formula: str) -> str:
    """Return a formula with its numbers written low: Ga₂As₂."""
    return formula.translate(_SUBSCRIPTS)


def _read(name: str) -> str:
    return _HERE.joinpath(*name.split("/")).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """Return a script that can stand between tags: no tag in its strings ends it."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", script, flags=re.IGNORECASE)


def _json(value: Any) -> str:
    """Return JSON in which no tag begins."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _policy(scripts: list[str]) -> str:
    """Return a content security policy: these scripts and no others, and nothing from anywhere else."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes or _NOTHING}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")
