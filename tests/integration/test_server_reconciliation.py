"""The door of ReconciliationService over the wire: uploads, runs, the queue, and who may."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from servers.reconciliation_reply import CLASSES, FILE_STATES, RESOLUTIONS, RUN_KINDS, STATES
from tests.integration.reconciliation_fakes import (
    ADA,
    CONTENT,
    DAY,
    KEY,
    RUN,
    VIEW,
    FakeFiles,
    FakeQueue,
    FakeRuns,
    chunks,
    header,
    refusal,
    servicer,
)
from tests.integration.server_process import serving
from zerosum.domain.case import Asked, Assign, CaseState, Comment, Propose, Reject, Resolution
from zerosum.domain.discrepancy import Class
from zerosum.domain.refusal import Reason, Refusal
from zerosum.finance_queue import Acted, MismatchFilter
from zerosum.reconciling import (
    FileState,
    Incoming,
    RunKey,
    RunKind,
    RunState,
)
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1.common_pb2 import PageRequest
from zerosum.v1.reconciliation_pb2_grpc import ReconciliationServiceStub

# ---- files ---------------------------------------------------------------------------------------------------------


async def test_a_file_arrives_as_it_was_sent_and_the_same_again_is_a_replay(tmp_path: Path) -> None:
    """Whole: every byte in order, with the manifest and who brought it. Twice: the same answer, marked."""
    files = FakeFiles()
    async with serving(servicer(tmp_path, files=files)) as (channel, _):
        stub = ReconciliationServiceStub(channel)
        first = await stub.ImportFile(iter([header(), *chunks()]), metadata=ADA)
        call = stub.ImportFile(iter([header(), *chunks(size=1_000)]), metadata=ADA)
        again, trailers = await call, dict(await call.trailing_metadata())

    assert [content for content, _ in files.taken] == [CONTENT, CONTENT]
    assert files.taken[0][1] == Incoming("stripe", "day.csv", '{"rows": 1000}', "ada")
    assert (first.replayed, again.replayed) == (False, True)
    assert first.file == again.file
    assert trailers["idempotent-replayed"] == "true"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([header(), *list(chunks())[:-1]], "CONTROLS_DIFFER"),
        ([header(), *chunks(), pb.ImportFileRequest(chunk=b"x")], "CONTROLS_DIFFER"),
        ([header(sha256="0" * 64), *chunks()], "CONTROLS_DIFFER"),
        ([header(), *chunks(), header()], "MALFORMED"),
        (list(chunks()), "MALFORMED"),
        ([], "MALFORMED"),
        ([header(psp="unknown"), *chunks()], "MALFORMED"),
        ([header(manifest=b"\xff\xfe"), *chunks()], "MALFORMED"),
        ([header(size_bytes=2**40)], "MALFORMED"),
        ([header(sha256="abc"), *chunks()], "MALFORMED"),
        ([pb.ImportFileRequest()], "MALFORMED"),
    ],
    ids=[
        "cut off", "longer", "altered", "two headers", "no header", "nothing", "other psp", "no text", "huge", "no hash",
        "empty",
    ],
)  # fmt: skip
async def test_what_is_not_the_announced_file_is_refused_whole(tmp_path: Path, sent: Any, expected: str) -> None:
    """Row L10: nothing of it is handed on, and nothing is left on the disk."""
    files = FakeFiles()
    async with serving(servicer(tmp_path, files=files)) as (channel, _):
        code, told = await refusal(ReconciliationServiceStub(channel).ImportFile(iter(sent), metadata=ADA))

    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, expected)
    assert files.taken == []
    assert os.listdir(tmp_path) == []


async def test_an_upload_whose_caller_goes_away_is_not_taken(tmp_path: Path) -> None:
    """A stream that breaks off is no file, however much of it came; the server forgets it."""
    files, arrived = FakeFiles(), asyncio.Event()

    async def half() -> AsyncIterator[pb.ImportFileRequest]:
        yield header()
        yield next(chunks())
        arrived.set()
        await asyncio.Event().wait()

    async with serving(servicer(tmp_path, files=files)) as (channel, server):
        call = ReconciliationServiceStub(channel).ImportFile(half(), metadata=ADA)
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while server.frame.in_flight:  # noqa: ASYNC110 - the frame's counter has no event; the loop turns once a look
            await asyncio.sleep(0)

    assert files.taken == []
    assert os.listdir(tmp_path) == []


async def test_pages_of_files_go_on_behind_the_last_row(tmp_path: Path) -> None:
    async with serving(servicer(tmp_path)) as (channel, _):
        stub = ReconciliationServiceStub(channel)
        first = await stub.ListFiles(pb.ListFilesRequest(page=PageRequest(page_size=2)), metadata=ADA)
        page = PageRequest(page_size=2, page_token=first.next_page_token)
        second = await stub.ListFiles(pb.ListFilesRequest(page=page), metadata=ADA)

    assert [[file.file_id for file in page.files] for page in (first, second)] == [["f0", "f1"], ["f2"]]
    assert second.next_page_token == ""


# ---- runs ----------------------------------------------------------------------------------------------------------


async def test_a_run_is_asked_of_the_reconciler_and_told_with_its_figures(tmp_path: Path) -> None:
    runs = FakeRuns(RUN)
    asked = pb.RunReconciliationRequest(kind=pb.RUN_KIND_NIGHTLY, psp="stripe", period=DAY, again=True)
    async with serving(servicer(tmp_path, runs=runs)) as (channel, _):
        response = await ReconciliationServiceStub(channel).RunReconciliation(asked, metadata=ADA)

    assert runs.asked == [(KEY, True)]
    assert (response.run.explained_ppm, dict(response.run.by_kind)) == (800_000, {"unknown_charge": 1})
    assert response.run.state == "DONE"


async def test_a_run_that_is_being_done_is_told_as_it_stands(tmp_path: Path) -> None:
    runs = FakeRuns(RUN, replace(RUN, run_id="second", attempt=2, state=RunState.RUNNING, ended_at_ms=None))
    runs.answer = None
    asked = pb.RunReconciliationRequest(kind=pb.RUN_KIND_NIGHTLY, psp="stripe", period=DAY)
    async with serving(servicer(tmp_path, runs=runs)) as (channel, _):
        response = await ReconciliationServiceStub(channel).RunReconciliation(asked, metadata=ADA)

    assert (response.run.run_id, response.run.state) == ("second", "RUNNING")
    assert not response.run.HasField("ended_at")


async def test_the_present_hour_is_run_where_no_period_is_named(tmp_path: Path) -> None:
    runs = FakeRuns(RUN)
    async with serving(servicer(tmp_path, runs=runs)) as (channel, _):
        asked = pb.RunReconciliationRequest(kind=pb.RUN_KIND_INSIDE)
        await ReconciliationServiceStub(channel).RunReconciliation(asked, metadata=ADA)

    assert runs.asked == [(RunKey(RunKind.INSIDE, "", f"{DAY}T22"), False)]
    assert runs.asked_by == ["ada"]


@pytest.mark.parametrize(
    ("kind", "psp", "period"),
    [
        (pb.RUN_KIND_NIGHTLY, "stripe", ""),
        (pb.RUN_KIND_NIGHTLY, "stripe", "2023-02-30"),
        (pb.RUN_KIND_NIGHTLY, "stripe", "2023-11-15"),
        (pb.RUN_KIND_NIGHTLY, "other", DAY),
        (pb.RUN_KIND_NIGHTLY, "stripe", f"{DAY}T10"),
        (pb.RUN_KIND_INSIDE, "stripe", f"{DAY}T10"),
        (pb.RUN_KIND_INSIDE, "", DAY),
        (pb.RUN_KIND_UNSPECIFIED, "stripe", DAY),
        (pb.RUN_KIND_NIGHTLY, "stripe", "yesterday"),
        (pb.RUN_KIND_NIGHTLY, "stripe", "0001-01-01"),
    ],
)
async def test_a_period_that_is_none_is_refused(tmp_path: Path, kind: Any, psp: str, period: str) -> None:
    """The future has not begun; an hour is no day; another PSP's files are not ours."""
    runs = FakeRuns(RUN)
    asked = pb.RunReconciliationRequest(kind=kind, psp=psp, period=period)
    async with serving(servicer(tmp_path, runs=runs)) as (channel, _):
        code, _ = await refusal(ReconciliationServiceStub(channel).RunReconciliation(asked, metadata=ADA))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert runs.asked == []


