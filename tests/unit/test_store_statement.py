"""Arrays as text, positions as text, and what a database's error lets us believe."""

import re
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table
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
from zerosum.readers import MalformedPosition
from zerosum.store import failure, statement
from zerosum.store.paging import position_of, position_text
from zerosum.store.table import METADATA, PAYMENT_ORDERS

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def parsed(literal: str) -> list[str | None]:
    """PostgreSQL's array syntax, read by the book: one dimension, elements quoted or NULL."""
    assert literal[0] == "{"
    assert literal[-1] == "}"
    found: list[str | None] = []
    rest = literal[1:-1]
    while rest:
        if rest.startswith('"'):
            matched = re.match(r'"((?:[^"\\]|\\.)*)"', rest, re.DOTALL)
            assert matched is not None
            found.append(re.sub(r"\\(.)", r"\1", matched[1], flags=re.DOTALL))
            rest = rest[matched.end() :]
        else:
            assert rest.startswith("NULL")
            found.append(None)
            rest = rest[4:]
        assert rest[:1] in {"", ","}
        rest = rest[1:]
    return found


@given(st.lists(TEXTS | st.none()))
def test_an_array_of_texts_reads_back_as_it_was(values: list[str | None]) -> None:
    """Quotes, commas, braces, backslashes and the word NULL are text like any."""
    assert parsed(statement.text_array(values)) == values


@pytest.mark.parametrize(
    "values", [[], [""], ["", ""], ['"'], ["\\"], ['a","b'], ["NULL"], ["{", "}"], [",", '","', None], ["\n'; --"]]
)
def test_the_shortcut_for_harmless_texts_takes_no_other(values: list[str | None]) -> None:
    """Texts made of the very characters that separate."""
    assert parsed(statement.text_array(values)) == values


def test_other_arrays_are_written_plainly() -> None:
    """Numbers, booleans and bytes; None is NULL."""
    assert statement.int_array([1, -2, None, 2**62]) == "{1,-2,NULL,4611686018427387904}"
    assert statement.bool_array([True, False, None]) == "{t,f,NULL}"
    assert statement.bytes_array([b"\x00\xff", b"", None]) == '{"\\\\x00ff","\\\\x",NULL}'


def test_statements_hold_no_values_and_every_column() -> None:
    """Values are bound: the text of a statement is a function of its table alone."""
    insert = statement.insert(PAYMENT_ORDERS)
    names = [column.name for column in PAYMENT_ORDERS.columns]

    assert insert is statement.insert(PAYMENT_ORDERS)
    assert [name for name, _ in insert.columns] == names
    assert insert.plain.query.names == tuple(names)
    assert b"'" not in insert.plain.query.sql


def test_an_update_leaves_the_key_and_fixed_columns_alone() -> None:
    """What is written once is not even sent again."""
    update = statement.update(PAYMENT_ORDERS, frozenset({"amount", "amount_minor"}))

    assert b'"amount" =' not in update.plain.query.sql
    assert b'"slot" = u."slot",' not in update.plain.query.sql
    assert b'"reason" = u."reason"' in update.plain.query.sql


def test_cockroachdb_sees_the_slots_beside_the_join_and_postgresql_does_not() -> None:
    """Constrained spans for the one; for the other the array would be sorted for every row."""
    update = statement.update(PAYMENT_ORDERS, frozenset({"amount", "amount_minor"}))
    rows = [{name: 1 if name == "slot" else None for name, _ in update.columns}]
    spans = re.compile(rb"= ANY\(CAST\(\$\d+ AS INT4\[\]\)\)")

    assert spans.search(update.call(rows, with_spans=True).sql)
    assert update.call(rows, with_spans=True).values[-1] == "{1}"
    assert not spans.search(update.call(rows, with_spans=False).sql)


