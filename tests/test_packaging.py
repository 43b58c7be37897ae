"""What the ecosystem expects of the package."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import distribution, entry_points, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aiida_dosmatgen import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aiida_dosmatgen"
SIDES = {
    path.parent.name: {"core": (), "engine": ("engine",)}.get(path.parent.name, ("workflows",))
    for path in sorted(PACKAGE.glob("*/__init__.py"))
}
"""The extras that bring what a part of the package imports, besides the base dependencies."""

OPTIONAL = {"chgnet", "mp-api", "pyarrow", "sevenn"}
"""What only some people need; a message says what to install."""


def required(*extras: str) -> set[str]:
    """Return the names of the base dependencies (no extra given), or those of extras alone."""
    found = set()
    for text in distribution("aiida-dosmatgen").requires:
        requirement = Requirement(text)
        inside = any(requirement.marker.evaluate({"extra": extra}) for extra in extras) if requirement.marker else not extras
        if inside:
            found.add(canonicalize_name(requirement.name))
    return found


providers_of_packages = cache(packages_distributions)  # it reads the metadata of everything that is installed


@cache
def imported(part: str) -> set[str]:
    """Return the distributions that the modules of a part import, wherever in a module the import stands.

    Of several that bring parts of one package (pymatgen and pymatgen-core) the declared ones count.
    """
    declared = required() | required("engine", "workflows")
    providers, found = providers_of_packages(), set()
    for path in (PACKAGE / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - {"aiida_dosmatgen"} - sys.stdlib_module_names:
                candidates = {canonicalize_name(provider) for provider in providers.get(name, [name])}
                found |= candidates & declared or candidates
    return found


@pytest.mark.parametrize("part", SIDES)
def test_what_a_part_imports_is_declared_where_it_is_installed(part):
    assert imported(part), f"nothing found in {part}"
    allowed = required().union(OPTIONAL, *(required(extra) for extra in SIDES[part]))
    assert imported(part) <= allowed, f"{part} imports what neither the base nor its extra brings"


def test_what_is_declared_is_imported():
    everything = set().union(*(imported(part) for part in SIDES))
    declared = required() | required("engine", "workflows")
    assert declared == everything - (OPTIONAL - declared)  # chgnet is optional for new versions of Python only
    assert required() == imported("core") - OPTIONAL


def test_the_sides_are_apart():
    assert "aiida-core" in required("workflows") and "torch" in required("engine")
    assert not required("engine") & required("workflows")
    assert not [name for name in required() | required("engine") if name.startswith("aiida")]
    assert required("all") == required("engine", "workflows")


WITHOUT = """
import importlib.util, sys

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {module!r} else find_spec(name, package)
sys.modules[{module!r}] = None
from {start} import {function}
sys.exit({function}({arguments}))
"""


@pytest.mark.parametrize(
    ("module", "package"),
    [("aiida", "aiida-core"), ("aiida_quantumespresso", "aiida-quantumespresso"), ("aiida_pseudo", "aiida-pseudo")],
)
def test_the_command_says_what_to_install_without_aiida(module, package):
    program = WITHOUT.format(module=module, start="aiida_dosmatgen.cmdline.__main__", function="run", arguments="")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    line = f"aiida-dosmatgen: {package} is not installed; run: pip install 'aiida-dosmatgen[workflows]'\n"
    assert (result.returncode, result.stderr) == (2, line)


def test_the_executable_says_what_to_install_without_torch(tmp_path):
    job = tmp_path / "job.json"
    job.write_text('{"kind": "references", "elements": ["Si"], "force_field": {"foundation": "medium-mpa-0"}}')
    program = WITHOUT.format(
        module="torch", start="aiida_dosmatgen.engine.cli", function="main", arguments=["references", str(job)]
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    line = "dosmatgen: error: torch is not installed; run: pip install 'aiida-dosmatgen[engine]'\n"
    assert (result.returncode, result.stderr) == (2, line)


def test_all_entry_points_have_the_prefix_and_load():
    ours = [e for e in distribution("aiida-dosmatgen").entry_points if e.group.startswith("aiida.")]
    assert len(ours) >= 20
    for entry_point in ours:
        assert entry_point.name.startswith("dosmatgen."), entry_point
        assert entry_point.load() is not None


def test_both_commands_load():
    commands = {e.name: e.load() for e in distribution("aiida-dosmatgen").entry_points if e.group == "console_scripts"}
    assert set(commands) == {"dosmatgen", "aiida-dosmatgen"} and all(map(callable, commands.values()))


def test_the_classifiers_name_aiida_and_the_pythons():
    metadata = distribution("aiida-dosmatgen").metadata
    classifiers = set(metadata.get_all("Classifier"))
    assert "Framework :: AiiDA" in classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)} <= classifiers
    lowest = re.search(r"3\.(\d+)", metadata["Requires-Python"])
    assert lowest[1] == "10"
    assert f"Programming Language :: Python :: {sys.version_info[0]}.{sys.version_info[1]}" in classifiers


def test_licence_authors_and_addresses_are_stated():
    metadata = distribution("aiida-dosmatgen").metadata
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert metadata["License-Expression"] == citation["license"] == "MIT"
    files = set(metadata.get_all("License-File"))
    vendored = {str(path.relative_to(ROOT)) for path in (PACKAGE / "report" / "vendor").glob("*LICENSE*")}
    assert files == {"LICENSE"} | vendored and vendored
    assert metadata["Author"] == citation["authors"][0]["name"]
    home = registry_entry()["code_home"]
    addresses = dict(text.split(", ") for text in metadata.get_all("Project-URL"))
    assert {"Homepage", "Documentation", "Source", "Changelog"} <= set(addresses)
    assert all(address.startswith(home) for address in addresses.values())


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["version"] == __version__
    assert {"title", "authors", "message", "license"} <= set(citation)


def registry_entry() -> dict:
    """Return what the plugin registry is to know of the package."""
    content = yaml.safe_load((ROOT / "docs" / "reference" / "aiida-registry.yaml").read_text())
    return content["aiida-dosmatgen"]


def test_the_registry_entry_is_that_of_the_package():
    entry = registry_entry()
    assert entry["pip_url"] == distribution("aiida-dosmatgen").metadata["Name"]
    assert {"code_home", "entry_point_prefix"} <= set(entry)
    prefix = entry["entry_point_prefix"]
    assert all(e.name.startswith(prefix) for e in entry_points(group="aiida.workflows") if "dosmatgen" in e.value)
    status = {"beta": "4 - Beta", "alpha": "3 - Alpha", "stable": "5 - Production/Stable"}[entry["development_status"]]
    assert f"Development Status :: {status}" in distribution("aiida-dosmatgen").metadata.get_all("Classifier")


@pytest.mark.parametrize("target", ["docs", "wheel", "screenshots", "lint", "test", "test-all"])
def test_the_contribution_guide_and_the_makefile_agree(target):
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
    if target != "screenshots":
        assert f"make {target}" in (ROOT / "CONTRIBUTING.md").read_text()
