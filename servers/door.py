"""From a request's message to the domain's command: every check of what may come in stands here.

In order: the size, the rules in the contracts (protovalidate), then every text of the message (U+0000, length, card
numbers), then what the contracts cannot say (amounts, ids twice in one request).

Invariant: what leaves this file as a command can be stored and printed as it is; what is refused is told by the field's
path and never by its value. Source: design section 6, failures.md security points 6 and 7.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from protovalidate import Validator, Violation

from zerosum.domain.card import holds_card_number
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.message import Buyer, OnPartial, OrderLine, SubmitCheckout
from zerosum.domain.money import parse_amount
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Reason, Refusal
from zerosum.v1 import ledger_pb2, payment_pb2, reconciliation_pb2, wallet_pb2

REQUEST_BYTES_MAX = 64 * 1024
"""A checkout of 30 orders is about 7 KB."""
_BYTES_MAX = {
    payment_pb2.ReceiveWebhookRequest.DESCRIPTOR.full_name: 320 * 1024,  # a body of 256 KB and its headers
    payment_pb2.ReceiveWebhooksRequest.DESCRIPTOR.full_name: 3 * 1024 * 1024,  # the edge sends 2 MB and one more
    payment_pb2.ReportSettlementRequest.DESCRIPTOR.full_name: 512 * 1024,  # 256 lines x ~1 KB, doubled
    wallet_pb2.ApplyTransfersRequest.DESCRIPTOR.full_name: 256
    * 1024,  # 256 transfers x ~400 bytes, doubled and rounded
    ledger_pb2.PostJournalsRequest.DESCRIPTOR.full_name: 4 * 1024 * 1024,  # 256 journals x 64 entries x ~220 bytes
    reconciliation_pb2.ImportFileRequest.DESCRIPTOR.full_name: 1_088 * 1024,  # a chunk of 1 MB, or a header
}
TEXT_MAX = 4_096
"""Characters of a text for which the contract has no limit of its own: webhook headers."""
INSTANT_MAX_S = 253_402_300_799
"""The last second of the year 9999: later instants are no dates."""

_MS_PER_S = 1_000
_VALIDATOR = Validator()


# ---- checks of any message -----------------------------------------------------------------------------------------


def check(message: Message) -> list[Refusal]:
    """Everything that is wrong with a request by its contract and its texts; empty = nothing."""
    if message.ByteSize() > _BYTES_MAX.get(message.DESCRIPTOR.full_name, REQUEST_BYTES_MAX):
        return [Refusal(Reason.MALFORMED, "", "the request is too large")]
    violations = _VALIDATOR.collect_violations(message)
    refusals = [Refusal(Reason.MALFORMED, path_of(violation), message_of(violation)) for violation in violations]
    return refusals + check_texts(message)


def check_texts(message: Message) -> list[Refusal]:
    """What is wrong with the texts of a message, at any depth."""
    texts: list[str] = []
    _collect(message, texts)
    if not any(map(_is_bad, texts)):
        return []
    return [refusal for path, text in _texts(message, "") if (refusal := _check_text(path, text))]


def _is_bad(text: str) -> bool:
    return holds_card_number(text) or "\x00" in text or len(text) > TEXT_MAX


def _check_text(path: str, text: str) -> Refusal | None:
    if len(text) > TEXT_MAX:
        return Refusal(Reason.MALFORMED, path, "the text is too long")
    if "\x00" in text:
        return Refusal(Reason.MALFORMED, path, "the text holds U+0000")
    if holds_card_number(text):
        return Refusal(Reason.CARD_NUMBER, path, "a card number is never taken; use a token of the PSP")
    return None


@dataclass(frozen=True, slots=True)
class _Shape:
    """What of a message type holds text: singular texts, and the fields to be walked one by one."""

    texts: tuple[str, ...]
    messages: tuple[str, ...]
    repeated: tuple[FieldDescriptor, ...]


@cache
def _shape_of(descriptor: Descriptor) -> _Shape:
    texts, messages, repeated = [], [], []
    for field in descriptor.fields:
        if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            continue
        if field.is_repeated:
            repeated.append(field)
        elif field.type == FieldDescriptor.TYPE_STRING:
            texts.append(field.name)
        else:
            messages.append(field.name)
    return _Shape(tuple(texts), tuple(messages), tuple(repeated))


def _collect(message: Message, texts: list[str]) -> None:
    """Every text of the message, without its path: what nearly every request needs, and a third of the time."""
    shape = _shape_of(message.DESCRIPTOR)
    for name in shape.texts:
        texts.append(getattr(message, name))
    for name in shape.messages:
        if message.HasField(name):
            _collect(getattr(message, name), texts)
    for field in shape.repeated:
        values = getattr(message, field.name)
        if not values:
            continue
        if field.message_type is None:
            texts.extend(values)
        elif field.message_type.GetOptions().map_entry:
            texts.extend(chain(values, values.values()))
        else:
            for value in values:
                _collect(value, texts)


def _texts(message: Message, path: str) -> Iterator[tuple[str, str]]:
    shape = _shape_of(message.DESCRIPTOR)
    for name in shape.texts:
        if text := getattr(message, name):
            yield path + name, text
    for name in shape.messages:
        if message.HasField(name):
            yield from _texts(getattr(message, name), f"{path}{name}.")
    for field in shape.repeated:
        yield from _texts_of_repeated(message, field, path + field.name)


def _texts_of_repeated(message: Message, field: FieldDescriptor, path: str) -> Iterator[tuple[str, str]]:
    values = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        texts = chain(values, values.values())  # the contracts have maps of text to text only; a test holds them to it
        yield from ((f"{path}[*]", text) for text in texts)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from ((f"{path}[{position}]", text) for position, text in enumerate(values))
    else:
        for position, value in enumerate(values):
            yield from _texts(value, f"{path}[{position}].")


def path_of(violation: Violation) -> str:
    """The field's path as people write it: "payment_orders[2].amount". A map's key is a value: it is never echoed."""
    parts = []
    for element in violation.proto.field.elements if violation.proto.field else ():
        subscript = element.subscript
        if subscript is None:
            parts.append(element.field_name)
        else:
            index = str(subscript.value) if subscript.field == "index" else "*"
            parts.append(f"{element.field_name}[{index}]")
    return ".".join(parts)


def message_of(violation: Violation) -> str:
    """The rule that was broken; the contracts' rules name no values."""
    return violation.proto.message


