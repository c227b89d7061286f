"""Who logs in to the database, and how the administrator makes them.

What a role may touch is not here: the migrations grant it. Invariant: no password is ever part of a statement.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from zerosum.errors import Misconfigured, Unavailable
from zerosum.store.table import SERVICES

ROLES = (*SERVICES, "reconciler", "auditor")
"""Who logs in: one role a service, for its own schema; the reconciler, who reads all three and writes its own; and the
auditor, who reads everything. Migrations grant."""

_CONNECT_TIMEOUT_S = 5
"""Loopback answers in milliseconds, a cluster within a second; five and it is away."""


def ensure_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Make every role of `passwords` a login role with that password, whether it exists or not. Idempotent.

    What the roles may touch is granted by the migrations. The password itself is not sent: only what SCRAM derives from
    it, so that no statement, log or statistics view holds it.

    Errors: `Unavailable` when the database is away, `Misconfigured` when the URL's role may not make roles.
    """
    with admin_connection(admin_url) as connection:
        for role, password in passwords.items():
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            found = connection.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone()
            statement = "CREATE ROLE {} WITH {}" if found is None else "ALTER ROLE {} WITH {}"
            rights = sql.SQL("LOGIN NOCREATEDB NOCREATEROLE PASSWORD {}").format(sql.Literal(verifier))
            connection.execute(sql.SQL(statement).format(sql.Identifier(role), rights))


@contextmanager
def admin_connection(url: str) -> Iterator[psycopg.Connection]:
    """A connection of the administrator, each statement its own transaction; `url` is SQLAlchemy's, of either dialect.

    Errors: `Unavailable` when the database is away or the password wrong, `Misconfigured` when it refuses a statement.
    """
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S) as connection:
            yield connection
    except psycopg.OperationalError as away:
        raise Unavailable(f"the database does not let its administrator in: {away}") from away
    except psycopg.Error as refused:
        raise Misconfigured(f"the database refuses what its administrator must do: {refused}") from refused
