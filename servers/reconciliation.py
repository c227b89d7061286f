"""The door of ReconciliationService: files in, runs, and finance's queue.

Invariant: nothing is decided here. An act is one call of the queue with the caller's own name and key; who calls has been
checked, and that they are of the house.
"""
# ruff: noqa: N802 - names and arguments of methods are the contract's

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol

import grpc

from servers import reconciliation_reply as reply
from servers.call import current_call
from servers.door import check
from servers.page import after_of, id_after_of, rows_max_of, token_of
from servers.period import UNKNOWN_PSP, run_key
from servers.status import Problem, Rejected, not_found, refused
from servers.upload import received
from zerosum.domain.case import Approve, Asked, Assign, Comment, Propose, Reject
from zerosum.domain.refusal import Refusal
from zerosum.finance_queue import CaseView, FinanceQueue, MismatchFilter
from zerosum.reconciling import Files, Incoming, RunKey, RunRow, Runs
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1 import reconciliation_pb2_grpc as rpc

_ActRequest = (
    pb.AssignMismatchRequest
    | pb.CommentMismatchRequest
    | pb.ProposeResolutionRequest
    | pb.ApproveResolutionRequest
    | pb.RejectResolutionRequest
)

_RUNS_LOOKED_AT = 50
"""Where the run of a period stands among the newest, when another holder is at it."""


class Reconciles(Protocol):
    """Whoever runs reconciliations: the reconciler's own process."""

    async def run(self, key: RunKey, *, is_again: bool, asked_by: str) -> RunRow | None:
        """Runs a period now, in the caller's name; None while it is still being done, here or elsewhere. Raises Unavailable."""
        ...


