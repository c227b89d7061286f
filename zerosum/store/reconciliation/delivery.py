"""What an approved proposal puts into the outbox: the row of its journal.

Invariant: the journal's id is made from the case and the proposal, so that one approval posts once, however often it is sent.
"""

import json

from zerosum.domain.case import Proposal
from zerosum.domain.discrepancy import Action
from zerosum.domain.identity import derived_key
from zerosum.store.mapping import Row

HOUSE_BOOKS = "-"
"""Whose books take what belongs to no tenant."""

MOVEMENTS = {Action.WRITE_OFF_TO_SUSPENSE: "write_off", Action.BOOK_FEE: "fee_correction"}


def case_delivery(found: Row, proposal: Proposal, now_ms: int) -> Row:
    """The outbox row of an approved posting: exactly the postings that were proposed."""
    tenant, mismatch_id = found["tenant"] or HOUSE_BOOKS, found["mismatch_id"]
    movement = MOVEMENTS[proposal.action]
    key = derived_key(tenant, mismatch_id, movement, proposal.number)
    body = {
        "tenant": tenant, "journal_id": key, "owner": f"psp:{found['psp']}", "movement": movement,
        "order_id": found["payment_order_id"] or mismatch_id,
        "entries": [[side.account, side.amount_minor, side.currency] for side in proposal.postings],
    }  # fmt: skip
    return {
        "key": key, "kind": "journal", "tenant": tenant, "mismatch_id": mismatch_id, "run_id": "",
        "body": json.dumps(body), "state": "OPEN", "outcome": "", "tries": 0, "due_at_ms": now_ms, "created_at_ms": now_ms,
    }  # fmt: skip