async def test_runs_are_found_compared_and_listed(tmp_path: Path) -> None:
    async with serving(servicer(tmp_path)) as (channel, _):
        stub = ReconciliationServiceStub(channel)
        listed = await stub.ListRuns(pb.ListRunsRequest(), metadata=ADA)
        both = pb.CompareRunsRequest(before_run_id=RUN.run_id, after_run_id=RUN.run_id)
        agreed = await stub.CompareRuns(both, metadata=ADA)
        both.page.page_token = agreed.next_page_token
        compared = await stub.CompareRuns(both, metadata=ADA)
        missing = await refusal(stub.GetRun(pb.GetRunRequest(run_id="none"), metadata=ADA))
        incomparable = await refusal(
            stub.CompareRuns(pb.CompareRunsRequest(before_run_id=RUN.run_id, after_run_id="none"), metadata=ADA)
        )

    assert [(run.run_id, run.asked_by) for run in listed.runs] == [(RUN.run_id, "ben")]
    assert (list(agreed.differences), compared.next_page_token) == ([], "")
    assert [(one.item, one.before, one.after) for one in compared.differences] == [
        ("line/txn_1", "MATCHED", "MISMATCH wrong_fee")
    ]
    assert missing == incomparable == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ID")


# ---- cases ---------------------------------------------------------------------------------------------------------


