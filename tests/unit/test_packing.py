"""What crosses between a server and a shard comes out as it went in: every answer, a checkout, a webhook, postings, news."""

import pickle

import pytest

from actors.answer import Accepted, Applied, Busy, Failed, InFlight, Refused, Replied
from actors.outcome import News
from actors.packing import pack, unpack
from servers.door import submit_checkout
from tests.unit.server_fakes import create_request
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.message import CheckoutCommand, Delivery, ObjectStatus, Report, ReportSource, SubmitCheckout
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import Transfer, TransferKind

TENANT = Tenant("acme")
ENTITY = EntityKey(TENANT, "co-1")
SUBMIT = submit_checkout(create_request(), TENANT)
assert isinstance(SUBMIT, SubmitCheckout)
REPORT = Report(
    ReportSource.WEBHOOK, OrderId("po-0"), "stripe", "pi_1", ObjectStatus.CHARGED, Money(1_250, "USD"), "po-0", "",
    delivery=Delivery("stripe", "evt_1", "payment_intent.succeeded", "0" * 64, "secret-1"),
)  # fmt: skip
ENTRIES = (Entry("psp:stripe:clearing:USD", Money(5, "USD")), Entry("seller:s-1:pending:USD", Money(-5, "USD")))


@pytest.mark.parametrize(
    "message",
    [
        ([CheckoutCommand(ENTITY, SUBMIT), CheckoutCommand(ENTITY, REPORT)], True),
        [Transfer(TENANT, Key("t-1"), "s-1", TransferKind.CREDIT_PENDING, Money(5, "USD"), OrderId("po-0"))],
        [Journal(TENANT, Key("j-1"), "s-1", next(iter(Movement)), ENTRIES, OrderId("po-0"))],
        [Accepted(), Replied(b"reply", is_replay=True), Applied(is_replay=False), InFlight(5), Busy(6), Failed("Bug", "x")],
        [Refused(Refusal(Reason.KEY_REUSED, "idempotency_key", "used"), is_replay=True)],
        News(3, 7, [(ENTITY, b"reply")], is_reset=False),
    ],
)  # fmt: skip
def test_what_is_packed_comes_out_equal(message: object) -> None:
    """Design section 3: commands, answers and news are plain data."""
    assert message == unpack(pack(message))


def test_what_nobody_can_pack_is_an_error_and_not_something_else() -> None:
    """Only plain data crosses."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pack(lambda: None)
