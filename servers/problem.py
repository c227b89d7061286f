"""What a failed call says over HTTP: application/problem+json (RFC 9457), made from the gRPC status and its details.

Invariant: nothing goes out that the gRPC error table did not say; field paths are the HTTP body's own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from zerosum.v1.common_pb2 import ItemRefusal

HTTP_STATUS: Mapping[str, int] = {
    "CANCELLED": 503,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 503,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""gRPC code -> HTTP status. Total over the codes but OK."""
_TITLES = {
    400: "The request is malformed",
    401: "No valid bearer token",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "The request contradicts what is recorded",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The content type is not supported",
    429: "Too much at once",
    500: "Something is broken here",
    501: "Not implemented",
    503: "Not available now",
    504: "No answer in time",
}
_RETRYABLE = frozenset({429, 503, 504})
_OUR_NAMES = (("payment_method", "credit_card_info"),)
"""Contract's name -> the HTTP body's name, at the beginning of a path."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field at fault, by its path in the HTTP body."""

    field: str
    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class HttpProblem:
    """An error as it goes out. `retry_after_s` is 0 where another try is of no use."""

    status: int
    detail: str
    reason: str
    same_key_required: bool = False
    incident_id: str = ""
    retry_after_s: int = 0
    errors: Sequence[FieldError] = field(default=())

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON object."""
        told: dict[str, Any] = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
            "same_key_required": self.same_key_required,
            "request_id": request_id,
        }
        if self.incident_id:
            told["incident_id"] = self.incident_id
        if self.errors:
            told["errors"] = [{"field": one.field, "message": one.message, "reason": one.reason} for one in self.errors]
        return told

    def headers(self) -> dict[str, str]:
        """Retry-After where it helps, and what a 401 must say."""
        headers = {"retry-after": str(self.retry_after_s)} if self.retry_after_s else {}
        return headers | ({"www-authenticate": "Bearer"} if self.status == HTTP_STATUS["UNAUTHENTICATED"] else {})


def of_rpc(error: Any, *, service: str = "payment") -> HttpProblem:
    """The problem of a failed call (grpc.RpcError with a code). `service`: who was called."""
    code = error.code().name
    status = HTTP_STATUS[code]
    said = _details_of(error)
    info: Any = said.get("ErrorInfo")
    metadata = dict(info.metadata) if info else {}
    retry: Any = said.get("RetryInfo")
    retry_ms = retry.retry_delay.ToMilliseconds() if retry else 0
    return HttpProblem(
        status=status,
        # without details the text is the transport's, not ours
        detail=(error.details() or "") if info else f"the {service} service did not answer",
        reason=info.reason if info else code,
        # who is not told "false" by us may have been served: the transport breaks after the work as well as before it
        same_key_required=metadata.get("same_key_required") != "false",
        incident_id=metadata.get("incident_id", ""),
        retry_after_s=max(1, -(-retry_ms // 1_000)) if status in _RETRYABLE else 0,
        errors=_field_errors(said),
    )


def _details_of(error: Any) -> dict[str, Any]:
    """The google.rpc details by the name of their type."""
    said: dict[str, Any] = {}
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        try:
            packed = status_pb2.Status.FromString(value).details
        except DecodeError:
            return {}
        for one in packed:
            kind = getattr(details, one.type_url.rpartition(".")[2], None)
            if kind is not None:
                message = kind()
                one.Unpack(message)
                said[message.DESCRIPTOR.name] = message
    return said


def _field_errors(said: Mapping[str, Any]) -> Sequence[FieldError]:
    bad, unmet = said.get("BadRequest"), said.get("PreconditionFailure")
    fields = [(one.field, one.description, one.reason) for one in bad.field_violations] if bad else []
    fields += [(one.subject, one.description, one.type) for one in unmet.violations] if unmet else []
    return [FieldError(_our_path(path), message, reason) for path, message, reason in fields]


def _our_path(path: str) -> str:
    for theirs, ours in _OUR_NAMES:
        path = re.sub(rf"^{theirs}(?=$|\.)", ours, path)
    return path


def of_validation(errors: Sequence[Mapping[str, Any]]) -> HttpProblem:
    """The problem of a body that is not of its shape. What the body held is not told, unknown names included."""
    told = [_shape_error(error) for error in errors[:10]]
    return HttpProblem(400, "the body is not of the expected shape", "MALFORMED", errors=told)


def _shape_error(error: Mapping[str, Any]) -> FieldError:
    kind, location = str(error["type"]), list(error["loc"])
    if kind == "json_invalid":
        return FieldError("", "not valid JSON", "MALFORMED")
    if kind == "extra_forbidden":
        return FieldError(_path(location[:-1]), "holds a field that is not known", "MALFORMED")
    return FieldError(_path(location), str(error["msg"]), "MALFORMED")


def _path(location: Sequence[object]) -> str:
    path = ""
    for part in location[1:]:  # the first says "body" or "header"
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def of_http(status: int) -> HttpProblem:
    """The problem of an error HTTP itself brings up: no such path, method, too large."""
    is_refused = status < HTTP_STATUS["INTERNAL"] and status not in _RETRYABLE
    return HttpProblem(status, _TITLES.get(status, "Error").lower(), "HTTP", same_key_required=not is_refused)


FULL = HttpProblem(
    429, "this edge works on as many calls as it takes; nothing was done", "ADMISSION_FULL", same_key_required=True,
    retry_after_s=1,
)  # fmt: skip


def of_refused(refusal: ItemRefusal) -> HttpProblem:
    """The problem of an item that was refused for good."""
    told = FieldError(refusal.field, refusal.message, refusal.reason)
    return HttpProblem(400, refusal.message, refusal.reason, errors=[told])
