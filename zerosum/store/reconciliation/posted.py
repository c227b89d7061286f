# ruff: noqa: S608 - statements here are made of names of ours
"""What our services hold, read within one snapshot: who changed, what was posted, and the checkouts it is about.

Each service's log is read from where the last run stood: a slot's rows by (slot, seq), which only ever grow.

Invariant: pages are by primary key, nothing is read twice in a run but by key, and no statement reads more rows than its page:
a statement may take 5 s, however large the books are.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text

from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.reconcile_inside import Posted, Side
from zerosum.limits import SLOTS
from zerosum.store.loading import load_entities
from zerosum.store.mapping import Row
from zerosum.store.payment import PAYMENT
from zerosum.store.session import Session
from zerosum.store.statement import text_array
from zerosum.store.table import SERVICES
from zerosum.store.wire import Query, compiled

PAGE_ROWS = 2_000
"""Rows of a page: some 1 MB and 20 ms."""

SUM_ROWS = 20_000
"""Entries added up by a statement, in the database alone: 100 to 350 ms on a very busy machine, of the 5 s it may take."""

Heads = dict[str, dict[str, tuple[int, str]]]
"""Service -> slot -> (seq, hash as hex). Slots are text, as JSON has them."""

_WITHOUT_BUYERS = replace(PAYMENT, children=tuple(t for t in PAYMENT.children if t.info["kind"] != "private"))
"""A checkout as an erased buyer leaves it: buyers' details are not the reconciler's business."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of all three services."""

    session: Session

    async def heads(self) -> Heads:
        """Where each slot of each service stands."""
        replies = (await self.session.send([_HEADS[service].call() for service in SERVICES])).all()
        return {
            service: {str(slot): (seq, bytes(digest).hex()) for slot, seq, digest in reply}
            for service, reply in zip(SERVICES, replies, strict=True)
        }

    async def still_has(self, heads: Heads) -> bool:
        """Whether every log still leads through these heads: it does not where a service was restored from a backup."""
        for service, slots in heads.items():
            for slot, (seq, digest) in slots.items():
                (reply,) = (await self.session.send([_LOG[service].call({"slot": slot, "seq": seq})])).all()
                if seq and (not reply or bytes(reply[0][0]).hex() != digest):
                    return False
        return True

    async def changed(self, heads: Heads) -> AsyncIterator[list[EntityKey]]:
        """Checkouts that something happened to since, each once, in pages."""
        for slot in range(SLOTS):
            seen = set[EntityKey]()
            async for rows in self._pages(_HISTORY, slot, _since(heads, "payment", slot)):
                keys = {EntityKey(Tenant(row["tenant"]), row["checkout_id"]) for row in rows} - seen
                seen |= keys
                yield sorted(keys)

    async def new_postings(self, side: Side, heads: Heads) -> AsyncIterator[list[Posted]]:
        """What was posted since, in pages."""
        for slot in range(SLOTS):
            async for rows in self._pages(_NEW[side], slot, _since(heads, side, slot)):
                if side is Side.WALLET:
                    yield [posted_transfer(row) for row in rows]
                else:
                    yield await self.postings(side, [(row["tenant"], row["journal_id"]) for row in rows])

    async def postings(self, side: Side, ids: Sequence[tuple[str, str]]) -> list[Posted]:
        """Those of these (tenant, id) that are there."""
        if not ids:
            return []
        values = {"tenants": text_array([tenant for tenant, _ in ids]), "ids": text_array([name for _, name in ids])}
        (reply,) = (await self.session.send([_BY_ID[side].call(values)])).all()
        if side is Side.WALLET:
            return [posted_transfer(row) for row in reply.by_name()]
        return posted_journals(reply.by_name())

    async def checkouts(self, keys: Sequence[EntityKey]) -> list[Checkout]:
        """Whole checkouts, without their buyers' details."""
        return list((await load_entities(self.session, _WITHOUT_BUYERS, keys)).values())

    async def homes(self, postings: Sequence[Posted]) -> dict[tuple[str, str], EntityKey]:
        """(tenant, order) -> the checkout, for the orders that postings are about."""
        pairs = sorted({(posted.tenant, posted.order_id) for posted in postings})
        values = {"tenants": text_array([pair[0] for pair in pairs]), "orders": text_array([pair[1] for pair in pairs])}
        (reply,) = (await self.session.send([_HOMES.call(values)])).all()
        return {(tenant, order): EntityKey(Tenant(tenant), checkout) for tenant, order, checkout in reply}

    async def clearing(self) -> AsyncIterator[dict[tuple[Tenant, str], int]]:
        """(tenant, clearing account) -> the sum of its entries, of each page of each slot."""
        for slot in range(SLOTS):
            behind = {"seq": 0, "ord": 0, "line": 0}
            while True:
                (reply,) = (await self.session.send([_CLEARING.call({"slot": slot, "rows": SUM_ROWS, **behind})])).all()
                rows = reply.by_name()
                yield {(Tenant(row["tenant"]), row["account"]): int(row["minor"]) for row in rows if row["account"]}
                if not rows or rows[0]["count"] < SUM_ROWS:
                    break
                behind = {name: rows[0][name] for name in behind}

    async def deliveries(self, from_ms: int) -> AsyncIterator[list[Row]]:
        """Journals of the outbox, sent or not, from this instant on, in pages."""
        after = ""
        while True:
            values = {"from_ms": from_ms, "after": after, "rows": PAGE_ROWS}
            (reply,) = (await self.session.send([_DELIVERIES.call(values)])).all()
            rows = reply.by_name()
            yield [row for row in rows if row["body"]]
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1]["key"]

    async def known_deliveries(self, keys: Sequence[str]) -> set[str]:
        """Those of these keys that the outbox has."""
        (reply,) = (await self.session.send([_KNOWN.call({"keys": text_array(list(keys))})])).all()
        return {key for (key,) in reply}

    async def _pages(self, query: Query, slot: int, since: int) -> AsyncIterator[list[Row]]:
        seq, ord_ = since, 2**31 - 1
        while True:
            values = {"slot": slot, "seq": seq, "ord": ord_, "rows": PAGE_ROWS}
            (reply,) = (await self.session.send([query.call(values)])).all()
            rows = reply.by_name()
            if rows:
                yield rows
            if len(rows) < PAGE_ROWS:
                return
            seq, ord_ = rows[-1]["seq"], rows[-1]["ord"]