class ReconciliationServicer(rpc.ReconciliationServiceServicer):
    """ReconciliationService. `psps`: whose files are taken. `spool`: a folder for what is coming in. `now_s`: wall clock."""

    def __init__(
        self,
        *,
        files: Files,
        runs: Runs,
        queue: FinanceQueue,
        reconciler: Reconciles,
        psps: Sequence[str],
        spool: Path,
        overdue_after_ms: int,
        now_s: Callable[[], int],
    ) -> None:
        self._files = files
        self._runs = runs
        self._queue = queue
        self._reconciler = reconciler
        self._psps = frozenset(psps)
        self._spool = spool
        self._overdue_after_ms = overdue_after_ms
        self._now_s = now_s

    # ---- files -----------------------------------------------------------------------------------------------------

    async def ImportFile(
        self, request_iterator: AsyncIterator[pb.ImportFileRequest], context: grpc.aio.ServicerContext
    ) -> pb.ImportFileResponse:
        """Takes a file, whole or not at all. What comes short, altered or unreadable is refused, none of its lines kept."""
        call = current_call()
        async with received(request_iterator, self._spool) as upload:
            if upload.header.psp not in self._psps:
                raise refused(UNKNOWN_PSP)
            told = Incoming(upload.header.psp, upload.header.name, upload.manifest, call.caller.subject)
            imported = await self._files.take(upload.content, told)
        call.is_replayed = imported.is_known
        return pb.ImportFileResponse(file=reply.file_of(imported.file), replayed=imported.is_known)

    async def ListFiles(self, request: pb.ListFilesRequest, context: grpc.aio.ServicerContext) -> pb.ListFilesResponse:
        """Files, newest first."""
        if refusals := check(request):
            raise refused(*refusals)
        rows_max = rows_max_of(request.page)
        rows = await self._files.list(request.psp, rows_max + 1, id_after_of(request.page))
        after = rows[rows_max - 1].file_id if len(rows) > rows_max else ""
        return pb.ListFilesResponse(
            files=[reply.file_of(row) for row in rows[:rows_max]], next_page_token=token_of(after)
        )

    # ---- runs ------------------------------------------------------------------------------------------------------

    async def RunReconciliation(
        self, request: pb.RunReconciliationRequest, context: grpc.aio.ServicerContext
    ) -> pb.RunReconciliationResponse:
        """Runs a period in the caller's name, or brings the run there is: RUNNING where it takes longer than a call should."""
        if refusals := check(request):
            raise refused(*refusals)
        kind = reply.RUN_KINDS_ASKED[request.kind]
        key = run_key(kind, request.psp, request.period, psps=self._psps, now_s=self._now_s())
        if isinstance(key, Refusal):
            raise refused(key)
        asked_by = current_call().caller.subject
        run = await self._reconciler.run(key, is_again=request.again, asked_by=asked_by) or await self._newest(key)
        if run is None:
            raise Rejected(Problem("UNAVAILABLE", inner="a run that has begun is not in the table yet"))
        return pb.RunReconciliationResponse(run=reply.run_of(run))

    async def _newest(self, key: RunKey) -> RunRow | None:
        rows = await self._runs.list(key.kind, _RUNS_LOOKED_AT, "")
        return max((row for row in rows if row.key == key), key=lambda row: row.attempt, default=None)

    async def GetRun(self, request: pb.GetRunRequest, context: grpc.aio.ServicerContext) -> pb.GetRunResponse:
        """One run."""
        if refusals := check(request):
            raise refused(*refusals)
        return pb.GetRunResponse(run=reply.run_of(await self._run(request.run_id, "run_id")))

    async def ListRuns(self, request: pb.ListRunsRequest, context: grpc.aio.ServicerContext) -> pb.ListRunsResponse:
        """Runs, newest first."""
        if refusals := check(request):
            raise refused(*refusals)
        rows_max = rows_max_of(request.page)
        kind = reply.RUN_KINDS_ASKED.get(request.kind)
        rows = await self._runs.list(kind, rows_max + 1, id_after_of(request.page))
        after = rows[rows_max - 1].run_id if len(rows) > rows_max else ""
        return pb.ListRunsResponse(runs=[reply.run_of(row) for row in rows[:rows_max]], next_page_token=token_of(after))

    async def CompareRuns(
        self, request: pb.CompareRunsRequest, context: grpc.aio.ServicerContext
    ) -> pb.CompareRunsResponse:
        """What two runs say differently, item by item; a page may be empty and not the last."""
        if refusals := check(request):
            raise refused(*refusals)
        await self._run(request.before_run_id, "before_run_id")
        await self._run(request.after_run_id, "after_run_id")
        page = await self._runs.compare(
            request.before_run_id, request.after_run_id, rows_max_of(request.page), id_after_of(request.page)
        )
        told = [reply.difference_of(row) for row in page.rows]
        return pb.CompareRunsResponse(differences=told, next_page_token=token_of(page.after))

    async def _run(self, run_id: str, field: str) -> RunRow:
        run = await self._runs.get(run_id)
        if run is None:
            raise not_found(field)
        return run

    # ---- cases -----------------------------------------------------------------------------------------------------

    async def ListMismatches(
        self, request: pb.ListMismatchesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListMismatchesResponse:
        """Cases by page, oldest first."""
        if refusals := check(request):
            raise refused(*refusals)
        wanted = MismatchFilter(
            state=reply.STATES_ASKED.get(request.state),
            group=reply.CLASSES_ASKED.get(getattr(request, "class")),
            kind=request.kind,
            assignee=request.assignee,
            psp=request.psp,
            order_id=request.payment_order_id,
            older_than_ms=request.older_than_ms,
        )
        page = await self._queue.mismatches(wanted, rows_max_of(request.page), after_of(request.page))
        rows = [reply.mismatch_of(row) for row in page.rows]
        return pb.ListMismatchesResponse(mismatches=rows, next_page_token=token_of(page.after))

    async def GetMismatch(
        self, request: pb.GetMismatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetMismatchResponse:
        """One case with its acts and its dry run."""
        if refusals := check(request):
            raise refused(*refusals)
        view = await self._queue.case(request.mismatch_id)
        if view is None:
            raise not_found("mismatch_id")
        return reply.case_of(view)

    async def AssignMismatch(
        self, request: pb.AssignMismatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.AssignMismatchResponse:
        """Gives a case to a person."""
        view = await self._act(request, Assign(request.assignee))
        return pb.AssignMismatchResponse(mismatch=reply.mismatch_of(view.row))

    async def CommentMismatch(
        self, request: pb.CommentMismatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.CommentMismatchResponse:
        """Leaves a comment."""
        view = await self._act(request, Comment(request.text))
        return pb.CommentMismatchResponse(mismatch=reply.mismatch_of(view.row))

    async def ProposeResolution(
        self, request: pb.ProposeResolutionRequest, context: grpc.aio.ServicerContext
    ) -> pb.ProposeResolutionResponse:
        """Proposes how to settle a case; no money moves."""
        if refusals := check(request):
            raise refused(*refusals)
        view = await self._act(request, Propose(reply.RESOLUTIONS_ASKED[request.resolution], request.reason))
        return pb.ProposeResolutionResponse(
            mismatch=reply.mismatch_of(view.row), proposal=reply.proposal_of(view.proposal)
        )

    async def ApproveResolution(
        self, request: pb.ApproveResolutionRequest, context: grpc.aio.ServicerContext
    ) -> pb.ApproveResolutionResponse:
        """Approves another person's proposal. Money may move after it: once, as it was proposed."""
        view = await self._act(request, Approve(request.proposal_number))
        return pb.ApproveResolutionResponse(mismatch=reply.mismatch_of(view.row))

    async def RejectResolution(
        self, request: pb.RejectResolutionRequest, context: grpc.aio.ServicerContext
    ) -> pb.RejectResolutionResponse:
        """Rejects what is proposed."""
        view = await self._act(request, Reject(request.reason))
        return pb.RejectResolutionResponse(mismatch=reply.mismatch_of(view.row))

    async def GetAgeing(self, request: pb.GetAgeingRequest, context: grpc.aio.ServicerContext) -> pb.GetAgeingResponse:
        """Open cases by age and class."""
        return reply.ageing_of(await self._queue.ageing(self._overdue_after_ms))

    async def _act(self, request: _ActRequest, asked: Asked) -> CaseView:
        """The case after an act of the caller's, once per key."""
        if refusals := check(request):
            raise refused(*refusals)
        call = current_call()
        acted = await self._queue.act(request.mismatch_id, asked, by=call.caller.subject, key=request.idempotency_key)
        if acted is None:
            raise not_found("mismatch_id")
        if isinstance(acted, Refusal):
            raise refused(acted)
        call.is_replayed = acted.is_replay
        return acted.view
