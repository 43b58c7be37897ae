"""Of profiles, brokers and daemons: how one is made, what a killed one leaves behind, and what the daemon's client raises."""

from __future__ import annotations

from pathlib import Path

from aiida.engine.daemon.client import DaemonException, DaemonNotRunningException, DaemonStalePidException
from aiida.manage import Profile, get_manager
from aiida.manage.configuration import create_profile

__all__ = ("DaemonException", "DaemonNotRunningException", "DaemonStalePidException", "broker_address", "create_profile")


def broker_address(profile: Profile) -> Path:
    """Return the file in which the ZeroMQ broker of a profile tells workers where it listens."""
    return Path(get_manager().get_config().filepaths(profile)["broker_service"]["dir"]) / "broker.sockets"
