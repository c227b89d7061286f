"""The error table is total, and tells no more than it says."""

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from actors.answer import Busy, Failed, InFlight, Refused
from servers.status import TABLE, Problem, Rejected, of_answer, of_error, reason_of_failure, refused, to_status
from zerosum import errors
from zerosum.domain.refusal import Reason, Refusal
from zerosum.readers import MalformedPosition

FAILURES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.ZerosumError)]


def _detail(problem: Problem, kind: type) -> object:
    for packed in to_status(problem, "incident-1").details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    raise AssertionError(f"no {kind.__name__}")


@pytest.mark.parametrize("reason", list(Reason))
def test_every_refusal_has_a_row(reason: Reason) -> None:
    """Design section 8: a refusal is INVALID_ARGUMENT, FAILED_PRECONDITION or NOT_FOUND, and safe under a new key."""
    row = TABLE[reason]

    assert row.code in {
        grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND
    }  # fmt: skip
    assert not row.same_key_required


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_of_ours_has_a_row_and_keeps_the_key(failure: type[errors.ZerosumError]) -> None:
    """What may have been recorded may be tried again under the same key only."""
    assert TABLE[reason_of_failure(failure.__name__)].same_key_required


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConflictBudget("x"), grpc.StatusCode.ABORTED),
        (errors.Superseded("x"), grpc.StatusCode.ABORTED),
        (errors.Unavailable("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.CommitAmbiguous("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.Overloaded("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Bug("x"), grpc.StatusCode.INTERNAL),
        (ValueError("x"), grpc.StatusCode.INTERNAL),
    ],
)
def test_failure_is_told_by_its_row(error: Exception, code: grpc.StatusCode) -> None:
    """Design section 8: the table of codes."""
    assert of_error(error).row.code is code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (InFlight(700), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Busy(700), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Failed("ConflictBudget", "x"), grpc.StatusCode.ABORTED),
        (Failed("Bug", "x"), grpc.StatusCode.INTERNAL),
        (Failed("NobodyKnows", "x"), grpc.StatusCode.INTERNAL),
        (Refused(Refusal(Reason.KEY_REUSED, "", "no"), False), grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_answer_of_a_shard_is_told_by_its_row(
    answer: InFlight | Busy | Failed | Refused, code: grpc.StatusCode
) -> None:
    """Design section 8: what a shard cannot do has the code of its kind."""
    assert of_answer(answer).row.code is code


def test_in_flight_says_when_to_ask_again() -> None:
    """The shard's own delay travels as RetryInfo."""
    info = _detail(of_answer(InFlight(1_500)), details.RetryInfo)

    assert info.retry_delay.ToMilliseconds() == 1_500  # type: ignore[attr-defined]  # google.rpc comes without types


def test_broken_invariant_tells_an_incident_id_and_nothing_else() -> None:
    """INTERNAL leaves without the inner message."""
    status = to_status(of_error(errors.Bug("entity co-1 has pm_secret")), "incident-1")

    assert "incident-1" in status.message
    assert b"pm_secret" not in status.SerializeToString()
    assert _detail(of_error(ValueError("x")), details.ErrorInfo).metadata == {  # type: ignore[attr-defined]  # as above
        "same_key_required": "true", "incident_id": "incident-1"
    }  # fmt: skip


def test_first_reason_in_order_of_precedence_is_told_and_every_field_named() -> None:
    """Refusal.Reason is in order of precedence."""
    rejected = refused(
        Refusal(Reason.CARD_NUMBER, "buyer_info.name", "card"), Refusal(Reason.MALFORMED, "checkout_id", "bad")
    )
    info, bad = (_detail(rejected.problem, kind) for kind in (details.ErrorInfo, details.BadRequest))

    assert (info.reason, info.domain) == ("MALFORMED", "zerosum")  # type: ignore[attr-defined]  # google.rpc without types
    assert [field.field for field in bad.field_violations] == ["checkout_id", "buyer_info.name"]  # type: ignore[attr-defined]  # as above


def test_many_violations_stay_below_the_limit_of_metadata() -> None:
    """A request with a thousand bad fields is told about ten."""
    rejected = refused(*[Refusal(Reason.MALFORMED, f"payment_orders[{at}].amount", "x" * 200) for at in range(1_000)])

    assert len(to_status(rejected.problem, "").SerializeToString()) < 7_000


def test_finer_class_of_an_adapter_is_told_as_the_class_of_ours_above_it() -> None:
    """Adapters may refine errors.py; callers need not know."""

    class Slow(errors.OutcomeUnknown):
        pass

    assert of_error(Slow("x")).reason == "OUTCOME_UNKNOWN"


def test_position_a_reader_does_not_know_is_the_callers_fault() -> None:
    """failures.md security point 8: a page token of somebody else's is INVALID_ARGUMENT, by its field."""
    problem = of_error(MalformedPosition("not a position of this list"))

    assert (problem.row.code, problem.refusals[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "page.page_token")


def test_rejected_keeps_its_problem_through_the_mapping() -> None:
    """What a door ended stays as the door said it."""
    problem = Problem("DRAINING")

    assert of_error(Rejected(problem)) is problem
