"""Rows of the outbox: what each holds, and what an approved proposal puts there.

Invariant: the journal's id is made from the case and the proposal, so that one approval posts once, however often it is sent.
"""

import json
from collections.abc import Mapping
from typing import Any

from zerosum.domain.case import Proposal
from zerosum.domain.discrepancy import Action
from zerosum.domain.identity import OrderId, derived_key
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.domain.settlement_posting import books_of, settlement_owner
from zerosum.store.mapping import Row

MOVEMENTS = {Action.WRITE_OFF_TO_SUSPENSE: Movement.WRITE_OFF, Action.BOOK_FEE: Movement.FEE_CORRECTION}


def case_delivery(found: Row, proposal: Proposal, now_ms: int) -> Row:
    """The outbox row of an approved posting: exactly the postings that were proposed."""
    tenant, mismatch_id = books_of(found["tenant"]), found["mismatch_id"]
    movement = MOVEMENTS[proposal.action]
    posted = Journal(
        tenant=tenant, journal_id=derived_key(tenant, mismatch_id, movement, proposal.number),
        owner=settlement_owner(found["psp"]), movement=movement, order_id=OrderId(found["payment_order_id"] or mismatch_id),
        entries=tuple(Entry(side.account, Money(side.amount_minor, side.currency)) for side in proposal.postings),
    )  # fmt: skip
    return delivery_row(posted.journal_id, "journal", tenant, mismatch_id, "", journal_body(posted), now_ms)


def delivery_row(
    key: str, kind: str, tenant: str, mismatch_id: str, run_id: str, body: Mapping[str, Any], now_ms: int
) -> Row:
    """An outbox row, due at once."""
    return {
        "key": key, "kind": kind, "tenant": tenant, "mismatch_id": mismatch_id, "run_id": run_id,
        "body": json.dumps(body, ensure_ascii=False), "state": "OPEN", "outcome": "", "tries": 0, "due_at_ms": now_ms,
        "created_at_ms": now_ms,
    }  # fmt: skip


def journal_body(posted: Journal) -> Mapping[str, Any]:
    """A journal as the outbox keeps it."""
    return {
        "tenant": posted.tenant, "journal_id": posted.journal_id, "owner": posted.owner, "movement": posted.movement,
        "order_id": posted.order_id,
        "entries": [[entry.account, entry.money.amount_minor, entry.money.currency] for entry in posted.entries],
    }  # fmt: skip
