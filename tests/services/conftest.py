"""A profile on PostgreSQL and RabbitMQ, both private."""

import pytest

from . import postgres as postgres_service
from . import rabbitmq as rabbitmq_service


@pytest.fixture(scope="package")
def postgres():
    """A running PostgreSQL."""
    reason = postgres_service.why_not()
    if reason:
        pytest.skip(reason)
    server = postgres_service.PrivatePostgres()
    yield server
    server.close()


@pytest.fixture(scope="package")
def rabbitmq():
    """A running RabbitMQ."""
    reason = rabbitmq_service.why_not()
    if reason:
        pytest.skip(reason)
    server = rabbitmq_service.PrivateRabbitMQ()
    yield server
    server.close()


@pytest.fixture(scope="package")
def storage_config(postgres, tmp_path_factory):
    """The configuration of a ``core.psql_dos`` storage with an empty database."""
    return {**postgres.create_database("campaigns"), "repository_uri": tmp_path_factory.mktemp("repository").as_uri()}


@pytest.fixture(scope="package")
def broker_config(rabbitmq):
    """The configuration of a ``core.rabbitmq`` broker."""
    return rabbitmq.configuration
