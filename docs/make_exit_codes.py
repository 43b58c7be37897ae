"""Write reference/exit_codes.md from the specs of the processes: ``python docs/make_exit_codes.py``."""

from pathlib import Path

from aiida.engine import CalcJob, WorkChain
from aiida.plugins import CalculationFactory, WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

HEAD = """# Exit codes

Written by `python docs/make_exit_codes.py` from the specs; the tests compare.

- **2xx** bad input: nothing ran, or the executable refused it.
- **3xx** the result is unusable.
- **4xx** partial or empty, and everything done so far is kept.

Codes below 200 are AiiDA's own (100 no retrieved folder, 110 out of memory, 120 out of walltime, 131 invalid account,
140 node failure, 150 stopped by a monitor). `{…}` is filled in when it happens.
"""


def table() -> str:
    """Return the whole page."""
    lines = [HEAD]
    for group, factory, base, bases in (
        ("aiida.calculations", CalculationFactory, CalcJob, "Calculation jobs"),
        ("aiida.workflows", WorkflowFactory, WorkChain, "Work chains"),
    ):
        lines.append(f"## {bases}\n")
        inherited = set(base.spec().exit_codes.values())
        by_codes: dict[tuple, list[str]] = {}
        for name in get_entry_point_names(group):
            if name.startswith("dosmatgen."):
                codes = {
                    code for code in factory(name).spec().exit_codes.values() if code not in inherited and code.status >= 200
                }
                by_codes.setdefault(tuple(sorted((c.status, c.message) for c in codes)), []).append(name)
        for codes, names in by_codes.items():
            lines += [", ".join(f"`{name}`" for name in names), "", "| status | message |", "|---|---|"]
            lines += [f"| {status} | {' '.join(message.split())} |" for status, message in codes]
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (Path(__file__).with_name("reference") / "exit_codes.md").write_text(table(), encoding="utf-8")
