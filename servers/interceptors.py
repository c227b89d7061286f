"""The frame around every call: request id, identity, admission, detached work, metrics, one log line, and the mapping of
errors; the one place of a server where `except Exception` may stand.

A unary call's work, an upload's too, runs in a task of its own: where the caller goes away or its deadline passes, the
handler that has begun finishes (failures.md C4, G3), still counted against the admission limit, so that what is abandoned
stays bounded.

Invariant: nothing reaches a servicer without a verified caller whom the access table allows, and nothing leaves but a
response or a row of the error table.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import urandom
from typing import Any

import grpc

from servers.access import Rule, rule_of
from servers.auth import Verifier, bearer_of
from servers.call import Call, enter_call
from servers.metric import Metrics
from servers.places import Places
from servers.request_id import REQUEST_ID, request_id_of
from servers.status import Problem, Rejected, of_error, to_status

STREAMS_MAX = 500
"""Streams open at once: 500 watchers x 4 reads a second = 2,000 reads/s, what one core of the database gives."""
ONCALL_MAX = 100
"""Calls of the operator service at once: each is one read or one turn, and 100 x 5 ms of reads are half a second of a core."""
REPLAYED = ("idempotent-replayed", "true")

_END = object()
_ONCALL = "/zerosum.v1.OperatorService/"

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class _Served:
    """One RPC: its full name, its rule, the places its calls take, and the servicer's method."""

    method: str
    rule: Rule
    places: Places
    work: Callable[[Any, Any], Any]