async def test_a_case_is_told_with_its_postings_in_major_units_and_its_acts(tmp_path: Path) -> None:
    async with serving(servicer(tmp_path)) as (channel, _):
        stub = ReconciliationServiceStub(channel)
        told = await stub.GetMismatch(pb.GetMismatchRequest(mismatch_id="m-1"), metadata=ADA)
        missing = await refusal(stub.GetMismatch(pb.GetMismatchRequest(mismatch_id="m-2"), metadata=ADA))

    assert told.mismatch.money.amount == "12.50"
    assert [(side.account, side.money.amount) for side in told.dry_run] == [
        ("psp:stripe:clearing:USD", "12.50"), ("suspense:USD", "-12.50"),
    ]  # fmt: skip
    assert told.follows == "the wallet of s takes pending 12.50 USD"
    assert (told.proposal.number, told.proposal.proposed_by) == (1, "ada")
    assert [act.act for act in told.acts] == ["propose"]
    assert missing[0] is grpc.StatusCode.NOT_FOUND


async def test_a_filter_goes_to_the_queue_as_it_was_asked(tmp_path: Path) -> None:
    queue = FakeQueue()
    asked = pb.ListMismatchesRequest(
        state=pb.MISMATCH_STATE_OPEN, kind="unknown_fee", assignee="ada", psp="stripe", older_than_ms=5,
        payment_order_id="po-1",
    )  # fmt: skip
    setattr(asked, "class", pb.MISMATCH_CLASS_MANUAL)
    async with serving(servicer(tmp_path, queue=queue)) as (channel, _):
        response = await ReconciliationServiceStub(channel).ListMismatches(asked, metadata=ADA)

    assert queue.wanted == [
        (MismatchFilter(CaseState.OPEN, Class.MANUAL, "unknown_fee", "ada", "stripe", "po-1", 5), 50, "")
    ]
    assert response.next_page_token
    assert getattr(response.mismatches[0], "class") == pb.MISMATCH_CLASS_UNCLASSIFIED


@pytest.mark.parametrize(
    ("method", "request_of", "expected"),
    [
        ("AssignMismatch", pb.AssignMismatchRequest(assignee="ben"), Assign("ben")),
        ("CommentMismatch", pb.CommentMismatchRequest(text="called"), Comment("called")),
        (
            "ProposeResolution", pb.ProposeResolutionRequest(resolution=pb.RESOLUTION_CLOSE, reason="r"),
            Propose(Resolution.CLOSE, "r"),
        ),
        ("RejectResolution", pb.RejectResolutionRequest(reason="no"), Reject("no")),
    ],
)  # fmt: skip
async def test_an_act_carries_the_callers_own_name_and_key(
    tmp_path: Path, method: str, request_of: Any, expected: Asked
) -> None:
    """Who acts comes from the token, never from the message."""
    queue = FakeQueue(Acted(VIEW, is_replay=True))
    request_of.mismatch_id, request_of.idempotency_key = "m-1", "k-1"
    async with serving(servicer(tmp_path, queue=queue)) as (channel, _):
        call = getattr(ReconciliationServiceStub(channel), method)(request_of, metadata=ADA)
        response, trailers = await call, dict(await call.trailing_metadata())

    assert queue.acts == [("m-1", expected, "ada", "k-1")]
    assert response.mismatch.mismatch_id == "m-1"
    assert trailers["idempotent-replayed"] == "true"


