"""How the composition root opens a store or reader: by the name of the service and a URL.

Invariant: no connection is opened before the first use, and everything opened here has `close`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

from zerosum.errors import Misconfigured
from zerosum.ports import Dialect
from zerosum.store.catalog import aggregate_of
from zerosum.store.database import Database
from zerosum.store.engine import READER_CONNECTIONS, SHARD_CONNECTIONS, SNAPSHOT_IDLE_TIMEOUT_MS, open_engine
from zerosum.store.ledger_reader import SqlLedgerReader
from zerosum.store.memory import memory_store
from zerosum.store.payment_reader import SqlPaymentReader
from zerosum.store.reconciliation.store import Reconciliation, ReconciliationPolicy
from zerosum.store.sql import SqlStore
from zerosum.store.wallet_reader import SqlWalletReader

__all__ = ["memory_store", "open_reader", "open_reconciliation", "open_store"]


def open_store(service: str, url: str) -> SqlStore[Any]:
    """The store of "payment", "wallet" or "ledger" at a postgresql:// or cockroachdb:// URL; `await store.close()` ends it.

    Raises Misconfigured on another service or URL.
    """
    aggregate = aggregate_of(service)
    return SqlStore(Database(open_engine(url, connections_max=SHARD_CONNECTIONS)), aggregate)


def open_reconciliation(
    url: str, dialects: Mapping[str, Dialect], policy: ReconciliationPolicy | None = None
) -> Reconciliation:
    """The reconciler's store at a URL of its role; `await it.close()` ends it. `dialects`: how each PSP's files are read.

    Raises Misconfigured on another URL.
    """
    database = Database(open_engine(url, connections_max=READER_CONNECTIONS))
    snapshots = open_engine(url, connections_max=1, idle_timeout_ms=SNAPSHOT_IDLE_TIMEOUT_MS)
    long_reads = Database(snapshots, database.traffic)
    return Reconciliation(database, long_reads, dialects, policy or ReconciliationPolicy())


@overload
def open_reader(service: Literal["payment"], url: str) -> SqlPaymentReader: ...
@overload
def open_reader(service: Literal["wallet"], url: str) -> SqlWalletReader: ...
@overload
def open_reader(service: Literal["ledger"], url: str) -> SqlLedgerReader: ...
def open_reader(service: str, url: str) -> SqlPaymentReader | SqlWalletReader | SqlLedgerReader:
    """The reader of a service; `await reader.close()` ends it. Raises Misconfigured on another service or URL."""
    reader = _READERS.get(service)
    if reader is None:
        raise Misconfigured(f"there is no service {service}")
    return reader(Database(open_engine(url, connections_max=READER_CONNECTIONS, is_for_looks=True)))


_AnyReader = SqlPaymentReader | SqlWalletReader | SqlLedgerReader

_READERS: Mapping[str, Callable[[Database], _AnyReader]] = {
    "payment": SqlPaymentReader,
    "wallet": SqlWalletReader,
    "ledger": SqlLedgerReader,
}
