"""What may come in: every text looked at, every fault named by its field and never by its value."""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from servers.batch import by_item
from servers.door import check, check_texts, instant_ms, submit_checkout
from servers.page import after_of, token_of
from servers.status import Rejected
from tests.unit.server_fakes import CARD, TENANT, create_request
from zerosum.domain.message import SubmitCheckout
from zerosum.domain.money import Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.v1 import common_pb2, ledger_pb2, payment_pb2, reconciliation_pb2, wallet_pb2

FULL_WIDTH_CARD = "".join(chr(0xFF10 + int(digit)) for digit in CARD.replace(" ", ""))


def _refusals(request: payment_pb2.CreatePaymentRequest) -> list[Refusal]:
    command = submit_checkout(request, TENANT)
    assert isinstance(command, list)
    return command


def test_good_request_becomes_the_command_with_the_checkout_id_as_key() -> None:
    """Design section 8: the default key is checkout_id; amounts in minor units, the caller's string kept."""
    command = submit_checkout(create_request(), TENANT)

    assert isinstance(command, SubmitCheckout)
    assert (command.tenant, command.key, command.checkout_id) == (TENANT, "co-1", "co-1")
    assert [(line.order_id, line.amount, line.money) for line in command.lines] == [
        ("po-0", "12.50", Money(1_250, "USD")),
        ("po-1", "12.50", Money(1_250, "USD")),
    ]


def test_key_of_the_request_is_taken_over() -> None:
    """The field idempotency_key wins over the default."""
    command = submit_checkout(create_request(idempotency_key="key-1"), TENANT)

    assert isinstance(command, SubmitCheckout)
    assert command.key == "key-1"


def test_same_payment_order_id_twice_is_refused() -> None:
    """A payment_order_id is unique; within one request it is told at the door."""
    request = create_request()
    request.payment_orders[1].payment_order_id = "po-0"

    assert [(no.reason, no.field) for no in _refusals(request)] == [
        (Reason.DUPLICATE_IN_REQUEST, "payment_orders[1].payment_order_id")
    ]


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        ("1e3", Reason.AMOUNT_MALFORMED),
        ("-1", Reason.AMOUNT_MALFORMED),
        ("1,00", Reason.AMOUNT_MALFORMED),
        ("\uff11\uff12", Reason.AMOUNT_MALFORMED),
        ("1.00\n", Reason.AMOUNT_MALFORMED),
        ("0", Reason.AMOUNT_NOT_POSITIVE),
        ("1.005", Reason.AMOUNT_TOO_PRECISE),
        ("1" * 25, Reason.MALFORMED),
        ("", Reason.MALFORMED),
    ],
)
def test_bad_amount_is_named_by_its_path(amount: str, reason: Reason) -> None:
    """failures.md security point 7."""
    request = create_request()
    request.payment_orders[1].amount = amount
    refusal = _refusals(request)[0]

    assert (refusal.reason, refusal.field) == (reason, "payment_orders[1].amount")


def _text_paths(message: Message, path: str = "") -> list[str]:
    """Every text field of a message, its lists filled with one item each."""
    paths = []
    for field in message.DESCRIPTOR.fields:
        at = f"{path}{field.name}"
        if field.type == FieldDescriptor.TYPE_STRING:
            paths.append(at)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            value = getattr(message, field.name)
            inner, at = (value.add(), f"{at}[0]") if field.is_repeated else (value, at)
            if not field.is_repeated:
                inner.SetInParent()
            paths += _text_paths(inner, f"{at}.")
    return paths


def _put(message: Message, path: str, text: str) -> None:
    head, _, rest = path.partition(".")
    name, is_item, _ = head.partition("[")
    if rest:
        _put(getattr(message, name)[0] if is_item else getattr(message, name), rest, text)
    else:
        setattr(message, name, text)


REQUESTS: list[type[Message]] = [
    getattr(module, name)
    for module in (payment_pb2, wallet_pb2, ledger_pb2, reconciliation_pb2)
    for name in sorted(module.DESCRIPTOR.message_types_by_name)
    if name.endswith("Request")
]


def _cases() -> list[tuple[type[Message], str]]:
    return [(kind, path) for kind in REQUESTS for path in _text_paths(kind())]


@pytest.mark.parametrize("text", [CARD, "4242-4242-4242-4242", FULL_WIDTH_CARD, "see 5555555555554444 there"])
@pytest.mark.parametrize(("kind", "path"), _cases())
def test_card_number_is_refused_in_every_text_field_and_never_echoed(kind: type[Message], path: str, text: str) -> None:
    """failures.md security point 6: every string field of every request."""
    message = kind()
    _text_paths(message)
    _put(message, path, text)
    refusals = check(message)

    assert (Reason.CARD_NUMBER, path) in [(no.reason, no.field) for no in refusals]
    assert not any(text in no.message + no.field for no in refusals)


