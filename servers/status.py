"""What a caller is told when it does not get what it asked for: the error table of design section 8, as one table.

Every refusal (`Reason`), every failure of `errors.py` and the doors' own troubles have a row: the gRPC code, which
google.rpc detail goes with it, and whether only the same key is safe for another try. A test holds the table total.

Invariant: no value of a request and no inner message leaves by a row that has a text of its own; INTERNAL tells an
incident id and nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from actors.answer import Busy, Failed, InFlight, Refused
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import PspTrouble, ZerosumError
from zerosum.limits import RETRY_HINT_MS
from zerosum.readers import MalformedPosition

DOMAIN = "zerosum"
FIELDS_MAX = 10
"""Field violations told at once: 10 x ~300 bytes stays below the 8 KB that HTTP/2 peers take as metadata."""


class Detail(Enum):
    """Which google.rpc message goes along with ErrorInfo."""

    FIELDS = auto()
    PRECONDITION = auto()
    RESOURCE = auto()
    RETRY = auto()
    QUOTA = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `text`: what people read, "" = the refusal's own message."""

    code: grpc.StatusCode
    detail: Detail
    same_key_required: bool
    text: str = ""


_INVALID = Row(grpc.StatusCode.INVALID_ARGUMENT, Detail.FIELDS, same_key_required=False)
_PRECONDITION = Row(grpc.StatusCode.FAILED_PRECONDITION, Detail.PRECONDITION, same_key_required=False)
_AWAY = Row(
    grpc.StatusCode.UNAVAILABLE, Detail.RETRY, same_key_required=True,
    text="something needed is away; the request may have been recorded: send it again with the same key",
)  # fmt: skip
_CONFLICT = Row(
    grpc.StatusCode.ABORTED, Detail.RETRY, same_key_required=True,
    text="too many conflicting requests; send it again with the same key",
)  # fmt: skip
_FULL = Row(
    grpc.StatusCode.RESOURCE_EXHAUSTED, Detail.QUOTA, same_key_required=True,
    text="too much is waiting; nothing was recorded by this call, send it again with the same key",
)  # fmt: skip
_BROKEN = Row(grpc.StatusCode.INTERNAL, Detail.NONE, same_key_required=True)

TABLE: Mapping[str, Row] = {
    # refusals
    Reason.MALFORMED: _INVALID,
    Reason.AMOUNT_MALFORMED: _INVALID,
    Reason.AMOUNT_NOT_POSITIVE: _INVALID,
    Reason.AMOUNT_TOO_LARGE: _INVALID,
    Reason.AMOUNT_TOO_PRECISE: _INVALID,
    Reason.CURRENCY_UNKNOWN: _INVALID,
    Reason.CARD_NUMBER: _INVALID,
    Reason.DUPLICATE_IN_REQUEST: _INVALID,
    Reason.KEY_REUSED: _PRECONDITION,
    Reason.CHECKOUT_ID_REUSED: _PRECONDITION,
    Reason.PAYMENT_ORDER_ID_TAKEN: _PRECONDITION,
    Reason.ILLEGAL_TRANSITION: _PRECONDITION,
    Reason.UNKNOWN_ID: Row(grpc.StatusCode.NOT_FOUND, Detail.RESOURCE, same_key_required=False),
    Reason.NOT_A_DEAD_LETTER: _PRECONDITION,
    Reason.JOURNAL_NOT_BALANCED: _INVALID,
    Reason.ACCOUNT_MALFORMED: _INVALID,
    Reason.CONTROLS_DIFFER: _INVALID,
    Reason.ACCOUNT_CLOSED: _PRECONDITION,
    Reason.BALANCE_TOO_LOW: _PRECONDITION,
    Reason.NOT_REFUNDABLE: _PRECONDITION,
    Reason.ALREADY_REFUNDED: _PRECONDITION,
    Reason.REFUND_NOT_WHOLE: _PRECONDITION,
    Reason.PROPOSAL_CHANGED: _PRECONDITION,
    Reason.FOUR_EYES: _PRECONDITION,
    Reason.NOTHING_TO_POST: _PRECONDITION,
    # failures, by the name of their class in errors.py
    "ZEROSUM_ERROR": _BROKEN,
    "MISCONFIGURED": _BROKEN,
    "BUG": _BROKEN,
    "RETRYABLE": _AWAY,
    "UNAVAILABLE": _AWAY,
    "OVERLOADED": _FULL,
    "SERIALIZATION_CONFLICT": _CONFLICT,
    "CONFLICT_BUDGET": _CONFLICT,
    "COMMIT_AMBIGUOUS": _AWAY,
    "ROWS_REFUSED": _BROKEN,
    "ROW_HELD": _AWAY,
    "SUPERSEDED": _CONFLICT,
    "PSP_TROUBLE": _AWAY,
    "NOT_SENT": _AWAY,
    "OUTCOME_UNKNOWN": _AWAY,
    "STORED_FAILURE": _AWAY,
    # the doors' own
    "IN_FLIGHT": replace(_FULL, text="the same key is accepted and not answered yet; ask again with it"),
    "BUSY": _FULL,
    "ADMISSION_FULL": replace(_FULL, text="this server works on as many calls as it takes; nothing was done"),
    "DRAINING": replace(_AWAY, text="this server is stopping; nothing was done, another one takes the call"),
    "NOT_ANSWERED": replace(_AWAY, text="accepted, and its reply is not known here yet; ask again with the same key"),
    "DEADLINE_PASSED": Row(
        grpc.StatusCode.DEADLINE_EXCEEDED, Detail.NONE, same_key_required=True,
        text="the deadline had passed when the call arrived; nothing was done",
    ),
    "WEBHOOK_NOT_VERIFIED": replace(_INVALID, text="the signature, timestamp or body is not acceptable"),
    "UNAUTHENTICATED": Row(
        grpc.StatusCode.UNAUTHENTICATED, Detail.NONE, same_key_required=False, text="no valid bearer token"
    ),
    "PERMISSION_DENIED": Row(
        grpc.StatusCode.PERMISSION_DENIED, Detail.NONE, same_key_required=False, text="not allowed for this identity"
    ),
    "INTERNAL": _BROKEN,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """A row of the table applied to one call. `inner` is for the log and never leaves. `is_replay`: told before."""

    reason: str
    refusals: tuple[Refusal, ...] = ()
    retry_after_ms: int = RETRY_HINT_MS
    inner: str = ""
    is_replay: bool = False

    @property
    def row(self) -> Row:
        """The row; a reason without one is a broken invariant."""
        return TABLE.get(self.reason, _BROKEN)


class Rejected(Exception):
    """Ends a call with a Problem. Raised by the doors only, answered by the frame (`interceptors.py`)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


MALFORMED_POSITION = Refusal(Reason.MALFORMED, "page.page_token", "not a token of ours")


def reason_of_failure(kind: str) -> str:
    """The reason of a class of errors.py: "ConflictBudget" -> "CONFLICT_BUDGET"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).upper()


