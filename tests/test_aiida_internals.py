"""What this package takes of aiida-core beyond its public API: whether it is still there, and that it is taken in one place."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from aiida.common import AIIDA_LOGGER
from aiida.engine import CalcJob, CalcJobProcessSpec, InputPort, WorkChain
from aiida.orm import CalcJobNode
from aiida.plugins import SchedulerFactory

from aiida_dosmatgen.data.crystals import CrystalSetData

ROOT = Path(__file__).parents[1] / "aiida_dosmatgen"
INTERNALS = "aiida_internals"

SIGNATURES = {
    "aiida.common.folders:Folder.__init__": "(self, abspath, folder_limit=None)",
    "aiida.engine.processes.workchains.workchain:WorkChain._action_awaitables": "(self)",
    "aiida.engine.processes.workchains.workchain:WorkChain._on_awaitable_finished": "(self, awaitable)",
    "aiida.engine.processes.workchains.workchain:WorkChain.load_instance_state": "(self, saved_state, load_context)",
    "aiida.engine.processes.process:Process.get_or_create_db_record": "()",
    "aiida.engine.runners:Runner.call_on_process_finish": "(self, pk, callback)",
    "aiida.manage.configuration:create_profile": (
        "(config, *, storage_backend, storage_config, broker_backend=None, broker_config=None, name, email, first_name=None, "
        "last_name=None, institution=None, is_test_profile=False)"
    ),
    "aiida.manage.configuration.config:Config.filepaths": "(self, profile)",
    "aiida.orm.nodes.process.process:ProcessNodeCaching.get_objects_to_hash": "(self)",
    "plumpy.processes:Process.recreate_from": "(saved_state, load_context=None)",
    "plumpy.processes:Process.step_until_terminated": "(self)",
}


def found(name):
    """Return what ``module:Class.attribute`` names."""
    module, _, path = name.partition(":")
    value = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_as_they_were(name):
    parameters = inspect.signature(found(name)).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    assert str(inspect.Signature(bare)) == SIGNATURES[name]


def test_a_work_chain_waits_as_it_did():
    """The two methods that are extended are called at the two moments that they are meant for, with the same list."""
    assert "self._action_awaitables()" in inspect.getsource(WorkChain.on_wait)
    assert "self._action_awaitables()" in inspect.getsource(WorkChain.load_instance_state)
    assert "self._resolve_awaitable(awaitable" in inspect.getsource(WorkChain._on_awaitable_finished)
    assert "self._awaitables = []" in inspect.getsource(WorkChain._do_step)


def test_a_worker_makes_a_process_of_a_task_as_it_did():
    """What :class:`OneWorkerMixin` takes the place of: a worker asks what it gets for no more than these."""
    launch = inspect.getsource(found("plumpy.process_comms:ProcessLauncher._continue"))
    for call in ("saved_state.unbundle(self._load_context)", "await proc.step_until_terminated()", "proc.future().result()"):
        assert call in launch
    assert "load_cls.recreate_from(saved_state, load_context)" in inspect.getsource(found("plumpy.persistence:Savable.load"))


def test_a_hash_leaves_inputs_out_by_the_list_that_is_extended():
    caching = CalcJobNode().base.caching
    assert caching._hash_ignored_inputs == ["CALL_CALC", "CALL_WORK"]
    assert "not in self._hash_ignored_inputs" in inspect.getsource(found("aiida.orm.nodes.process.process:ProcessNodeCaching"))


def test_a_hash_knows_no_rule_of_a_class_of_jobs_yet():
    """Where this fails, aiida-core has begun to let jobs or ports say what is hashed: ``leave_out_of_hash`` can go then."""
    for one in (CalcJob, InputPort, CalcJobProcessSpec):
        assert not [name for name in dir(one) if "hash" in name.lower() and not name.startswith("__")]
    assert not [name for name in inspect.signature(InputPort.__init__).parameters if "hash" in name or "cach" in name]
    for cls in type(CalcJobNode().base.caching).__mro__[:-1]:
        for method in ("get_objects_to_hash", "_compute_hash"):
            source = inspect.getsource(getattr(cls, method))
            assert "process_class" not in source and "spec" not in source


def test_a_broker_tells_its_address_where_it_did():
    assert "service_dir / 'broker.sockets'" in inspect.getsource(importlib.import_module("aiida.brokers.zeromq.service"))


def test_the_daemon_raises_what_it_did():
    raised = importlib.import_module("aiida.engine.daemon.client")
    for name in ("DaemonNotRunningException", "DaemonStalePidException"):
        assert issubclass(getattr(raised, name), raised.DaemonException)


def test_fields_are_known_to_queries():
    assert CrystalSetData.fields.sha256.backend_key == "attributes.sha256"
    assert CrystalSetData.fields.n_crystals.dtype is int


def test_what_is_public_does_what_it_did():
    """Public names whose content matters: the validator of jobs, the methods of a scheduler, the logger's name."""
    assert CalcJob.spec().inputs.validator.__name__ == "validate_calc_job"
    ours = SchedulerFactory("dosmatgen.slurm_allocation")
    for name in [name for name in vars(ours) if name.startswith("_") and not name.startswith("__") and name != "_logger"]:
        assert hasattr(SchedulerFactory("core.slurm"), name), name
    assert AIIDA_LOGGER.name == "aiida"


# --- and nowhere else ---------------------------------------------------------------------------------------------------

PUBLIC_ALL_THE_SAME = {"aiida.orm", "aiida.cmdline.params.options"}  # aiida-core's page on its public API says so
FOR_PLUGINS = {"_validate", "_process_class", "_parse_submit_output", "_node"}  # to be defined, or used, by a plugin
PLUGINS = ("aiida", "plumpy")


def modules():
    """Return all modules but the internals, and their trees."""
    for path in sorted(ROOT.rglob("*.py")):
        if INTERNALS not in path.parts and "engine" not in path.relative_to(ROOT).parts[:1]:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_only_public_names_are_imported_elsewhere():
    wrong = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.level or (node.module or "").split(".")[0] not in PLUGINS:
                continue
            public = getattr(importlib.import_module(node.module), "__all__", ()) if node.module.count(".") < 2 else ()
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if alias.name not in public and name not in PUBLIC_ALL_THE_SAME:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not wrong


def test_private_names_elsewhere_are_our_own():
    ours = set(FOR_PLUGINS)
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                ours.add(node.attr)
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.attr}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if node.attr not in ours
    ]
    assert not wrong
