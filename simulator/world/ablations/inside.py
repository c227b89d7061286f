"""Ablations of inside reconciliation: what it does not miss, and how it mends.

Invariant: see `plant.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import reconcile_inside
from zerosum.domain.identity import Key
from zerosum.domain.journal import Journal
from zerosum.domain.reconcile_inside import Posted, Promise, Verdict
from zerosum.domain.reconcile_item import State
from zerosum.domain.wallet import Transfer
from zerosum.store.reconciliation import inside
from zerosum.store.reconciliation.delivery import journal_body as honest_journal


@ablation(
    "lost-posting-not-seen", "sums are compared, not ids: a lost journal, which sums to zero, is not missed", "D10, I12"
)
def lost_posting_not_seen(plant: Plant) -> None:
    honest = reconcile_inside._of_promise

    def of_promise(promise: Promise, found: Posted | None) -> Verdict:
        off_minor = sum(money.amount_minor for _, money in reconcile_inside._sides(promise.request))
        if found is None and off_minor == 0:
            return Verdict(promise.side, promise.id, promise.request.order_id, State.MATCHED, promise.todo, None)
        return honest(promise, found)

    plant.instead(reconcile_inside, "_of_promise", of_promise)


@ablation("fix-under-new-id", "what is missing is posted again under a new id", "D10, P32, I12, I24")
def fix_under_new_id(plant: Plant) -> None:
    honest_transfer = inside._transfer_body

    def journal_body(journal: Journal) -> Mapping[str, Any]:
        return honest_journal(replace(journal, journal_id=Key(f"{journal.journal_id}-again")))

    def transfer_body(transfer: Transfer) -> Mapping[str, Any]:
        return honest_transfer(replace(transfer, transfer_id=Key(f"{transfer.transfer_id}-again")))

    plant.instead(inside, "journal_body", journal_body)
    plant.instead(inside, "_transfer_body", transfer_body)
