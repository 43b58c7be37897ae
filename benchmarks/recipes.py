"""The recipes of ``docs/queries.md``: the page itself is what the tests run and the benchmark times."""

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "queries.md"


def recipes() -> dict[str, Any]:
    """Return the functions that the page defines, by their names."""
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        if "def " in block:
            names: dict[str, Any] = {}
            exec(compile(block, str(PAGE), "exec"), names)
            found |= {
                name: value for name, value in names.items() if getattr(value, "__code__", None) and f"def {name}(" in block
            }
    return found


def calls() -> list[str]:
    """Return the lines with ``campaign.tools`` of the page's first block."""
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    return [line.split("  #")[0] for line in block.splitlines() if line.startswith("campaign.tools")]
