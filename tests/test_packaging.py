"""What the ecosystem expects of the package."""

import re
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
import yaml

from aiida_dosmatgen import __version__

ROOT = Path(__file__).parents[1]


def test_all_entry_points_have_the_prefix_and_load():
    ours = [e for e in distribution("aiida-dosmatgen").entry_points if e.group.startswith("aiida.")]
    assert len(ours) >= 20
    for entry_point in ours:
        assert entry_point.name.startswith("dosmatgen."), entry_point
        assert entry_point.load() is not None


def test_the_classifiers_name_aiida_and_the_pythons():
    metadata = distribution("aiida-dosmatgen").metadata
    classifiers = set(metadata.get_all("Classifier"))
    assert {"Framework :: AiiDA", "License :: OSI Approved :: MIT License"} <= classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)} <= classifiers
    lowest = re.search(r"3\.(\d+)", metadata["Requires-Python"])
    assert lowest[1] == "10"
    assert f"Programming Language :: Python :: {sys.version_info[0]}.{sys.version_info[1]}" in classifiers


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["version"] == __version__
    assert {"title", "authors", "message", "license"} <= set(citation)


def test_the_registry_entry_is_that_of_the_package():
    content = yaml.safe_load((ROOT / "docs" / "reference" / "aiida-registry.yaml").read_text())
    ((name, entry),) = content.items()
    assert name == entry["pip_url"] == distribution("aiida-dosmatgen").metadata["Name"]
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