# ---- positions -----------------------------------------------------------------------------------------------------


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.text(st.characters(categories=["L", "N", "P"]), max_size=20))
def test_a_position_reads_back_as_it_was(number: int, name: str) -> None:
    """And is ASCII, whatever it holds."""
    after = position_text("checkouts", (number, name))

    assert after.isascii()
    assert position_of("checkouts", after) == [number, name]


@given(st.text())
def test_no_text_makes_a_position_of_other_parts(after: str) -> None:
    """Whatever comes in: a position of the right parts, or MalformedPosition."""
    try:
        found = position_of("checkouts", after)
    except MalformedPosition:
        return
    assert found is None or (type(found[0]), type(found[1])) == (int, str)


# ---- errors --------------------------------------------------------------------------------------------------------


def database_error(sqlstate: str | None, kind: type[psycopg.Error] = psycopg.OperationalError) -> DBAPIError:
    error = kind("Failing row contains (Ada, ada@example.com)")
    error.sqlstate = sqlstate
    return DBAPIError("SELECT 1", {}, error)


BEFORE: dict[str | None, type[ZerosumError]] = {
    "40001": SerializationConflict, "40P01": SerializationConflict, "55P03": SerializationConflict,
    "22003": RowsRefused, "22021": RowsRefused, "23502": RowsRefused, "23505": RowsRefused, "23514": RowsRefused,
    "42501": Misconfigured, "42P01": Misconfigured, "28P01": Misconfigured, "3D000": Misconfigured,
    "08006": Unavailable, "53100": Unavailable, "53300": Unavailable, "57014": Unavailable, "57P01": Unavailable,
    "57P03": Unavailable, "40003": Unavailable, "25P03": Unavailable, "XX000": Unavailable, None: Unavailable,
}  # fmt: skip


@pytest.mark.parametrize("state", BEFORE)
def test_an_error_before_commit_says_that_nothing_was_committed(state: str | None) -> None:
    """D1, D3, D6: by SQLSTATE, and never with a row in the message."""
    raised = failure.before_commit(database_error(state))

    assert type(raised) is BEFORE[state]
    assert "Ada" not in str(raised)


@pytest.mark.parametrize("state", BEFORE)
def test_an_error_at_commit_is_believed_only_where_the_server_announces_the_abort(state: str | None) -> None:
    """D2: 40001, 40P01 and a constraint; all else is in doubt."""
    certain: dict[str | None, type[ZerosumError]] = {
        "40001": SerializationConflict, "40P01": SerializationConflict,
        "23502": RowsRefused, "23505": RowsRefused, "23514": RowsRefused,
    }  # fmt: skip

    raised = failure.at_commit(database_error(state))

    assert type(raised) is certain.get(state, CommitAmbiguous)


def test_errors_of_the_driver_and_the_pool_have_their_names_too() -> None:
    """A value the driver itself refuses, a full pool, a lone surrogate, a network error."""
    surrogate = UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")
    cases: list[tuple[Any, type[ZerosumError]]] = [
        (database_error(None, psycopg.DataError), RowsRefused),
        (psycopg.DataError("NUL"), RowsRefused),
        (psycopg.OperationalError("the connection is closed"), Unavailable),
        (PoolTimeout("QueuePool limit"), Unavailable),
        (surrogate, RowsRefused),
        (ConnectionResetError("reset"), Unavailable),
    ]

    assert [type(failure.before_commit(error)) for error, _ in cases] == [kind for _, kind in cases]
    assert failure.quotes_rows(RowsRefused("x"))
    assert not failure.quotes_rows(Unavailable("x"))


def test_only_rows_that_the_fence_alone_numbers_are_inserted_without_asking_for_others() -> None:
    """Whatever else is unique in a table may be there before: such a row must be skipped and told, not raised."""
    blunt = {name for name, table in METADATA.tables.items() if "ON CONFLICT" not in _insert_text(table)}

    assert blunt == {"payment.slot_log", "payment.refusals", "wallet.slot_log", "ledger.slot_log", "ledger.entries"}


def _insert_text(table: Table) -> str:
    return statement.insert(table).plain.query.sql.decode()