# ---- a checkout ----------------------------------------------------------------------------------------------------


def submit_checkout(request: payment_pb2.CreatePaymentRequest, tenant: Tenant) -> SubmitCheckout | list[Refusal]:
    """The command, or everything that is wrong with the request. The default key is the checkout's id."""
    if refusals := check(request):
        return refusals
    lines = [_order_line(asked, f"payment_orders[{at}]") for at, asked in enumerate(request.payment_orders)]
    refusals = [line for line in lines if isinstance(line, Refusal)]
    refusals += twice(
        "payment_orders", "payment_order_id", [asked.payment_order_id for asked in request.payment_orders]
    )
    buyer = request.buyer_info
    if buyer.buyer_account.isdigit():
        refusals.append(Refusal(Reason.MALFORMED, "buyer_info.buyer_account", "an id holds at least one non-digit"))
    if refusals:
        return refusals
    return SubmitCheckout(
        tenant=tenant,
        checkout_id=CheckoutId(request.checkout_id),
        key=Key(request.idempotency_key or request.checkout_id),
        buyer=Buyer(buyer.buyer_account, buyer.name, buyer.email, buyer.country),
        token=request.payment_method.token,
        lines=tuple(line for line in lines if isinstance(line, OrderLine)),
        on_partial=OnPartial.REVERSE if request.on_partial == payment_pb2.ON_PARTIAL_REVERSE else OnPartial.KEEP,
    )


def request_refund(request: payment_pb2.CreateRefundRequest, requested_by: str) -> RequestRefund | list[Refusal]:
    """The command, or everything that is wrong with the request. No amount means the whole."""
    if refusals := check(request):
        return refusals
    money = None
    if request.HasField("money"):
        money = parse_amount(request.money.amount, request.money.currency, "money.amount")
    if isinstance(money, Refusal):
        return [money]
    order_id, key = OrderId(request.payment_order_id), Key(request.idempotency_key)
    return RequestRefund(order_id, key, money, request.reason, requested_by)


def _order_line(asked: payment_pb2.PaymentOrderRequest, path: str) -> OrderLine | Refusal:
    money = parse_amount(asked.amount, asked.currency, f"{path}.amount")
    if isinstance(money, Refusal):
        return money
    return OrderLine(OrderId(asked.payment_order_id), asked.seller_account, asked.amount, money)


def twice(list_name: str, id_name: str, ids: Iterable[object]) -> list[Refusal]:
    """A refusal for every id that an earlier item of the same request has."""
    seen: set[object] = set()
    refusals = []
    for position, one in enumerate(ids):
        if one in seen:
            path = f"{list_name}[{position}].{id_name}"
            refusals.append(Refusal(Reason.DUPLICATE_IN_REQUEST, path, "an earlier item has the same id"))
        seen.add(one)
    return refusals


# ---- small pieces --------------------------------------------------------------------------------------------------


def instant_ms(instant: Timestamp, field: str) -> int | Refusal:
    """An instant in milliseconds, within the years 1970 to 9999."""
    rest_ms, _ = divmod(instant.nanos, 1_000_000)
    if not (0 <= instant.seconds <= INSTANT_MAX_S and 0 <= rest_ms < _MS_PER_S):
        return Refusal(Reason.MALFORMED, field, "not an instant between 1970 and 9999")
    return instant.seconds * _MS_PER_S + rest_ms
