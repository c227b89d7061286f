"""What a database must be before it may hold money: settings, isolation, roles.

`complaints` is the rule, over plain values; `preflight` reads the values and refuses. The same check serves PostgreSQL
and CockroachDB, which always syncs its log and has no such switches: of it only isolation and roles are asked.

Invariant: nothing is served from a database that could forget a commit, show a torn page or allow a write skew.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from zerosum.errors import Misconfigured
from zerosum.store.role import ROLES


@dataclass(frozen=True, slots=True)
class _Requirement:
    allowed: frozenset[str]
    danger: str
    is_postgres_only: bool = True


_REQUIRED: Mapping[str, _Requirement] = {
    "fsync": _Requirement(frozenset({"on"}), "a power cut could lose or corrupt committed money"),
    "full_page_writes": _Requirement(frozenset({"on"}), "a power cut could leave half-written pages"),
    # The other values differ only in what they wait for at replicas; each of them waits for our own disk first.
    "synchronous_commit": _Requirement(
        frozenset({"on", "local", "remote_write", "remote_apply"}), "a payment could be acknowledged and then forgotten"
    ),
    "data_checksums": _Requirement(frozenset({"on"}), "a page damaged on disk would be read as if it were true"),
    "transaction_isolation": _Requirement(
        frozenset({"serializable"}), "two transactions could each be right and together wrong", is_postgres_only=False
    ),
}


def preflight(connection: Connection) -> None:
    """Refuse a database that is not fit for money. Async callers: `await connection.run_sync(preflight)`.

    Looks at this connection as it is, so that an isolation level set by its engine or its role counts. Reads only;
    the transaction it reads in is the caller's to end.

    Errors: `Misconfigured` naming every complaint at once; nothing was written, no money moved.
    """
    version = str(connection.execute(text("SELECT version()")).scalar_one())
    settings = {
        name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in _required_of(version)
    }  # the names are ours, and SHOW takes no parameters
    roles = {str(name) for name in connection.execute(text("SELECT rolname FROM pg_catalog.pg_roles")).scalars()}

    found = complaints(version, settings, roles)
    if found:
        raise Misconfigured("the database is not fit for money: " + "; ".join(found))


def complaints(version: str, settings: Mapping[str, str], roles: Collection[str]) -> list[str]:
    """What speaks against this database, one sentence each; empty = fit.

    `version` is what `version()` says. A setting that is not there counts as wrong.
    """
    found = []
    for name, requirement in _required_of(version).items():
        value = settings.get(name, "unknown")
        if value not in requirement.allowed:
            found.append(f"{name} is {value}: {requirement.danger}")
    return found + [f"role {role} is missing: no service may log in as another" for role in ROLES if role not in roles]


def _required_of(version: str) -> Mapping[str, _Requirement]:
    is_postgres = "CockroachDB" not in version
    return {
        name: requirement for name, requirement in _REQUIRED.items() if is_postgres or not requirement.is_postgres_only
    }