def _since(heads: Heads, service: str, slot: int) -> int:
    return heads.get(service, {}).get(str(slot), (0, ""))[0]


# ---- rows ----------------------------------------------------------------------------------------------------------


def posted_transfer(row: Mapping[str, Any]) -> Posted:
    """A row of `wallet.entries`."""
    return Posted(
        side=Side.WALLET, id=Key(row["transfer_id"]), tenant=Tenant(row["tenant"]),
        owner=row["wallet_id"].rpartition(":")[0], order_id=OrderId(row["payment_order_id"]), currency=row["currency"],
        sides=((row["bucket"], row["amount_minor"]),),
    )  # fmt: skip


def posted_journals(rows: Sequence[Mapping[str, Any]]) -> list[Posted]:
    """One a journal, of the rows of its entries, each with the owner and the order of its journal."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["tenant"], row["journal_id"]), []).append(row)
    return [
        Posted(
            side=Side.LEDGER, id=Key(name), tenant=Tenant(tenant), owner=entries[0]["owner"],
            order_id=OrderId(entries[0]["payment_order_id"]), currency=entries[0]["currency"],
            sides=tuple((entry["account"], entry["amount_minor"]) for entry in entries),
        )
        for (tenant, name), entries in found.items()
    ]  # fmt: skip


# ---- statements ----------------------------------------------------------------------------------------------------

_HEADS = {service: compiled(text(f"SELECT slot, seq, hash FROM {service}.slots ORDER BY slot")) for service in SERVICES}
_LOG = {
    service: compiled(
        text(
            f"SELECT hash FROM {service}.slot_log WHERE slot = CAST(CAST(:slot AS TEXT) AS INT4) "
            "AND seq = CAST(:seq AS INT8)"
        )
    )
    for service in SERVICES
}
_BEHIND = (
    "WHERE slot = CAST(:slot AS INT4) AND (seq, ord) > (CAST(:seq AS INT8), CAST(:ord AS INT4)) "
    "ORDER BY seq, ord LIMIT CAST(:rows AS INT8)"
)
_HISTORY = compiled(text(f"SELECT seq, ord, tenant, checkout_id FROM payment.history {_BEHIND}"))
_NEW: Mapping[Side, Query] = {
    Side.WALLET: compiled(text(f"SELECT * FROM wallet.entries {_BEHIND}")),
    Side.LEDGER: compiled(text(f"SELECT seq, ord, tenant, journal_id FROM ledger.journals {_BEHIND}")),
}
_IDS = "FROM unnest(CAST(:tenants AS TEXT[]), CAST(:ids AS TEXT[])) AS u (tenant, id)"
_BY_ID: Mapping[Side, Query] = {
    Side.WALLET: compiled(
        text(f"SELECT e.* {_IDS} JOIN wallet.entries AS e ON e.tenant = u.tenant AND e.transfer_id = u.id")
    ),
    Side.LEDGER: compiled(
        text(
            "SELECT j.tenant, j.journal_id, j.owner, j.payment_order_id, n.account, n.currency, n.amount_minor "
            f"{_IDS} JOIN ledger.journals AS j ON j.tenant = u.tenant AND j.journal_id = u.id "
            "JOIN ledger.entries AS n ON n.slot = j.slot AND n.seq = j.seq AND n.ord = j.ord"
        )
    ),
}
_HOMES = compiled(
    text(
        "SELECT o.tenant, o.payment_order_id, o.checkout_id "
        "FROM unnest(CAST(:tenants AS TEXT[]), CAST(:orders AS TEXT[])) AS u (tenant, id) "
        "JOIN payment.payment_orders AS o ON o.payment_order_id = u.id AND o.tenant = u.tenant"
    )
)
# Every row names the page's last entry and how many it has; it has no account where none of them is of a clearing account.
_CLEARING = compiled(
    text(
        "WITH page AS (SELECT seq, ord, line, tenant, account, amount_minor FROM ledger.entries "
        "WHERE slot = CAST(:slot AS INT4) "
        "AND (seq, ord, line) > (CAST(:seq AS INT8), CAST(:ord AS INT4), CAST(:line AS INT4)) "
        "ORDER BY seq, ord, line LIMIT CAST(:rows AS INT8)), "
        "tail AS (SELECT seq, ord, line, count(*) OVER () AS count FROM page ORDER BY seq DESC, ord DESC, line DESC LIMIT 1) "
        "SELECT p.tenant, p.account, sum(p.amount_minor) AS minor, t.seq, t.ord, t.line, t.count "
        "FROM tail AS t LEFT JOIN page AS p ON p.account LIKE 'psp:%:clearing:%' "
        "GROUP BY p.tenant, p.account, t.seq, t.ord, t.line, t.count"
    )
)
# Rows of other kinds and times come without their bodies: left out by the statement, it would read on until a page is full.
_DELIVERIES = compiled(
    text(
        "SELECT key, tenant, mismatch_id, state, "
        "CASE WHEN kind = 'journal' AND due_at_ms >= CAST(:from_ms AS INT8) THEN body ELSE '' END AS body "
        "FROM reconciliation.deliveries WHERE key > :after ORDER BY key LIMIT CAST(:rows AS INT8)"
    )
)
_KNOWN = compiled(text("SELECT key FROM reconciliation.deliveries WHERE key = ANY(CAST(:keys AS TEXT[]))"))
