"""What the documentation says is so: links, job files, commands, code; every block with a language is run or checked."""

import ast
import importlib.metadata
import importlib.util
import inspect
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import yaml

from aiida_dosmatgen.calculations import functions as between_jobs
from aiida_dosmatgen.core.job import load_job
from aiida_dosmatgen.workflows import functions as within_chains
from tests.cmdline.test_main import problem_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts)])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINKING = [*PAGES, *sorted(ROOT.glob("*/README.md"))]
BLOCK = re.compile(r"^```(?P<language>[a-z][^\n`]*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)

TOP = {path.name for folder in (ROOT, ROOT / "aiida_dosmatgen") for path in folder.iterdir() if path.is_dir()} - {
    "build",
    "dist",
}
"""Folders at the top of the repository or of the package."""

RUN_ELSEWHERE = {
    ("docs/how-to/generation.md", "python"): "tests/test_generation_page.py",
    ("docs/how-to/generation.md", "json"): "tests/test_generation_page.py",
    ("docs/how-to/generation.md", "python aiida"): "tests/workflows/test_generation_page.py",
    ("docs/tutorials/first-campaign.md", "bash"): "tests/integration/test_tutorials.py",
    ("docs/tutorials/first-campaign.md", "bash report"): "tests/integration/test_tutorials.py",
    ("docs/tutorials/training.md", "bash"): "tests/integration/test_tutorials.py",
    ("docs/tutorials/training.md", "python"): "tests/integration/test_tutorials.py",
    ("docs/tutorials/training.md", "json mp-dos"): "tests/integration/test_tutorials.py",
    ("docs/how-to/results.md", "python aiida"): "tests/integration/test_tutorials.py",
    ("docs/how-to/targets.md", "bash"): "tests/cmdline/test_targets_page.py",
    ("docs/how-to/bring-your-dos.md", "bash"): "tests/cmdline/test_bring_your_dos.py",
    ("docs/how-to/bring-your-dos.md", "python"): "tests/cmdline/test_bring_your_dos.py",
    ("docs/how-to/bring-your-dos.md", "text"): "tests/cmdline/test_bring_your_dos.py",
    ("docs/queries.md", "python"): "tests/tools/test_campaign.py",
    ("docs/report.md", "python"): "tests/tools/test_exchange.py",
}
"""Blocks that run, by page and kind, and where."""


def blocks(*languages: str) -> list:
    """Return (page, text) of all blocks of some languages that do not run elsewhere."""
    found = []
    for name, page in zip(NAMES, PAGES, strict=True):
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            kind = match["language"].strip()
            if kind.split()[0] in languages and (name, kind) not in RUN_ELSEWHERE:
                found.append(pytest.param(name, match["text"], id=f"{name}-{number}"))
    return found


def test_blocks_that_run_elsewhere_are_there_and_what_runs_them():
    there = {
        (name, match["language"].strip())
        for name, page in zip(NAMES, PAGES, strict=True)
        for match in BLOCK.finditer(page.read_text())
    }
    for place, test in RUN_ELSEWHERE.items():
        assert place in there, place
        assert Path(place[0]).name in (ROOT / test).read_text(), f"{test} does not run {place[0]}"


def test_every_block_is_of_a_kind_that_is_run_or_checked():
    kinds = {"bash", "python", "json", "yaml"}
    for name, page in zip(NAMES, PAGES, strict=True):
        for match in BLOCK.finditer(page.read_text()):
            known = match["language"].split()[0] in kinds or (name, match["language"].strip()) in RUN_ELSEWHERE
            assert known, f"{name}: nothing checks blocks of {match['language']}"


@pytest.mark.parametrize(("page", "text"), blocks("bash"))
def test_shell_blocks_say_what_exists(page, text):
    """What needs a cluster, or installs packages, does not run here; its commands and options exist all the same."""
    from aiida_dosmatgen.engine.cli import parser

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "aiida-dosmatgen":
            assert problem_of(line) is None, line
        elif words[0] == "dosmatgen":
            parser().parse_args(words[1:])
        elif words[0] == "make":
            assert words[1].split("=")[0] in targets, line
        elif words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), line
        else:
            assert words[0] in {"cd", "sudo", "python3", "source", "pip", "verdi", "cp"}, line


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_yaml_blocks_are_clusters(page, text):
    from aiida_dosmatgen.setup.settings import ComputerSettings

    given = yaml.safe_load(text)
    if "label" not in given:  # what to put into one
        given = {"label": "a", "hostname": "a", "work_dir": "/a", "codes": {"pw": {"filepath_executable": "pw.x"}}} | given
        if "options" in given:
            given["codes"]["pw"]["options"] = given.pop("options")
        ComputerSettings.model_validate(given)
        return
    assert set(ComputerSettings.model_validate(given).codes) == {"dosmatgen", "pw", "projwfc"}


