"""Bringing a database to this revision, and refusing to work on another one.

Only the administrator's URL migrates: the supervisor on the embedded database, `zerosum migrate` elsewhere. Revisions expand
first and contract later, one DDL statement a step, each step safe to run again; no revision changes rows and schema at once.
A step is committed by itself: a migration that was ended half way is run again, and goes on.

Invariants: a server works on the revision it was built for, or not at all; no step holds a service up for as long as it waits
for a lock.
"""

import time
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from zerosum.errors import Misconfigured, SerializationConflict, Unavailable
from zerosum.store import failure
from zerosum.store.database import Database
from zerosum.store.engine import database_url
from zerosum.store.wire import compiled

HEAD = "0006"
"""The newest revision: a constant, so that a server need not load Alembic (0.6 s) to know it. A test holds it to the files."""

_PORT = 5432
"""Where a URL says none."""

VERSION_TABLE = "schema_revision"

STEP_LOCK_TIMEOUT_MS: Final = 500
"""Whoever comes behind a step that waits for its lock waits, too: half of what a service does (`engine.LOCK_TIMEOUT_MS`)."""

TURN: Final = int.from_bytes(b"zerosum", "big")
"""Of the advisory lock: one migration at a time works on a database."""

TURN_TRIES = 300
_TURN_PAUSE_S: Final = 0.2
"""A minute. Who waits asks again and again: a lock that is waited for holds a snapshot, and an index that is built beside the
services waits for every snapshot to end."""


def migrate(admin_url: str, *, revision: str = HEAD) -> None:
    """Brings the database to HEAD, or to an earlier `revision`; run again, it changes nothing.

    Roles that are missing are made without a password; grants go to payment, wallet, ledger, reconciler and auditor.
    Raises Unavailable (away: host, port and cause, never the password; a table or the whole database is somebody else's for
    too long: run it again, it goes on), Misconfigured (the database refuses a step).
    """
    from alembic import command
    from alembic.config import Config

    url = database_url(admin_url)
    engine = create_engine(
        url,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        connect_args={"options": f"-c lock_timeout={STEP_LOCK_TIMEOUT_MS}"},
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    try:
        with engine.connect() as connection:
            _take_turn(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except DBAPIError as error:
        raised = failure.before_commit(error)
        if error.connection_invalidated or error.statement is None:  # it never answered, or went away
            raise Unavailable(f"no connection to the database at {_place_of(url)}: {_cause_of(error)}") from error
        if isinstance(raised, SerializationConflict):
            state = failure.sqlstate(error)
            raise Unavailable(
                f"somebody else is at work on what a migration changes ({state}): run it again"
            ) from error
        if isinstance(raised, Unavailable):
            raise raised from error
        raise Misconfigured(f"the database refuses a migration ({failure.sqlstate(error)})") from error
    finally:
        engine.dispose()


def is_postgres(connection: Connection) -> bool:
    """PostgreSQL itself, not CockroachDB, which has no triggers and no advisory locks, and builds any index beside writers."""
    return "CockroachDB" not in str(connection.execute(text("SELECT version()")).scalar_one())


def _take_turn(connection: Connection) -> None:
    """Waits until no other migration is at work here. The turn ends with the connection. Raises Unavailable.

    CockroachDB has no such lock: of two at once one may fail there, and goes on when it is run again.
    """
    if not is_postgres(connection):
        return
    for _ in range(TURN_TRIES):
        if connection.execute(text("SELECT pg_try_advisory_lock(:turn)"), {"turn": TURN}).scalar_one():
            # Some 250 commits, none of them waited for: what is lost with the machine is lost from its end, and is run again.
            # The next commit of anybody makes all of it durable, before any row can rely on it.
            connection.execute(text("SET synchronous_commit = off"))
            return
        time.sleep(_TURN_PAUSE_S)
    raise Unavailable("another migration is at work on this database: run it again when that one has ended")


def _place_of(url: URL) -> str:
    """Hosts and ports. Several stand in the query, each with its port."""
    if url.host:
        return f"{url.host}:{url.port or _PORT}"
    named = url.query.get("host", "this machine's socket")
    return named if isinstance(named, str) else ", ".join(named)


def _cause_of(error: DBAPIError) -> str:
    """The first thing the driver said, without the place: it speaks of hosts, roles and databases, never of passwords."""
    said = str(error.orig).strip().partition("\n")[0]
    return said.rpartition(" failed: ")[2].removeprefix("FATAL:").strip() or type(error.orig).__name__


async def require_revision(database: Database) -> None:
    """Raises Misconfigured when the database is at another revision than HEAD, Unavailable when it is away."""
    try:
        rows = await database.look(_REVISION)
    except Misconfigured as missing:
        raise Misconfigured(f"the database was never migrated, or this role may not look; wanted {HEAD}") from missing
    found = ",".join(sorted(name for (name,) in rows)) or "none"
    if found != HEAD:
        raise Misconfigured(f"the database is at revision {found}; this server wants {HEAD}: run the migrations")


_REVISION = compiled(text(f"SELECT version_num FROM {VERSION_TABLE}")).call()  # noqa: S608 - a name of ours
