# ruff: noqa: S608 - statements here are made of names of ours
"""The reconciler's outbox: what was decided is sent after its commit, until somebody has it, and then the case moves on.

    claim      tries + 1 and a lease, committed before anything is sent
    send       to the ledger, the wallet or the payment service, under the key the thing always had
    record     DONE, DEAD (refused for good) or due again; a case that waited for it moves, with its act, in the same commit

Dying between any two of these sends the same thing again under the same key, and whoever has it already says so. Source: design
section 4, failures.md P32 and O1.

Invariant: no call happens within a transaction, and nothing is ever sent under another key than its row's.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from zerosum.crash import Point, reach
from zerosum.domain.case import Act, CaseState
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Entry, Journal, Movement, journal
from zerosum.domain.money import Money
from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug, PspTrouble
from zerosum.limits import BACKOFF_BASE_MS, BACKOFF_CAP_MS, EFFECT_LEASE_MS, PEER_TRIES_MAX
from zerosum.ports import Done, ItemOutcome, LedgerPeer, TryLater, WalletPeer
from zerosum.reconciling import PaymentPeer, SettlementReport
from zerosum.store.database import Database
from zerosum.store.loading import CLOCK
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.record import LAST_ACT, act_row
from zerosum.store.reconciliation.table import ACTS, DELIVERIES, MISMATCHES
from zerosum.store.session import Session
from zerosum.store.statement import insert, text_array
from zerosum.store.wire import compiled


@dataclass(frozen=True, slots=True)
class Peers:
    """Where things are sent."""

    ledger: LedgerPeer
    wallet: WalletPeer
    payment: PaymentPeer


class SqlOutbox:
    """Implements `reconciling.Outbox`."""

    def __init__(self, database: Database, peers: Peers) -> None:
        self._database = database
        self._peers = peers

    async def deliver(self, rows_max: int) -> int:
        """Sends what is due, oldest first, all at once; how many were sent. Raises Unavailable. Money may move.

        What one of them stumbles over (a Bug) is raised after the outcomes of all the others are recorded.
        """
        claimed = await self._claim(rows_max)
        outcomes = await asyncio.gather(*(self._send(row) for row in claimed), return_exceptions=True)
        broken: list[BaseException] = []
        for row, outcome in zip(claimed, outcomes, strict=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, PspTrouble):
                broken.append(outcome)
            else:
                await self._record(row, outcome)
        if broken:
            raise broken[0]
        return len(claimed)

    async def _claim(self, rows_max: int) -> list[Row]:
        due = await self._database.look(_DUE.call({"rows": rows_max}))
        if not due:
            return []
        keys = text_array([key for (key,) in due])

        async def work(session: Session) -> list[Row]:
            (rows,) = (await session.send([_CLAIM.call({"keys": keys, "lease_ms": EFFECT_LEASE_MS})])).all()
            return rows.by_name()

        return await self._database.write_unless_conflict(work)

    async def _send(self, row: Row) -> ItemOutcome | PspTrouble:
        kind, body = row["kind"], json.loads(row["body"])
        reach(Point.DELIVERY_BEFORE)
        try:
            outcome: ItemOutcome | PspTrouble = await SENDERS[kind](self._peers, body)
        except PspTrouble as trouble:
            outcome = trouble
        reach(Point.DELIVERY_AFTER)
        return outcome

    async def _record(self, row: Row, outcome: ItemOutcome | PspTrouble) -> None:
        state, told, after_ms = _judged(row, outcome)
        values = {"key": row["key"], "tries": row["tries"], "state": state, "outcome": told, "after_ms": after_ms}

        async def work(session: Session) -> None:
            clock, moved = (await session.send([CLOCK, _RECORD.call(values)])).all()
            if moved and state != "OPEN" and row["mismatch_id"]:
                await _move_case(session, row, state, told, clock[0][0])

        await self._database.write_again(work)


def _judged(row: Row, outcome: ItemOutcome | PspTrouble) -> tuple[str, str, int]:
    """The state of the row, what is told of it, and when it is due again."""
    match outcome:
        case Done():
            return "DONE", "", 0
        case Refusal():
            return "DEAD", f"{outcome.reason}: {outcome.message}", 0
        case _ if row["tries"] >= PEER_TRIES_MAX and _may_be_given_up(row):
            return "DEAD", f"not delivered in {row['tries']} tries", 0
        case TryLater(retry_after_ms):
            return "OPEN", "try later", max(retry_after_ms, BACKOFF_BASE_MS)
        case _:
            return "OPEN", str(outcome), min(BACKOFF_CAP_MS, BACKOFF_BASE_MS << min(row["tries"], 16))


def _may_be_given_up(row: Row) -> bool:
    """Whether silence may end it: only the machine's command of a case, which people can have sent again under its key.

    What two people approved may be in the ledger all the same: given back to them, their next proposal would post it a second
    time under another key. And nobody would ever post a file's settlement again.
    """
    return bool(row["mismatch_id"] and row["run_id"])


# ---- the case behind it --------------------------------------------------------------------------------------------

_AFTER: Mapping[tuple[str, str], tuple[CaseState, Act]] = {
    ("FIXING", "DONE"): (CaseState.RESOLVED, Act.SETTLE),
    ("FIXING", "DEAD"): (CaseState.OPEN, Act.GIVE_UP),
    ("APPROVED", "DONE"): (CaseState.RESOLVED, Act.SETTLE),
    ("APPROVED", "DEAD"): (CaseState.OPEN, Act.GIVE_UP),
}
"""(state of the case, end of the delivery) -> where it goes. Any other state has moved without it."""


async def _move_case(session: Session, row: Row, end: str, told: str, now_ms: int) -> None:
    (found,) = (await session.send([_CASE.call({"mismatch_id": row["mismatch_id"]})])).all()
    for case in found.by_name():
        goes = _AFTER.get((case["state"], end))
        if goes is None:
            continue
        state, act = goes
        is_written_off = case["state"] == CaseState.APPROVED and _movement(row) == Movement.WRITE_OFF
        if end == "DONE" and is_written_off:
            state, act = CaseState.WRITTEN_OFF, Act.WRITE_OFF
        values = {"mismatch_id": row["mismatch_id"], "state": state, "now_ms": now_ms if end == "DONE" else None}
        detail = {"command": row["key"], "told": told}
        acted = act_row(row["mismatch_id"], case["acts"] + 1, act, detail, now_ms)
        (await session.send([_MOVE.call(values), session.call(insert(ACTS), [acted])])).all()


def _movement(row: Row) -> str:
    return str(json.loads(row["body"]).get("movement", ""))


# ---- what is sent --------------------------------------------------------------------------------------------------


def journal_of(body: Mapping[str, Any]) -> Journal:
    """The journal a body stands for. Raises Bug: it was balanced when it was written."""
    made = journal(
        tenant=Tenant(body["tenant"]), journal_id=Key(body["journal_id"]), owner=body["owner"],
        movement=Movement(body["movement"]), order_id=OrderId(body["order_id"]),
        entries=tuple(Entry(account, Money(minor, currency)) for account, minor, currency in body["entries"]),
    )  # fmt: skip
    if isinstance(made, Refusal):
        raise Bug(f"a journal of the outbox is refused: {made.reason}")
    return made


def transfer_of(body: Mapping[str, Any]) -> Transfer:
    """The transfer a body stands for."""
    return Transfer(
        tenant=Tenant(body["tenant"]), transfer_id=Key(body["transfer_id"]), owner=body["owner"],
        kind=TransferKind(body["kind"]), money=Money(body["amount_minor"], body["currency"]),
        order_id=OrderId(body["order_id"]),
    )  # fmt: skip


def report_of(body: Mapping[str, Any]) -> SettlementReport:
    """The report a body stands for."""
    fields = dict(body)
    gross = Money(fields.pop("amount_minor"), fields.pop("currency"))
    order_id = fields.pop("order_id")
    line = Line(**{**fields, "category": Category(fields["category"]), "tenant": Tenant(fields["tenant"])}, gross=gross)
    return SettlementReport(line, line.file_id, OrderId(order_id))


SENDERS: Mapping[str, Callable[[Peers, Mapping[str, Any]], Awaitable[ItemOutcome]]] = {
    "journal": lambda peers, body: peers.ledger.post(journal_of(body)),
    "transfer": lambda peers, body: peers.wallet.apply(transfer_of(body)),
    "report": lambda peers, body: peers.payment.report_settlement(report_of(body)),
    "debit": lambda peers, body: peers.wallet.apply(transfer_of(body)),
}
"""Kind of a delivery -> how its body is sent, under the key that the body names."""

BEHIND: Mapping[str, str] = {"debit": "transfer"}
"""Kind -> what is sent before it: while any of these is OPEN, none of that kind goes. A wallet refuses for ever, under its id,
what it cannot cover, and after a restore it may lack the very credit or return that had covered it."""

# ---- statements ----------------------------------------------------------------------------------------------------

_D, _M = DELIVERIES.fullname, MISMATCHES.fullname
_CLOCK_MS = "CAST(floor(extract(epoch FROM statement_timestamp()) * 1000) AS INT8)"

_IS_FIRST = " AND ".join(
    f"(kind <> '{kind}' OR NOT EXISTS (SELECT 1 FROM {_D} WHERE state = 'OPEN' AND kind = '{first}'))"
    for kind, first in BEHIND.items()
)
_DUE = compiled(
    text(
        f"SELECT key FROM {_D} WHERE state = 'OPEN' AND due_at_ms <= {_CLOCK_MS} AND {_IS_FIRST} "
        "ORDER BY due_at_ms, key LIMIT CAST(:rows AS INT8)"
    )
)
_CLAIM = compiled(
    text(
        f"UPDATE {_D} SET tries = tries + 1, due_at_ms = {_CLOCK_MS} + CAST(:lease_ms AS INT8) "
        f"WHERE key = ANY(CAST(:keys AS TEXT[])) AND state || '' = 'OPEN' AND due_at_ms <= {_CLOCK_MS} RETURNING *"
    )
)
"""The state as a value: found by key, not among all that is due."""
_RECORD = compiled(
    text(
        f"UPDATE {_D} SET state = :state, outcome = :outcome, due_at_ms = {_CLOCK_MS} + CAST(:after_ms AS INT8) "
        "WHERE key = :key AND state = 'OPEN' AND (tries = CAST(:tries AS INT4) OR CAST(:state AS TEXT) <> 'OPEN') RETURNING key"
    )
)
"""A run whose lease is over tells its end all the same: what arrived has arrived."""
_CASE = compiled(text(f"SELECT m.state, {LAST_ACT} AS acts FROM {_M} AS m WHERE m.mismatch_id = :mismatch_id"))
_MOVE = compiled(
    text(
        f"UPDATE {_M} SET state = :state, closed_at_ms = CAST(:now_ms AS INT8), version = version + 1 "
        "WHERE mismatch_id = :mismatch_id"
    )
)