@pytest.mark.parametrize(("page", "text"), blocks("json"))
def test_json_blocks_are_job_files(page, text, tmp_path):
    path = tmp_path / "job.json"
    path.write_text(text)
    assert load_job(path).kind == json.loads(text)["kind"]


def test_every_kind_of_job_has_an_example():
    shown = {json.loads(p.values[1])["kind"] for p in blocks("json") if p.values[0] == "docs/reference/data_formats.md"}
    assert shown == {"sample", "relax", "references", "predict", "train", "evaluate", "pseudolabel", "frames", "label"}


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_blocks_run(page, text, aiida_profile, tmp_path, monkeypatch, namespaces, crystals):
    """In a folder with the files that they read; calls with an ellipsis are checked against the signatures."""
    if "(\n    ...," in text:
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        names = known_names()
        checked = 0
        for call in calls:
            function = names.get(ast.unparse(call.func))
            if function is not None and call.keywords:
                assert {keyword.arg for keyword in call.keywords} <= set(inspect.signature(function).parameters), ast.unparse(
                    call
                )
                checked += 1
        assert checked, "nothing of this block is known"
        return
    monkeypatch.chdir(tmp_path)
    rows = [(-8.0, 0.1), (-2.0, 0.9), (0.0, 0.2), (4.0, 0.7), (9.9, 0.3)]
    for name in ("my_target", "metal", "oxygen"):
        (tmp_path / f"{name}.csv").write_text("\n".join(f"{e},{d}" for e, d in rows))
    exec(compile(text, page, "exec"), namespaces.setdefault(page, {}))


def known_names():
    from aiida_dosmatgen.workflows.campaign import CampaignWorkChain

    return {"CampaignWorkChain.get_builder_from_protocol": CampaignWorkChain.get_builder_from_protocol}


@pytest.fixture(scope="module")
def namespaces():
    """The names that the blocks of a page before have made."""
    return {}


def test_the_exit_codes_are_those_of_the_specs():
    spec = importlib.util.spec_from_file_location("make_exit_codes", ROOT / "docs" / "make_exit_codes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = ROOT / "docs" / "reference" / "exit_codes.md"
    assert page.read_text() == module.table(), "run: python docs/make_exit_codes.py"


def test_all_that_aiida_finds_of_this_package_is_listed():
    page = (ROOT / "docs" / "reference" / "processes.md").read_text()
    ours = [one for one in importlib.metadata.distribution("aiida-dosmatgen").entry_points if one.group != "console_scripts"]
    assert len(ours) > 40
    for one in ours:
        named = one.attr if one.group in ("aiida.calculations", "aiida.workflows") else f"`{one.name}`"
        assert named in page or one.group == "aiida.parsers", one
    for module in (between_jobs, within_chains):
        functions = [name for name, value in vars(module).items() if hasattr(value, "run_get_node")]
        assert len(functions) > 3 and not [name for name in functions if f"`{name}`" not in page]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: of headings down to the third level (``myst_heading_anchors``), and those that it names."""
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = set(re.findall(r"^\(([^)\s]+)\)=$", text, re.MULTILINE))
    count: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,3} +(.+?) *$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w-]", "", shown.strip().lower().replace(" ", "-"))
        found.add(f"{slug}-{count[slug]}" if count[slug] else slug)
        count[slug] += 1
    return found


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)[^)]*\)", page.read_text()):
        if link.startswith("http"):
            continue
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_are_there(page):
    """A path in code type is one of the repository, or begins below the package; built pages may be missing."""
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py|\.yaml)?)`", page.read_text()):
        if path.partition("/")[0] in TOP and not path.startswith("docs/_build/"):  # made by sphinx
            assert any((folder / path).exists() for folder in (ROOT, ROOT / "aiida_dosmatgen")), path


def test_all_processes_are_in_the_reference():
    from aiida.plugins import CalculationFactory, WorkflowFactory
    from aiida.plugins.entry_point import get_entry_point_names

    text = (ROOT / "docs" / "reference" / "processes.md").read_text()
    for group, factory in (("aiida.calculations", CalculationFactory), ("aiida.workflows", WorkflowFactory)):
        for name in get_entry_point_names(group):
            if name.startswith("dosmatgen."):
                process = factory(name)
                assert f":: {process.__name__}\n   :module: {process.__module__}\n" in text, name


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    for name in NAMES:
        if name.startswith("docs/") and name != "docs/index.md":
            assert re.search(rf"^{re.escape(name.removeprefix('docs/').removesuffix('.md'))}$", index, re.MULTILINE), name


def test_the_version_has_an_entry_in_the_changelog():
    from aiida_dosmatgen import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
