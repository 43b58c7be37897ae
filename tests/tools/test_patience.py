"""A database that is locked for a while, by a real lock of sqlite."""

import sqlite3

import pytest
from aiida import orm
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from aiida_dosmatgen.tools.patience import patiently


@pytest.fixture
def locked(tmp_path):
    """A database with a number in it, and the connection that has locked it."""
    path = tmp_path / "numbers.sqlite"
    owner = sqlite3.connect(path, isolation_level=None)
    owner.execute("CREATE TABLE numbers (value INTEGER)")
    owner.execute("INSERT INTO numbers VALUES (42)")
    owner.execute("BEGIN EXCLUSIVE")
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    yield engine, owner
    engine.dispose()
    owner.close()


def test_a_lock_that_is_released_is_waited_for(aiida_profile, locked):
    engine, owner = locked
    looks = 0

    def look():
        nonlocal looks
        looks += 1
        if looks == 3:
            owner.execute("ROLLBACK")
        with engine.connect() as connection:
            return connection.execute(text("SELECT value FROM numbers")).scalar_one()

    assert patiently(look, pause=0.01) == 42
    assert looks == 3
    orm.QueryBuilder().append(orm.Node).count()  # AiiDA's own session answers, too


def test_a_lock_that_stays_is_an_error(aiida_profile, locked):
    engine, _ = locked
    with pytest.raises(OperationalError, match="database is locked"), engine.connect() as connection:
        patiently(lambda: connection.execute(text("SELECT value FROM numbers")).scalar_one(), attempts=3, pause=0.01)
