"""Rows of the outbox: what each holds, and what an approved proposal puts there.

Invariant: the journal's id is made from the case and the proposal, so that one approval posts once, however often it is sent.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from zerosum.domain.case import Proposal
from zerosum.domain.discrepancy import Action
from zerosum.domain.identity import OrderId, derived_key
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.domain.settlement_posting import books_of, settlement_owner
from zerosum.limits import ID_LENGTH_MAX
from zerosum.store.mapping import Row

MOVEMENTS = {Action.WRITE_OFF_TO_SUSPENSE: Movement.WRITE_OFF, Action.BOOK_FEE: Movement.FEE_CORRECTION}


def case_delivery(found: Row, proposal: Proposal, now_ms: int) -> Row:
    """The outbox row of an approved posting: exactly the postings that were proposed."""
    tenant, mismatch_id = books_of(found["tenant"]), found["mismatch_id"]
    movement = MOVEMENTS[proposal.action]
    posted = Journal(
        tenant=tenant, journal_id=derived_key(tenant, mismatch_id, movement, proposal.number),
        owner=settlement_owner(found["psp"]), movement=movement, order_id=_order_id(found),
        entries=tuple(Entry(side.account, Money(side.amount_minor, side.currency)) for side in proposal.postings),
    )  # fmt: skip
    return delivery_row(posted.journal_id, "journal", tenant, mismatch_id, "", journal_body(posted), now_ms)


def _order_id(found: Row) -> OrderId:
    """The order that a case is about, where its name can be one of ours; else the case stands for it, by the end of its id.

    A line's reference is text of whoever made the PSP's object, and a ledger that cannot take it refuses the posting for ever.
    """
    reference, mismatch_id = found["payment_order_id"], found["mismatch_id"]
    return OrderId(reference if _OF_OURS.fullmatch(reference) else mismatch_id[-ID_LENGTH_MAX:])


_OF_OURS: Final = re.compile(rf"(?=.*[A-Za-z_.-])[A-Za-z0-9_.-]{{1,{ID_LENGTH_MAX}}}")
"""What an order of ours may be named, by the contract of CreatePayment."""


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
