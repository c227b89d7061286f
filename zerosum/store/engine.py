"""Connections: one way to open them for PostgreSQL and CockroachDB, with every limit stated.

Invariant: every connection is SERIALIZABLE and gives up by itself: no lock, statement, idle transaction or dead peer holds
anybody for longer than the limits here.
"""

from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from zerosum.errors import Misconfigured

LOCK_TIMEOUT_MS = 1_000
STATEMENT_TIMEOUT_MS = 5_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 5_000
TCP_TIMEOUT_MS = 5_000
"""Design section 7. A lock is held for one commit, some 10 ms: a second of waiting means that its holder has stopped."""

SNAPSHOT_IDLE_TIMEOUT_MS = 60_000
"""The reconciler's snapshot waits while a step is judged and committed: some 100 ms; a minute and it is dead."""

CONNECT_TIMEOUT_S = 5
POOL_WAIT_S = 2
"""Bounded waits: a caller hears Unavailable after 2 s without a free connection, as long as a waiter is silent."""

SHARD_CONNECTIONS = 4
READER_CONNECTIONS = 8
"""A shard commits, loads and sweeps at once, with one to spare. Readers: 33 reads/s x 5 ms = 0.2 busy; 8 is room for bursts."""

_UNREADABLE = "the database URL cannot be read; a port is a number, and @ in a password is written %40"

_DRIVERS = {"postgresql": "postgresql+psycopg", "cockroachdb": "cockroachdb+psycopg"}


def database_url(url: str) -> URL:
    """The URL with our driver: `postgresql://` and `cockroachdb://` become psycopg. Raises Misconfigured on any other."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise Misconfigured(_UNREADABLE) from None  # its text holds the password
    if "@" in (parsed.host or ""):  # the second half of the password
        raise Misconfigured(_UNREADABLE)
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise Misconfigured(f"the database URL is of {backend}: only postgresql and cockroachdb are served")
    return parsed.set(drivername=_DRIVERS[backend])


def open_engine(
    url: str, *, connections_max: int, is_for_looks: bool = False, idle_timeout_ms: int = IDLE_IN_TRANSACTION_TIMEOUT_MS
) -> AsyncEngine:
    """An engine of at most so many connections, none of which is opened yet. Raises Misconfigured on a URL of another kind.

    Transactions are SERIALIZABLE, all of them. `is_for_looks`: single statements outside of one are READ COMMITTED, so
    that readers never make a writer's commit fail. `idle_timeout_ms`: how long a transaction may wait between statements.
    """
    parsed = database_url(url)
    return create_async_engine(
        parsed,
        isolation_level="SERIALIZABLE",
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args=connect_args(parsed, is_for_looks=is_for_looks, idle_timeout_ms=idle_timeout_ms),
    )


def connect_args(
    url: URL, *, is_for_looks: bool = False, idle_timeout_ms: int = IDLE_IN_TRANSACTION_TIMEOUT_MS
) -> dict[str, Any]:
    """What every connection is opened with."""
    settings = {
        "default_transaction_isolation": "read\\ committed" if is_for_looks else "serializable",
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": idle_timeout_ms,
    }
    if url.get_backend_name() == "postgresql":
        # A sequential scan, a hash or a merge reads rows that nobody asked for, and SERIALIZABLE then sees conflicts
        # between batches that share no row.
        settings |= {
            "enable_seqscan": "off",
            "enable_bitmapscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
        }
        if not is_for_looks:
            # All a shard sends is by key over arrays: the plan never depends on the values, and planning costs as much as
            # running (30 % of the database's CPU in small batches).
            settings["plan_cache_mode"] = "force_generic_plan"
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives": 1,
        "keepalives_idle": TCP_TIMEOUT_MS // 1_000,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": TCP_TIMEOUT_MS,
        "prepare_threshold": None,  # what is prepared is kept by `wire.py`; the driver would throw it away at a ROLLBACK
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }
