"""A migration beside running services, ended half way, and run by two at once."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.contract.house import session, through_cockroachdb
from tests.e2e.deadline import until
from zerosum.errors import Misconfigured, Unavailable
from zerosum.store import migrate

GROWING = ("payment.refunds_by_time", "payment.mismatches_by_time")
"""Indexes of revision 0004 on tables that services write to."""


@pytest.fixture(params=[str, through_cockroachdb])
def url(request: pytest.FixtureRequest, new_database: str) -> str:
    """A database at 0003 as it was released, through each dialect."""
    made: Callable[[str], str] = request.param
    migrate.migrate(made(new_database), revision="0003")
    with session(new_database) as admin:
        for index in ("lines_by_id", "items_by_item"):
            admin.execute(f"DROP INDEX reconciliation.{index}".encode())
    return made(new_database)


def test_a_step_that_is_done_stays_done_though_a_later_one_of_its_revision_fails(url: str) -> None:
    """Each step is committed by itself, and the migration goes on where it was ended.

    Method: an index of 0004 has lost its column.
    """
    with session(url) as admin:
        admin.execute(b"ALTER TABLE reconciliation.lines RENAME COLUMN line_id TO away")
        with pytest.raises(Misconfigured):
            migrate.migrate(url)
        half_way = (_revision(admin), [_is_valid(admin, index) for index in GROWING])
        admin.execute(b"ALTER TABLE reconciliation.lines RENAME COLUMN away TO line_id")

        migrate.migrate(url)

        assert half_way == ("0003", [True, True])
        assert (_revision(admin), _is_valid(admin, "reconciliation.lines_by_id")) == (migrate.HEAD, True)


def test_an_index_that_an_ended_try_left_invalid_is_made_anew(url: str) -> None:
    """PostgreSQL keeps what is left of an index whose building was ended: it costs every write, and serves no read."""
    with session(url) as admin:
        migrate.migrate(url, revision="0004")
        admin.execute(b"UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)", [GROWING[0]])
        admin.execute(b"UPDATE schema_revision SET version_num = '0003'")

        migrate.migrate(url)

        assert [_is_valid(admin, index) for index in GROWING] == [True, True]


def test_services_write_while_an_index_of_their_table_waits_to_be_built(url: str) -> None:
    """They give a lock up after a second. Method: a transaction that has written holds the index up, and another one writes."""
    with session(url) as first, session(url) as second, session(url) as admin, ThreadPoolExecutor(1) as pool:
        first.execute(b"BEGIN")
        first.execute(_WRITE, {"id": "first"})
        second.execute(b"SET lock_timeout = 1000")
        running = pool.submit(migrate.migrate, url)
        try:
            until("the migration waits", lambda: running.done() or admin.execute(_WAITING).fetchall())
            second.execute(_WRITE, {"id": "second"})
        finally:
            first.execute(b"COMMIT")
        running.result()

        assert _revision(admin) == migrate.HEAD


def test_two_migrations_at_once_both_end_at_the_newest_revision(new_database: str) -> None:
    """As two hosts of a deployment that start together: one works, the other waits and finds nothing left."""
    command = [sys.executable, "-m", "servers.cli", "migrate"]
    environment = {**os.environ, "ZEROSUM_DATABASE_URL": new_database}

    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    said = [each.communicate(timeout=60)[1] for each in both]

    assert (said, [each.returncode for each in both]) == ([b"", b""], [0, 0])
    with session(new_database) as admin:
        assert _revision(admin) == migrate.HEAD


def test_a_step_gives_a_table_up_that_somebody_reads_for_long(new_database: str) -> None:
    """Behind a step that waits for its lock all services would stand. Method: an hour's snapshot reads what 0002 alters."""
    migrate.migrate(new_database, revision="0001")
    with session(new_database) as reader, session(new_database) as admin:
        reader.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        reader.execute(b"SELECT 1 FROM payment.payment_events")
        with pytest.raises(Unavailable, match="run it again"):
            migrate.migrate(new_database)
        half_way = _revision(admin)
        reader.execute(b"COMMIT")

        migrate.migrate(new_database)

        assert (half_way, _revision(admin)) == ("0001", migrate.HEAD)


def test_a_migration_that_waits_too_long_for_another_one_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was changed by it: it is run again."""
    monkeypatch.setattr(migrate, "TURN_TRIES", 1)
    with session(url) as other:
        other.execute(b"SELECT pg_advisory_lock(%s)", [migrate.TURN])

        with pytest.raises(Unavailable, match="another migration"):
            migrate.migrate(url)

        assert _revision(other) == "0003"


_WRITE = (
    b"INSERT INTO payment.mismatches "
    b"VALUES (0, 't', 'c', %(id)s, 0, 'o', 'late_charge', 'stripe', 'pi', 1, 'USD', '', 'OPEN', 1)"
)
_WAITING = b"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def _revision(admin: psycopg.Connection[tuple[object, ...]]) -> str:
    return ",".join(str(name) for (name,) in admin.execute(b"SELECT version_num FROM schema_revision"))


def _is_valid(admin: psycopg.Connection[tuple[object, ...]], index: str) -> bool:
    found = admin.execute(b"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [index]).fetchall()
    return found == [(True,)]
