"""A case that somebody has proposed upon, met again by a later run: what is approved is the case as it was shown.

Issue 4, points 5 and 6: a corrected file may tell another amount of the same line between one person and the other.
"""

from dataclasses import replace

import pytest

from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_proposal import Proposed, proposed_write_off
from zerosum.domain.case import CaseState
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.finance_queue import Acted


@pytest.fixture
async def proposed(desk: Desk) -> Proposed:
    """See `Proposed`."""
    return await proposed_write_off(desk)


async def test_a_proposal_is_gone_when_a_corrected_file_tells_another_amount(desk: Desk, proposed: Proposed) -> None:
    """Bob cannot approve the postings of the old file; the case waits with the new ones."""
    known, unknown = proposed.orders
    await desk.take(proposed.store, desk.file([known, replace(unknown, money=Money(2_500, "USD"))]))
    await desk.night(proposed.store, is_again=True)

    refused = await proposed.approve()

    seen = await proposed.view()
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.ILLEGAL_TRANSITION
    assert (seen.row.state, seen.row.money, seen.proposal) == (CaseState.OPEN, Money(2_500, "USD"), None)
    assert [abs(side.amount_minor) for side in seen.dry_run] == [2_500, 2_500]
    assert [act.act for act in seen.acts] == ["propose", "reopen"]
    assert desk.rows("SELECT proposed_by FROM reconciliation.mismatches WHERE psp = %s", desk.psp) == [("",)]
    assert desk.rows(
        "SELECT * FROM reconciliation.deliveries WHERE mismatch_id = %s", proposed.mismatch_id
    ) == []  # fmt: skip


async def test_a_proposal_is_gone_when_the_same_number_is_another_money(desk: Desk, proposed: Proposed) -> None:
    """Where the machine would post nothing, the currency is all that tells 10.07 EUR from 10.07 USD."""
    desk.rows("UPDATE reconciliation.mismatches SET currency = 'EUR' WHERE psp = %s RETURNING 1", desk.psp)

    await desk.night(proposed.store, is_again=True)

    assert isinstance(await proposed.approve(), Refusal)
    assert (await proposed.view()).row.money.currency == "USD"


async def test_a_proposal_stands_when_the_case_is_met_again_as_it_was(desk: Desk, proposed: Proposed) -> None:
    """The same day again, nothing new: bob's approval counts."""
    await desk.night(proposed.store, is_again=True)

    approved = await proposed.approve()

    assert isinstance(approved, Acted)
    assert approved.view.row.state is CaseState.APPROVED