async def test_a_refused_approval_says_why(tmp_path: Path) -> None:
    """FOUR_EYES is FAILED_PRECONDITION with its reason; an unknown case is NOT_FOUND."""
    queue = FakeQueue(Refusal(Reason.FOUR_EYES, "", "another person must"))
    asked = pb.ApproveResolutionRequest(mismatch_id="m-1", idempotency_key="k", proposal_number=1)
    async with serving(servicer(tmp_path, queue=queue)) as (channel, _):
        stub = ReconciliationServiceStub(channel)
        four_eyes = await refusal(stub.ApproveResolution(asked, metadata=ADA))
        queue.answer = None
        missing = await refusal(stub.ApproveResolution(asked, metadata=ADA))

    assert four_eyes == (grpc.StatusCode.FAILED_PRECONDITION, "FOUR_EYES")
    assert missing == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ID")


@pytest.mark.parametrize(
    "asked",
    [
        pb.ApproveResolutionRequest(mismatch_id="m-1", idempotency_key="k"),
        pb.ApproveResolutionRequest(mismatch_id="m-1", proposal_number=1),
    ],
)
async def test_an_approval_without_a_key_or_the_proposal_it_looked_at_is_malformed(tmp_path: Path, asked: Any) -> None:
    queue = FakeQueue()
    async with serving(servicer(tmp_path, queue=queue)) as (channel, _):
        code, _ = await refusal(ReconciliationServiceStub(channel).ApproveResolution(asked, metadata=ADA))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert queue.acts == []


async def test_a_card_number_in_a_comment_is_refused(tmp_path: Path) -> None:
    """Security test 6: also finance pastes what it should not."""
    queue = FakeQueue()
    asked = pb.CommentMismatchRequest(mismatch_id="m-1", idempotency_key="k", text="paid with 4242 4242 4242 4242")
    async with serving(servicer(tmp_path, queue=queue)) as (channel, _):
        told = await refusal(ReconciliationServiceStub(channel).CommentMismatch(asked, metadata=ADA))

    assert told == (grpc.StatusCode.INVALID_ARGUMENT, "CARD_NUMBER")
    assert queue.acts == []


async def test_ageing_is_told_by_band(tmp_path: Path) -> None:
    async with serving(servicer(tmp_path)) as (channel, _):
        told = await ReconciliationServiceStub(channel).GetAgeing(pb.GetAgeingRequest(), metadata=ADA)

    assert [(band.from_hours, band.to_hours, band.cases) for band in told.bands] == [(0, 24, 3)]
    assert (told.oldest_ms, told.overdue) == (5_000, 1)


async def test_what_stands_in_suspense_is_told_by_currency_beside_the_ages(tmp_path: Path) -> None:
    """failures.md L11: a written-off case is closed and counted nowhere else. Amounts as their currency has them."""
    async with serving(servicer(tmp_path)) as (channel, _):
        told = await ReconciliationServiceStub(channel).GetAgeing(pb.GetAgeingRequest(), metadata=ADA)

    held = [(each.came.amount, each.went.amount, each.came.currency, each.went.currency) for each in told.suspense]
    assert held == [("12.50", "0.00", "USD", "USD"), ("0", "700", "JPY", "JPY")]
    assert [(each.parts, each.oldest_ms) for each in told.suspense] == [(1, 200_000_000), (2, 3_600_000)]


def test_every_state_class_and_resolution_has_its_word_on_the_wire() -> None:
    """The tables are total, and no two words are one."""
    for table, words in (
        (FILE_STATES, FileState), (RUN_KINDS, RunKind), (STATES, CaseState), (CLASSES, Class), (RESOLUTIONS, Resolution),
    ):  # fmt: skip
        assert set(table) == set(words)
        assert len(set(table.values())) == len(table)