class Frame(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc comes without types
    """The interceptor of a gRPC server. `clock`: monotonic seconds. `new_id`: makes request and incident ids.

    `admission_max`: calls of callers at once, and as many of our own processes, whose webhooks, settlement lines and postings
    are what lets waiting calls end. People on call and streams have places of their own, too: none fills the server for others.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        metrics: Metrics,
        log: Any,
        admission_max: int,
        streams_max: int = STREAMS_MAX,
        clock: Callable[[], float] = time.perf_counter,
        new_id: Callable[[], str] = lambda: urandom(16).hex(),
    ) -> None:
        self._verifier = verifier
        self._metrics = metrics
        self._log = log
        self._callers = Places(admission_max, clock)
        self._processes = Places(admission_max, clock)
        self._oncall = Places(ONCALL_MAX, clock)
        self._streams = Places(streams_max, clock)
        self._clock = clock
        self._new_id = new_id
        self._handlers: dict[str, Any] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._draining = asyncio.Event()
        metrics.in_flight.set_function(lambda: len(self._running))

    # ---- life ------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Unary calls being worked on, abandoned ones included."""
        return len(self._running)

    @property
    def places_max(self) -> int:
        """Calls and streams of every kind that may be under way together."""
        return sum(each.places_max for each in (self._callers, self._processes, self._oncall, self._streams))

    def stop_admitting(self) -> None:
        """From now on new calls are told to go elsewhere."""
        self._draining.set()

    async def drained(self, timeout_s: float) -> bool:
        """Waits until what has begun has finished. False: something is still running."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout_s)
        return not self._running

    # ---- the interceptor -------------------------------------------------------------------------------------------

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Puts the frame around the handler; once per RPC, then from memory."""
        method: str = handler_call_details.method
        framed = self._handlers.get(method)
        if framed is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            framed = self._handlers[method] = self._framed(method, handler)
        return framed

    def _framed(self, method: str, handler: Any) -> Any:
        rule = rule_of(method)
        if rule.is_public:
            return handler
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._refuse_unknown, **codecs)
        if handler.request_streaming:
            upload = _Served(method, rule, self._places_of(method, rule), handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(partial(self._serve_unary, upload), **codecs)
        if handler.response_streaming:
            streamed = _Served(method, rule, self._streams, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(partial(self._serve_stream, streamed), **codecs)
        unary = _Served(method, rule, self._places_of(method, rule), handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(partial(self._serve_unary, unary), **codecs)

    def _places_of(self, method: str, rule: Rule) -> Places:
        if rule.subjects:
            return self._processes
        return self._oncall if method.startswith(_ONCALL) else self._callers

    async def _refuse_unknown(self, _requests: Any, context: Any) -> None:
        """No RPC of ours streams both ways: whatever does is not in the access table."""
        await self._abort(context, Problem("PERMISSION_DENIED"), self._new_id())

    # ---- unary -----------------------------------------------------------------------------------------------------

    async def _serve_unary(self, served: _Served, request: Any, context: Any) -> Any:
        started = self._clock()
        metadata: Metadata = context.invocation_metadata() or ()
        request_id = request_id_of(metadata) or self._new_id()
        try:
            call = self._admit(served, context, metadata, request_id)
        except Rejected as no:
            self._ended(served.method, None, request_id, started, no.problem)
            await self._abort(context, no.problem, request_id)
            raise
        work = asyncio.create_task(self._work(served, request, context, call, started))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        work.add_done_callback(lambda _: served.places.give_back(call.caller.tenant))
        outcome = await asyncio.shield(work)
        if isinstance(outcome, Problem):
            await self._abort(context, outcome, request_id)
        trailers = ((REQUEST_ID, request_id), REPLAYED) if call.is_replayed else ((REQUEST_ID, request_id),)
        context.set_trailing_metadata(trailers)
        return outcome

    async def _work(self, served: _Served, request: Any, context: Any, call: Call, started: float) -> Any:
        """The servicer's work, whoever still waits for it. Brings a response or a Problem, and never raises."""
        enter_call(call)
        problem: Problem | None = None
        response: Any = None
        try:
            response = await served.work(request, context)
        except asyncio.CancelledError:  # nobody cancels this task but a loop that ends
            problem = Problem("UNAVAILABLE", inner="the work was cancelled")
        except Exception as error:  # noqa: BLE001 - a server's outermost edge
            problem = self._problem(error, call.request_id)
        self._ended(served.method, call, call.request_id, started, problem)
        return problem or response

    # ---- streams ---------------------------------------------------------------------------------------------------

    async def _serve_stream(self, served: _Served, request: Any, context: Any) -> AsyncIterator[Any]:
        """A stream only reads: it ends with its caller. A drain ends it too, so that it moves to another server."""
        started = self._clock()
        metadata: Metadata = context.invocation_metadata() or ()
        request_id = request_id_of(metadata) or self._new_id()
        call: Call | None = None
        problem: Problem | None = None
        try:
            call = self._admit(served, context, metadata, request_id)
            enter_call(call)
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
            async for response in self._until_drained(served.work(request, context)):
                yield response
        except Exception as error:  # noqa: BLE001 - a server's outermost edge
            problem = self._problem(error, request_id)
        finally:
            if call is not None:
                served.places.give_back(call.caller.tenant)
            self._ended(served.method, call, request_id, started, problem)
        if problem:
            await self._abort(context, problem, request_id)

    async def _until_drained(self, responses: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The responses, until they end or the drain begins, which raises Rejected."""
        drain = asyncio.ensure_future(self._draining.wait())
        step: asyncio.Future[Any] | None = None
        try:
            while True:
                step = asyncio.ensure_future(anext(responses, _END))
                await asyncio.wait({step, drain}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    raise Rejected(Problem("DRAINING"))
                response = step.result()
                if response is _END:
                    return
                yield response
        finally:
            drain.cancel()
            if step is not None:
                step.cancel()

    # ---- pieces of both --------------------------------------------------------------------------------------------

    def _admit(self, served: _Served, context: Any, metadata: Metadata, request_id: str) -> Call:
        """The call, whose place is taken, or Rejected: who it is, whether they may, whether there is time and room."""
        caller = self._verifier.caller_of(bearer_of(metadata))
        if not served.rule.allows(caller):
            raise Rejected(Problem("PERMISSION_DENIED", inner=f"{caller.role} {caller.subject}"))
        if self._draining.is_set():
            raise Rejected(Problem("DRAINING"))
        left_s = context.time_remaining()
        if left_s is not None and left_s <= 0:
            raise Rejected(Problem("DEADLINE_PASSED"))
        if not served.places.take(caller.tenant):
            raise Rejected(Problem("ADMISSION_FULL"))
        return Call(caller, served.method, request_id)

    def _problem(self, error: Exception, request_id: str) -> Problem:
        problem = of_error(error)
        if problem.row.code is grpc.StatusCode.INTERNAL:
            self._log.error("invariant_broken", incident_id=request_id, inner=problem.inner, exc_info=error)
        return problem

    def _ended(self, method: str, call: Call | None, request_id: str, started: float, problem: Problem | None) -> None:
        seconds = self._clock() - started
        code = problem.row.code.name if problem else "OK"
        self._metrics.call(method, code, seconds)
        line: dict[str, object] = {"method": method, "code": code, "ms": round(seconds * 1_000, 3)}
        line["request_id"] = request_id
        if call is not None:
            line.update(tenant=call.caller.tenant, role=call.caller.role, subject=call.caller.subject)
            if call.is_replayed:
                line["is_replayed"] = True
        if problem is not None:
            line["reason"] = problem.reason
            if problem.inner:
                line["inner"] = problem.inner
        self._log.info("call_ended", **line)

    async def _abort(self, context: Any, problem: Problem, request_id: str) -> None:
        """Ends the call with the problem's status. Raises, as grpc wants it."""
        status = to_status(problem, request_id)
        trailers: list[tuple[str, str | bytes]] = [
            ("grpc-status-details-bin", status.SerializeToString()),
            (REQUEST_ID, request_id),
        ]
        if problem.is_replay:
            trailers.append(REPLAYED)
        await context.abort(problem.row.code, status.message, trailing_metadata=tuple(trailers))