_PRECEDENCE = {reason: position for position, reason in enumerate(Reason)}


def refused(*refusals: Refusal, is_replay: bool = False) -> Rejected:
    """Ends the call with these refusals; the reason told is the first in the order of `Reason`."""
    ordered = sorted(refusals, key=lambda refusal: _PRECEDENCE[refusal.reason])
    return Rejected(Problem(ordered[0].reason, tuple(ordered[:FIELDS_MAX]), is_replay=is_replay))


def not_found(field: str) -> Rejected:
    """Ends the call: there is no such id in this tenant. The same for an id that is another tenant's."""
    return refused(Refusal(Reason.UNKNOWN_ID, field, "there is nothing under this id"))


def of_answer(answer: Refused | InFlight | Busy | Failed) -> Problem:
    """What an answer of a shard means to the caller."""
    match answer:
        case Refused(refusal, is_replay):
            return Problem(refusal.reason, (refusal,), is_replay=is_replay)
        case InFlight(retry_after_ms):
            return Problem("IN_FLIGHT", retry_after_ms=retry_after_ms)
        case Busy(retry_after_ms):
            return Problem("BUSY", retry_after_ms=retry_after_ms)
        case Failed(kind, message):
            return Problem(reason_of_failure(kind), inner=message)


def of_error(error: BaseException) -> Problem:
    """What a raised error means to the caller. Anything that is not ours is a broken invariant."""
    if isinstance(error, Rejected):
        return error.problem
    if isinstance(error, MalformedPosition):
        return refused(MALFORMED_POSITION).problem
    inner = f"{type(error).__name__}: {error}"
    if not isinstance(error, ZerosumError):
        return Problem("INTERNAL", inner=inner)
    retry_after_ms = error.retry_after_ms if isinstance(error, PspTrouble) else 0
    reasons = (reason_of_failure(kind.__name__) for kind in type(error).__mro__)
    reason = next(
        reason for reason in reasons if reason in TABLE
    )  # a finer class of an adapter is told as ours above it
    return Problem(reason, retry_after_ms=retry_after_ms or RETRY_HINT_MS, inner=inner)


def to_status(problem: Problem, incident_id: str) -> status_pb2.Status:
    """The problem as it goes over the wire. `incident_id` is told for INTERNAL only."""
    row = problem.row
    metadata = {"same_key_required": "true" if row.same_key_required else "false"}
    reason, text = problem.reason, row.text or _first_message(problem.refusals)
    if row is _BROKEN:
        metadata["incident_id"] = incident_id
        reason, text = "INTERNAL", f"incident {incident_id}"
    told: list[object] = [details.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)]
    told.extend(_details(problem, row.detail))
    number: int = row.code.value[0]
    status = status_pb2.Status(code=number, message=text)
    for detail in told:
        packed = AnyMessage()
        packed.Pack(detail)  # type: ignore[arg-type]  # google.rpc comes without types
        status.details.append(packed)
    return status


def _first_message(refusals: Sequence[Refusal]) -> str:
    return refusals[0].message if refusals else ""


def _details(problem: Problem, detail: Detail) -> list[object]:
    refusals = problem.refusals
    match detail:
        case Detail.FIELDS:
            fields = [
                details.BadRequest.FieldViolation(field=no.field, description=no.message, reason=no.reason)
                for no in refusals
            ]
            return [details.BadRequest(field_violations=fields)]
        case Detail.PRECONDITION:
            violations = [
                details.PreconditionFailure.Violation(type=no.reason, subject=no.field, description=no.message)
                for no in refusals
            ]
            return [details.PreconditionFailure(violations=violations)]
        case Detail.RESOURCE:
            return [details.ResourceInfo(resource_type=no.field, description=no.message) for no in refusals[:1]]
        case Detail.RETRY:
            return [_retry_info(problem.retry_after_ms)]
        case Detail.QUOTA:
            quota = details.QuotaFailure.Violation(subject=problem.reason, description=problem.row.text)
            return [_retry_info(problem.retry_after_ms), details.QuotaFailure(violations=[quota])]
        case Detail.NONE:
            return []


def _retry_info(retry_after_ms: int) -> object:
    info = details.RetryInfo()
    info.retry_delay.FromMilliseconds(retry_after_ms)
    return info
