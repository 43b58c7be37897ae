"""What the documentation says is so."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from aiida_dosmatgen.core.job import load_job

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_exit_codes_are_those_of_the_specs():
    spec = importlib.util.spec_from_file_location("make_exit_codes", ROOT / "docs" / "make_exit_codes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "exit_codes.md").read_text() == module.table(), "run: python docs/make_exit_codes.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_the_example_jobs_are_valid(tmp_path):
    jobs = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "data_formats.md").read_text(), re.DOTALL)
    assert {json.loads(job)["kind"] for job in jobs} == {"sample", "relax", "references", "predict", "train", "label"}
    for job in jobs:
        path = tmp_path / "job.json"
        path.write_text(job)
        load_job(path)


def test_the_version_has_an_entry_in_the_changelog():
    from aiida_dosmatgen import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
