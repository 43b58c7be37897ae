"""The layers of the package: the import contracts of pyproject.toml, and imports in a process without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_import_contracts_are_kept():
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


IMPORT_ALL = """
import builtins, importlib, pkgutil, sys

forbidden = {forbidden!r}

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in forbidden or name in forbidden:
            raise ModuleNotFoundError(name + " is behind the wall", name=name)

sys.meta_path.insert(0, Wall())
count = 0
for package in {packages!r}:
    module = importlib.import_module("aiida_dosmatgen." + package)
    for found in pkgutil.walk_packages(module.__path__, module.__name__ + "."):
        importlib.import_module(found.name)
        count += 1
assert not forbidden & set(sys.modules), forbidden & set(sys.modules)
print(count)
"""

AIIDA_SIDE = ("aiida_internals", "data", "calculations", "parsers", "workflows", "tools", "setup", "report", "cmdline")
ENGINE_ONLY = ("torch", "torch_geometric", "mace", "e3nn", "safetensors", "aiida_dosmatgen.engine")
AIIDA_ONLY = ("aiida", "aiida_quantumespresso", "aiida_pseudo", "aiida_dosmatgen.data", "aiida_dosmatgen.workflows")


@pytest.mark.parametrize(
    ("packages", "forbidden"),
    [
        (
            ("core", "aiida_internals", "data", "calculations", "parsers", "workflows", "tools", "setup", "report", "cmdline"),
            ENGINE_ONLY,
        ),
        (("core", "engine"), AIIDA_ONLY),
        (("core",), (*ENGINE_ONLY, *AIIDA_ONLY, "pymatgen")),
    ],
    ids=["a workstation has no torch", "a compute node has no AiiDA", "core has neither"],
)
def test_modules_import_without_the_other_side(packages, forbidden):
    program = IMPORT_ALL.format(packages=packages, forbidden=set(forbidden))
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 3


def test_the_command_line_of_the_engine_starts_without_torch():
    program = "import sys, aiida_dosmatgen.engine.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
