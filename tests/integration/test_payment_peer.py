"""The payment service as the reconciler sees it, over the wire: facts told once, and what each answer means."""

from collections.abc import Sequence

import pytest

from actors.answer import Answer, Applied, Busy, Refused
from servers.call import HOUSE
from servers.metric import Metrics
from servers.payment import PaymentServicer
from tests.integration.server_process import SETTINGS, serving
from tests.unit.server_fakes import FakePaymentReader, FakeShards, checkout, token
from zerosum.domain.identity import OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.errors import PspTrouble
from zerosum.peers.payment import GrpcPaymentPeer
from zerosum.ports import Done, ItemOutcome, TryLater
from zerosum.reconciling import SettlementReport


def report(
    category: Category = Category.CHARGE, minor: int = 1_250, order_id: str = "po-0", refund_key: str = ""
) -> SettlementReport:
    """A line about the first order of checkout co-1."""
    line = Line(
        psp="stripe", number=7, id="txn_1", category=category, object_id="pi_1", tenant=Tenant("acme"), checkout_id="",
        reference="po-0", refund_key=refund_key, gross=Money(minor, "USD"), fee_minor=0, net_minor=minor, created_at_ms=1,
        payout_id="po_1", file_id="f1",
    )  # fmt: skip
    return SettlementReport(line, "f1", OrderId(order_id))


async def told(
    answers: Sequence[Answer], one: SettlementReport, subject: str = "reconciler"
) -> tuple[ItemOutcome, FakeShards]:
    """What the peer makes of a payment service whose shards answer so."""
    shards = FakeShards(*answers)
    servicer = PaymentServicer(
        shards=shards, reader=FakePaymentReader(checkout()), settings=SETTINGS, webhooks={"stripe": lambda *_: None},  # type: ignore[dict-item]  # no webhook comes
        metrics=Metrics(),
    )  # fmt: skip
    async with serving(servicer) as (channel, _):
        peer = GrpcPaymentPeer(channel, lambda: token(tenant=HOUSE, subject=subject))
        try:
            return await peer.report_settlement(one), shards
        finally:
            await peer.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Applied(is_replay=False), Done()),
        (Applied(is_replay=True), Done()),
        (Applied(is_replay=False, is_news=False), Done()),
        (Busy(700), TryLater(700)),
        (Refused(Refusal(Reason.KEY_REUSED, "line_id", "other"), False), Reason.KEY_REUSED),
    ],
)
async def test_each_answer_has_one_meaning(answer: Answer, expected: object) -> None:
    """Recorded is done, also when it was before (P32); a refusal is final; the rest is sent again under the same id."""
    outcome, shards = await told([answer], report())

    assert (outcome.reason if isinstance(outcome, Refusal) else outcome) == expected
    assert len(shards.submitted) == 1


async def test_a_refund_is_told_as_a_positive_amount_and_names_itself() -> None:
    """The file has it negative; the contract of ReportSettlement wants the gross, positive. Its key tells which refund."""
    outcome, shards = await told([Applied(is_replay=False)], report(Category.REFUND, -1_250, refund_key="refund-1"))

    assert outcome == Done()
    assert shards.submitted[0].body.money == Money(1_250, "USD")
    assert shards.submitted[0].body.refund_key == "refund-1"


async def test_an_order_that_is_not_there_is_refused() -> None:
    outcome, shards = await told([], report(order_id="po-unknown"))

    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.UNKNOWN_ID
    assert shards.submitted == []


async def test_what_is_no_fact_about_an_order_is_never_sent() -> None:
    outcome, shards = await told([], report(Category.FEE))

    assert isinstance(outcome, Refusal)
    assert shards.submitted == []


async def test_another_process_of_the_house_may_not_report() -> None:
    """Only the reconciler tells settlement lines."""
    with pytest.raises(PspTrouble):
        await told([], report(), subject="edge")
