"""A cluster, and a profile that has it as a computer."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from aiida.engine.daemon.client import get_daemon_client
from click.testing import CliRunner

from aiida_dosmatgen import setup
from aiida_dosmatgen.cmdline.main import main

from ..campaigns import configure, start_daemon
from . import campaigns
from .loopback import LoopbackCluster, why_not


def pytest_collection_modifyitems(items):
    """Put the tests that empty the profile behind those that need what is in it."""
    here = [index for index, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted((items[index] for index in here), key=lambda item: "aiida_profile_clean" in item.fixturenames)
    for index, item in zip(here, ordered, strict=True):
        items[index] = item


@pytest.fixture(scope="session")
def cluster():
    """A running cluster."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="dosmatgen-"))  # not below pytest's own, which no other account may enter
    folder.chmod(0o755)
    cluster = LoopbackCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def answers(cluster):
    """What a user writes into the YAML file; the engine is installed for the cluster's account."""
    return campaigns.answers(cluster, cluster.install_engine())


@pytest.fixture(scope="session")
def home(cluster, tmp_path_factory):
    """A home whose ``~/.ssh/config`` knows the cluster."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".ssh").mkdir(mode=0o700)
    shutil.copy(cluster.keys / "config", folder / ".ssh" / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        yield folder


def set_up_computer(content: dict, folder: Path):
    """Run ``aiida-dosmatgen setup computer`` on a YAML file."""
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(content))
    return CliRunner().invoke(main, ["setup", "computer", "--config", str(file)], catch_exceptions=False)


@pytest.fixture(scope="package")
def profile(cluster, answers, home, tmp_path_factory, aiida_config_factory, aiida_profile_factory):
    """A profile with everything that a campaign on the cluster needs, and a running daemon."""
    folder = tmp_path_factory.mktemp("profile")
    with (
        aiida_config_factory(folder) as config,
        aiida_profile_factory(config, broker_backend="core.zeromq") as profile,
    ):
        # from two seconds on, and so often that it lasts about as long as the five tries from twenty on that are AiiDA's own
        config.set_option("transport.task_retry_initial_interval", 2, scope=profile.name)
        config.set_option("transport.task_maximum_attempts", 8, scope=profile.name)
        configure(config, profile)
        result = set_up_computer(answers, folder)
        assert result.exit_code == 0, result.output
        setup.ensure_pseudo_family()
        setup.ensure_models()
        start_daemon()
        try:
            yield profile
        finally:
            with contextlib.suppress(Exception):
                get_daemon_client().stop_daemon(wait=True)
