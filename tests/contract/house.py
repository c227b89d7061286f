"""The databases the contract suite runs on, and what a test does there.

    memory         the memory store, on a clock moved by hand
    postgresql     embedded PostgreSQL, by its own dialect, each service by its own role
    cockroachdb    the same server through the CockroachDB dialect: the whole SQL surface
    cluster        a real CockroachDB cluster, when ZEROSUM_TEST_COCKROACH_URL names one: not part of an ordinary run

Tests share a database and are kept apart by tenants of their own.
"""

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import create_engine, make_url, select

from zerosum.domain.identity import Tenant
from zerosum.limits import SLOTS
from zerosum.ports import Batch, Clash, Committed, SlotHead, Store
from zerosum.store.memory import MemoryStore, memory_store
from zerosum.store.memory_reader import MemoryLedgerReader, MemoryPaymentReader, MemoryWalletReader
from zerosum.store.migrate import migrate
from zerosum.store.opening import open_reader, open_store
from zerosum.store.role import ROLES
from zerosum.store.table import METADATA, SERVICES

CLUSTER_URL = os.environ.get("ZEROSUM_TEST_COCKROACH_URL", "")
KINDS = ("memory", "postgresql", "cockroachdb", *(("cluster",) if CLUSTER_URL else ()))


class House(ABC):
    """One database, and stores on it: two stores of a service are two shards' connections."""

    kind: str

    def __init__(self) -> None:
        self.tenant = Tenant(f"shop-{uuid.uuid4().hex[:12]}")

    @abstractmethod
    def store(self, service: str = "payment") -> Store[Any]:
        """Another store of the service."""

    @abstractmethod
    def reader(self, service: str = "payment") -> Any:
        """A reader of the service."""

    @abstractmethod
    def rows(self, service: str, table: str) -> Sequence[Mapping[str, Any]]:
        """All rows of a table, as they are; of this test's tenant where the table has tenants."""

    @abstractmethod
    async def close(self) -> None:
        """Closes what was opened."""


class MemoryHouse(House):
    """Everything in memory."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_790_000_000_000
        self.stores = {service: memory_store(service, lambda: self.now_ms) for service in SERVICES}

    def store(self, service: str = "payment") -> MemoryStore[Any]:
        return self.stores[service]

    def reader(self, service: str = "payment") -> Any:
        readers: Mapping[str, Any] = {
            "payment": MemoryPaymentReader, "wallet": MemoryWalletReader, "ledger": MemoryLedgerReader,
        }  # fmt: skip
        return readers[service](self.stores[service])

    def rows(self, service: str, table: str) -> Sequence[Mapping[str, Any]]:
        every = self.stores[service].tables[table].rows.values()
        return [row for row in every if row.get("tenant", self.tenant) == self.tenant]

    async def close(self) -> None:
        """Nothing is open."""


class SqlHouse(House):
    """A server, by URLs of its roles."""

    def __init__(self, kind: str, urls: Mapping[str, str]) -> None:
        super().__init__()
        self.kind = kind
        self.urls = urls
        self._opened: list[Any] = []

    def store(self, service: str = "payment") -> Any:
        self._opened.append(open_store(service, self.urls[service]))
        return self._opened[-1]

    def reader(self, service: str = "payment") -> Any:
        self._opened.append(open_reader(service, self.urls[service]))  # type: ignore[call-overload]  # by parameter
        return self._opened[-1]

    def rows(self, service: str, table: str) -> Sequence[Mapping[str, Any]]:
        asked = select(found := METADATA.tables[f"{service}.{table}"])
        if "tenant" in found.columns:
            asked = asked.where(found.columns["tenant"] == self.tenant)
        engine = create_engine(self.urls["auditor"])
        with engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(asked).mappings()]
        engine.dispose()
        return rows

    async def close(self) -> None:
        for opened in self._opened:
            await opened.close()


def house_of(kind: str, urls: Callable[[], Mapping[str, str]]) -> House:
    """The database of this kind; `urls` starts the embedded server, where it is wanted."""
    if kind == "memory":
        return MemoryHouse()
    if kind == "cluster":
        migrate(CLUSTER_URL)
        return SqlHouse(kind, dict.fromkeys((*ROLES, "admin"), CLUSTER_URL))
    by_role = urls()
    if kind == "cockroachdb":
        by_role = {role: through_cockroachdb(url) for role, url in by_role.items()}
    return SqlHouse(kind, by_role)


def through_cockroachdb(url: str) -> str:
    """The same server, spoken to as CockroachDB."""
    return make_url(url).set(drivername="cockroachdb+psycopg").render_as_string(hide_password=False)


@contextmanager
def session(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A plain session."""
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


class Shard:
    """What a shard is to its store: slots taken, heads known."""

    def __init__(self, store: Store[Any], heads: Sequence[SlotHead]) -> None:
        self.store = store
        self.heads = {head.slot: head for head in heads}

    @classmethod
    async def begin(cls, store: Store[Any], slots: Sequence[int] = range(SLOTS), deployment: str = "test") -> "Shard":
        """A shard that has just taken these slots."""
        return cls(store, await store.take_slots(slots, deployment))

    def batch(self, draft: Any) -> Batch[Any]:
        """A draft as this shard would send it."""
        batch: Batch[Any] = draft.batch(self.heads.values())
        return batch

    async def commit(self, draft: Any) -> Committed | Clash:
        """Commits a draft and learns the new heads."""
        result = await self.store.commit(self.batch(draft))
        if isinstance(result, Committed):
            self.heads.update({head.slot: head for head in result.heads})
        return result


MUTABLE_AND_LOG = (
    "commands", "payment_events", "buyers", "payment_orders", "attempts", "operations", "todos", "mismatches", "history",
    "refusals", "inbox",
)  # fmt: skip


def everything(house: House) -> Mapping[str, Sequence[Any]]:
    """All rows of the tenant in the payment service, to show that nothing changed."""
    return {
        name: sorted(house.rows("payment", name), key=lambda row: str(sorted(row.items()))) for name in MUTABLE_AND_LOG
    }