@pytest.mark.parametrize(("kind", "path"), _cases())
def test_nul_is_refused_in_every_text_field(kind: type[Message], path: str) -> None:
    """Design section 6: U+0000 is refused at the door, for no text column takes it."""
    message = kind()
    _text_paths(message)
    _put(message, path, "a\x00b")

    assert (Reason.MALFORMED, path) in [(no.reason, no.field) for no in check(message)]


def test_card_number_among_the_headers_of_a_webhook_is_refused_without_its_name() -> None:
    """A map's key is a value of the caller: the path shows neither."""
    request = payment_pb2.ReceiveWebhookRequest(psp="stripe", headers={CARD: "x", "y": CARD})

    assert [(no.reason, no.field) for no in check_texts(request)] == [(Reason.CARD_NUMBER, "headers[*]")] * 2


def test_maps_that_callers_send_are_of_text_to_text() -> None:
    """The walk over maps relies on it. What reconciliation answers has counts in maps; its requests are looked at here."""
    messages = [
        message
        for module in (common_pb2, payment_pb2, wallet_pb2, ledger_pb2)
        for message in module.DESCRIPTOR.message_types_by_name.values()
    ]
    maps = [
        field.message_type.fields
        for message in [*messages, *(kind.DESCRIPTOR for kind in REQUESTS)]
        for field in message.fields
        if field.message_type is not None and field.message_type.GetOptions().map_entry
    ]

    assert all(side.type == FieldDescriptor.TYPE_STRING for sides in maps for side in sides)


def test_giant_request_is_refused_before_it_is_walked() -> None:
    """failures.md security point 5: a giant order list costs nothing."""
    assert [(no.reason, no.field) for no in _refusals(create_request(orders=5_000))] == [(Reason.MALFORMED, "")]


def test_thirty_one_orders_are_too_many() -> None:
    """ORDERS_MAX, by the contract."""
    assert [no.field for no in _refusals(create_request(orders=31))] == ["payment_orders"]


@pytest.mark.parametrize("field", ["buyer_info", "payment_method"])
def test_missing_message_is_named(field: str) -> None:
    """protovalidate's `required`."""
    request = create_request()
    request.ClearField(field)  # type: ignore[arg-type]  # both are fields

    assert field in [no.field for no in _refusals(request)]


def test_buyer_account_of_digits_only_is_refused() -> None:
    """Design section 6: id fields hold a non-digit, or they could be card numbers."""
    request = create_request()
    request.buyer_info.buyer_account = "12345"

    assert [no.field for no in _refusals(request)] == ["buyer_info.buyer_account"]


def test_refusal_of_an_item_is_told_from_the_item_on() -> None:
    """Design section 8: items are independent."""
    refusals = [
        Refusal(Reason.MALFORMED, "transfers[3].money.amount", "bad"),
        Refusal(Reason.CARD_NUMBER, "transfers[3].owner", "card"),
    ]

    assert by_item(refusals) == {3: Refusal(Reason.MALFORMED, "money.amount", "bad")}


def test_refusal_of_the_whole_batch_ends_the_call() -> None:
    """More items than a batch takes is nobody's own fault."""
    with pytest.raises(Rejected):
        by_item([Refusal(Reason.MALFORMED, "transfers", "too many")])


def test_page_token_comes_back_as_the_position_it_was_made_of() -> None:
    """Opaque to callers, exact to us."""
    page = common_pb2.PageRequest(page_token=token_of("12:0193-ab"))

    assert after_of(page) == "12:0193-ab"


@pytest.mark.parametrize("text", ["x", "'; DROP TABLE slot; --", "\u0661\u0662", "MTrD/w==", "-_-_"])
def test_page_token_of_somebody_else_is_refused(text: str) -> None:
    """failures.md security point 8: payloads in page tokens never reach a reader."""
    with pytest.raises(Rejected):
        after_of(common_pb2.PageRequest(page_token=text))


def test_instant_beyond_the_calendar_is_refused() -> None:
    """A timestamp of 2^62 seconds would overflow every column."""
    assert isinstance(instant_ms(Timestamp(seconds=2**62), "created_from"), Refusal)
    assert instant_ms(Timestamp(seconds=1, nanos=999_999_999), "created_from") == 1_999
