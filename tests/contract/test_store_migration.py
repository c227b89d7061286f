"""Revisions one by one: the first is frozen for ever, and a database with rows comes from it to the newest."""

import hashlib

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from zerosum.store.migrations import frozen_0001


def test_the_first_revision_is_what_was_released() -> None:
    """A revision that has been released is never edited: databases were made by it. Method: the hash of its DDL."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects come without types
    tables = list(frozen_0001.METADATA.tables.values())
    ddl = [str(CreateTable(table).compile(dialect=dialect)) for table in tables]
    ddl += sorted(str(CreateIndex(index).compile(dialect=dialect)) for table in tables for index in table.indexes)

    digest = hashlib.sha256("".join(" ".join(statement.split()) for statement in ddl).encode()).hexdigest()

    assert digest == "e63a7dd0f69f4fba5fe945d37e811dd35be5d396ff3540073ffe5c853ada7725"
