"""What a database's error lets us believe: SQLSTATE to the errors of `errors.py`, before COMMIT and at COMMIT.

    40001, 40P01, 55P03 (lock)        SerializationConflict     nothing was committed; the same again may pass
    class 22, 23                      RowsRefused               nothing was committed; some row is at fault
    class 42, 28, 3D000               Misconfigured             nothing was committed; schema, grant or name is wrong
    anything else before COMMIT       Unavailable               nothing was committed
    anything else at COMMIT           CommitAmbiguous           the command rows decide

Invariant: messages carry the SQLSTATE and names of tables and constraints, never values: PostgreSQL's own text quotes the
failing row, so an error about rows is raised without its cause.
"""

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from zerosum.errors import (
    CommitAmbiguous,
    Misconfigured,
    RowsRefused,
    SerializationConflict,
    Unavailable,
    ZerosumError,
)

CONFLICTS = frozenset({"40001", "40P01"})
LOCK_TIMEOUT = "55P03"

DATABASE_ERRORS = (DBAPIError, psycopg.Error, PoolTimeout, UnicodeEncodeError, OSError)
"""What a call into the driver may raise. UnicodeEncodeError: a lone surrogate in a text."""

DatabaseTrouble = DBAPIError | psycopg.Error | PoolTimeout | UnicodeEncodeError | OSError


def before_commit(error: DatabaseTrouble) -> ZerosumError:
    """What to raise when a statement failed and COMMIT was not sent."""
    if isinstance(error, UnicodeEncodeError):
        return RowsRefused("a text cannot be stored: it is not valid Unicode")
    if isinstance(error, PoolTimeout):
        return Unavailable("no database connection became free in time")
    if isinstance(error, OSError):
        return Unavailable(f"the database cannot be reached: {type(error).__name__}")
    state = sqlstate(error)
    if state in CONFLICTS or state == LOCK_TIMEOUT:
        return SerializationConflict(f"the database asks for another order of things ({state})")
    if state[:2] in {"22", "23"} or (not state and _is_data(error)):
        return RowsRefused(f"some row cannot be stored ({_where(error, state)})")
    if state[:2] in {"42", "28"} or state == "3D000":
        return Misconfigured(f"the database is not as this revision wants it ({_where(error, state)})")
    return Unavailable(f"the database did not carry it out ({_where(error, state)})")


def at_commit(error: DatabaseTrouble) -> ZerosumError:
    """What to raise when COMMIT itself failed: only an abort that the server itself announces is believed."""
    state = sqlstate(error)
    if state in CONFLICTS or state[:2] == "23":
        return before_commit(error)
    return CommitAmbiguous(f"the connection or the server failed at COMMIT ({state or type(error).__name__})")


def sqlstate(error: DatabaseTrouble) -> str:
    """Five characters, or "" where the server did not get to speak."""
    state = getattr(_driver_error(error), "sqlstate", None)
    return state if isinstance(state, str) else ""


def quotes_rows(error: ZerosumError) -> bool:
    """The driver's error may quote a stored row: it must not be chained."""
    return isinstance(error, RowsRefused)


def _is_data(error: DatabaseTrouble) -> bool:
    """The driver itself refused a value (a NUL in a text) before sending it."""
    return isinstance(_driver_error(error), psycopg.DataError)


def _where(error: DatabaseTrouble, state: str) -> str:
    cause = _driver_error(error)
    diag = getattr(cause, "diag", None)
    names = (getattr(diag, name, None) for name in ("table_name", "constraint_name"))
    return " ".join([state or type(cause).__name__, *(name for name in names if name)])


def _driver_error(error: DatabaseTrouble) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error
