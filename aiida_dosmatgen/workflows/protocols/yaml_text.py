"""YAML, safely, with numbers as people write them: ``1e-9`` is one, which YAML 1.1 takes for text."""

from __future__ import annotations

import re
from typing import Any

import yaml

YAMLError = yaml.YAMLError


class _Loader(yaml.SafeLoader):
    pass


_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def load(text: str) -> Any:
    """Return the content of a YAML text.

    :raises YAMLError: if it is none, or asks for anything but plain values.
    """
    return yaml.load(text, Loader=_Loader)
