"""What two people approved is a journal that the ledger takes, whatever the PSP's line says its order and its tenant are.

A settlement file allows names of 500 characters, for they are text of whoever made the PSP's object; the ledger allows 64.
"""

import json
from typing import Any

import pytest

from servers.door import check
from zerosum.domain.case import Proposal, Resolution
from zerosum.domain.discrepancy import Action, Kind, Posting, mismatch_id
from zerosum.domain.journal import Journal
from zerosum.domain.settlement_posting import HOUSE_BOOKS
from zerosum.peers.ledger import _message
from zerosum.store.reconciliation.delivery import case_delivery
from zerosum.store.reconciliation.outbox import journal_of

SIDES = (Posting("psp:stripe:clearing:EUR", 100, "EUR"), Posting("suspense:EUR", -100, "EUR"))
WRITE_OFF = Proposal(2, "ann", Resolution.WRITE_OFF, Action.WRITE_OFF_TO_SUSPENSE, SIDES, "a restored backup")


def approved(kind: Kind = Kind.UNKNOWN_CHARGE, **changed: str) -> Journal:
    """What is sent for a case that is approved to be written off."""
    found: dict[str, Any] = {
        "mismatch_id": mismatch_id(kind, "stripe", "txn_1"), "psp": "stripe", "tenant": "shop", "payment_order_id": "order-1",
        **changed,
    }  # fmt: skip
    row = case_delivery(found, WRITE_OFF, 1)
    return journal_of(json.loads(row["body"]))


@pytest.mark.parametrize("reference", ["order-1", "o" * 65, "Order nº 77", "4" * 64, ""])
@pytest.mark.parametrize("tenant", ["shop", "s" * 65, "Läden", ""])
def test_whatever_a_case_is_about_its_write_off_is_a_journal_that_the_ledger_takes(reference: str, tenant: str) -> None:
    """Of every kind: the id of a case begins with its kind, and of a clearing account's alone it is longer than an order's."""
    for kind in Kind:
        posted = approved(kind, payment_order_id=reference, tenant=tenant)

        assert check(_message(posted)) == [], kind


@pytest.mark.parametrize("reference", ["o" * 65, "Order nº 77", ""])
def test_a_reference_that_no_order_of_ours_can_bear_is_not_told_to_the_ledger(reference: str) -> None:
    """The write-off is known there by its case; a reference that may be an order's is kept, for that order may come."""
    case = str(mismatch_id(Kind.UNKNOWN_CHARGE, "stripe", "txn_1"))

    assert approved(payment_order_id=reference).order_id == case
    assert approved(payment_order_id="o" * 64).order_id == "o" * 64


@pytest.mark.parametrize("tenant", ["s" * 65, "Läden", ""])
def test_a_tenant_that_cannot_be_ours_is_written_off_where_its_line_settles_in_the_house(tenant: str) -> None:
    assert approved(tenant=tenant).tenant == HOUSE_BOOKS
    assert approved(tenant="s" * 64).tenant == "s" * 64
