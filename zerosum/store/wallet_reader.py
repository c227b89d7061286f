"""Wallets as stored, for the doors: SQL for every method of `readers.WalletReader`.

Invariant: each method reads one snapshot; entries come in the order they were applied (`wallet_entries_by_wallet`).
"""

from typing import Any

from sqlalchemy import TextClause, text

from zerosum.domain.identity import EntityKey, Tenant, slot_of
from zerosum.domain.money import Money
from zerosum.domain.wallet import Wallet, wallet_key
from zerosum.readers import Page, WalletEntryRow
from zerosum.store.database import Database
from zerosum.store.loading import load_entities
from zerosum.store.mapping import Row
from zerosum.store.paging import PARTS, Position, after_parameters, beyond, page, position_of
from zerosum.store.wallet import WALLET
from zerosum.store.wire import compiled


class SqlWalletReader:
    """Implements `readers.WalletReader`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def close(self) -> None:
        """Closes every connection."""
        await self.database.close()

    async def wallet(self, tenant: Tenant, owner: str, currency: str) -> Wallet | None:
        """The wallet of this owner in this currency."""
        key = wallet_key(tenant, owner, currency)
        found = await self.database.read(lambda session: load_entities(session, WALLET, [key]))
        return found.get(key)

    async def entries(
        self, tenant: Tenant, owner: str, currency: str, rows_max: int, after: str
    ) -> Page[WalletEntryRow]:
        """Its entries as they were applied, oldest first. Raises MalformedPosition."""
        key = wallet_key(tenant, owner, currency)
        position = position_of("wallet_entries", after)
        values = entries_parameters(key, rows_max + 1, position)
        clause = entries_clause(is_first=position is None)
        rows = (await self.database.look(compiled(clause).call(values))).by_name()
        read = page(rows, rows_max, "wallet_entries", lambda row: (row["version"], row["ord"]))
        return Page([entry_of(row) for row in read.rows], read.after)


def entries_clause(*, is_first: bool) -> TextClause:
    """Entries of one wallet. Those of one version are of one turn: `ord` tells them apart."""
    after = f" AND version >= CAST(:after_0 AS INT8) AND {beyond(('version', 'ord'), PARTS['wallet_entries'])}"
    since = "" if is_first else after
    return text(
        "SELECT * FROM wallet.entries WHERE slot = CAST(:slot AS INT4) AND tenant = :tenant "  # noqa: S608 - our own text
        f"AND wallet_id = :wallet_id{since} ORDER BY version, ord LIMIT CAST(:rows AS INT8)"
    )


def entries_parameters(key: EntityKey, rows: int, position: Position | None) -> dict[str, Any]:
    """The parameters of `entries_clause`."""
    values: dict[str, Any] = {"slot": slot_of(*key), "tenant": key.tenant, "wallet_id": key.id, "rows": rows}
    return values | after_parameters(position or ())


def entry_of(row: Row) -> WalletEntryRow:
    """The entry a row stands for."""
    return WalletEntryRow(
        transfer_id=row["transfer_id"], bucket=row["bucket"], money=Money(row["amount_minor"], row["currency"]),
        version=row["version"], order_id=row["payment_order_id"], at_ms=row["at_ms"],
    )  # fmt: skip
