"""The client's journal: what the load test writes down, line by line, and nobody else may interpret differently.

One JSON object a line, UTF-8, in one or more files (one per Locust worker); order within a file is the order of writing.

    {"kind": "intent", "call": "w0-17", "tenant": "acme", "key": "chk-9", "checkout_id": "chk-9", "fingerprint": "ab12..",
     "orders": [{"payment_order_id": "po-1", "seller_account": "s-1", "amount": "12.50", "currency": "USD"}],
     "sent_ms": 1790000000000}
    {"kind": "answer", "call": "w0-17", "key": "chk-9", "result": "ok", "code": "OK", "reply_sha256": "9f..",
     "replayed": false, "orders": [{"payment_order_id": "po-1", "status": "SUCCESS"}], "answered_ms": 1790000000140}

Rules for the writer:

* `intent` is written and flushed to the operating system BEFORE the request is sent, `answer` after the reply is whole.
  A call without an answer counts as unknown. A file killed in the middle of its last line is fine; it is counted.
* `call` names one RPC and is unique over all files. A retry with the same key is a new call with an intent of its own.
* `key` is the key as sent; where the caller sends none, the checkout_id. `fingerprint` is any hash of the request's
  meaning, the writer's own: equal requests, equal fingerprints.
* `result`: `ok` the reply carries outcomes (a decline is an outcome too); `fail` the service says for good that nothing
  was executed: INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED; `unknown` everything
  else: RESOURCE_EXHAUSTED (the same key may be in flight), UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED, CANCELLED, INTERNAL.
* `code` is the name of the gRPC status. `orders` and `reply_sha256` belong to `ok` only.
* `reply_sha256` is the hexadecimal SHA-256 of the reply's bytes as received (the serialised CreatePaymentResponse); ""
  where the bytes are not at hand (then replies are compared with nothing).
* `status` is the bare name: NOT_STARTED, EXECUTING, PENDING, AUTHORIZED, SUCCESS, FAILED, CANCELED.

`intent_line` and `answer_line` build the lines; the load test may import this module, which imports nothing.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, Literal

Result = Literal["ok", "fail", "unknown"]

FAIL_CODES: Final = frozenset(
    {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED"}
)
"""gRPC codes that prove that this call executed nothing, now or later."""


def result_of(code: str) -> Result:
    """The result of a call that ended with this gRPC code."""
    if code == "OK":
        return "ok"
    return "fail" if code in FAIL_CODES else "unknown"


def intent_line(
    *,
    call: str,
    tenant: str,
    key: str,
    checkout_id: str,
    fingerprint: str,
    orders: Iterable[Mapping[str, str]],
    sent_ms: int,
) -> bytes:
    """The line to write before a request is sent. `orders`: payment_order_id, seller_account, amount, currency."""
    return _line(
        {
            "kind": "intent",
            "call": call,
            "tenant": tenant,
            "key": key,
            "checkout_id": checkout_id,
            "fingerprint": fingerprint,
            "orders": [dict(order) for order in orders],
            "sent_ms": sent_ms,
        }
    )


def answer_line(
    *,
    call: str,
    key: str,
    code: str,
    reply_sha256: str = "",
    replayed: bool = False,
    orders: Iterable[Mapping[str, str]] = (),
    answered_ms: int,
) -> bytes:
    """The line to write after a reply. `orders`: payment_order_id, status; only where `code` is OK."""
    return _line(
        {
            "kind": "answer",
            "call": call,
            "key": key,
            "result": result_of(code),
            "code": code,
            "reply_sha256": reply_sha256,
            "replayed": replayed,
            "orders": [dict(order) for order in orders],
            "answered_ms": answered_ms,
        }
    )


def _line(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
