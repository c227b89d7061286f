# ruff: noqa: S608 - statements here are made of table names of ours
"""What the reconciler may touch in a migrated database."""

from collections.abc import Mapping

import pytest

from tests.contract.house import session
from tests.contract.test_store_schema import NOT_ALLOWED, TABLES
from zerosum.store.mapping import key_of
from zerosum.store.reconciliation.table import SCHEMA


def test_the_reconciler_reads_the_services_but_no_buyer_and_writes_its_own_schema_only(
    postgres_urls: Mapping[str, str],
) -> None:
    """Design section 2: the reconciler reads all three schemas, read-only; buyer data is not its business."""
    with session(postgres_urls["reconciler"]) as connection:
        for table in TABLES:
            reading = f"SELECT 1 FROM {table.fullname} LIMIT 1".encode()
            if table.info["kind"] == "private":
                with pytest.raises(NOT_ALLOWED):
                    connection.execute(reading)
                continue
            connection.execute(reading)
            column = key_of(table)[0]
            changing = f"UPDATE {table.fullname} SET {column} = {column} WHERE false".encode()
            removing = f"DELETE FROM {table.fullname} WHERE false".encode()
            if table.schema == SCHEMA and table.info["kind"] in ("state", "scratch"):
                connection.execute(changing)
            else:
                with pytest.raises(NOT_ALLOWED):
                    connection.execute(changing)
            if table.info["kind"] == "scratch":
                connection.execute(removing)
            else:
                with pytest.raises(NOT_ALLOWED):
                    connection.execute(removing)
