"""Batches of calls to a peer: while one call of a slot range is on its way, the next collects, and gathers a moment longer.

Every item is written for the wire before it waits (`written`), so that one that cannot be fails alone. Then it waits for the
result of its own key. What a failed call says holds for every item of that call: it says nothing about what was recorded,
except where the connection was refused before anything left.

Invariant: per range at most one call is in flight, no call carries a key twice, and whoever waits is told, whatever a call
meets. Source: design section 3 and 8.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
import structlog
from google.rpc import error_details_pb2, status_pb2

from zerosum.domain.identity import slot_of
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import Bug, NotSent, OutcomeUnknown, PspTrouble
from zerosum.limits import PEER_BATCH_MAX, PEER_GATHER_MS, PEER_RANGES, RETRY_AFTER_CAP_MS, SLOTS
from zerosum.ports import Done, ItemOutcome, TryLater
from zerosum.v1.common_pb2 import ItemResult

_log = structlog.get_logger()

T = TypeVar("T")
M = TypeVar("M")
Told = ItemOutcome | PspTrouble
TokenProvider = Callable[[], str]
"""Brings the bearer token to call with, fresh for every call."""

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.enable_retries", 0),  # ours outside: only so "connection refused" proves that nothing was sent
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # a killed server is back within 3 s; the default would wait up to 120 s
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


def open_channel(address: str) -> Any:
    """A channel to a peer ("host:port"), plaintext. To be called within the event loop that will use it."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    key: str
    item: T
    told: "asyncio.Future[ItemOutcome]"


def written(write: Callable[[T], M], item: T) -> M | Refusal:
    """The item as the wire has it. Refuses MALFORMED what cannot be said there, a currency out of our table for instance:
    nothing was sent, sending it again is of no use, and people must look.
    """
    try:
        return write(item)
    except (Bug, ValueError, TypeError) as failure:
        _log.exception("an item cannot be written for a peer", item=type(item).__name__)
        why = str(failure) if isinstance(failure, Bug) else type(failure).__name__  # the others may echo a value
        return Refusal(Reason.MALFORMED, "", f"it cannot be written for a peer: {why}")


class Batcher(Generic[T]):
    """Collects items per slot range and sends them through `send`, which brings one outcome each, in order.

    `send` raises PspTrouble where nothing is known about any item; so says whatever else it raises.
    """

    def __init__(self, send: Callable[[Sequence[T]], Coroutine[Any, Any, Sequence[Told]]]) -> None:
        self._send = send
        self._waiting: tuple[deque[_Waiting[T]], ...] = tuple(deque() for _ in range(PEER_RANGES))
        self._senders: dict[int, asyncio.Task[None]] = {}
        self._is_closed = False

    async def put(self, item: T, *, key: str, place: tuple[str, str]) -> ItemOutcome:
        """Sends the item with the next call of its range. `place`: tenant and entity, which give the slot.

        Raises NotSent, OutcomeUnknown.
        """
        if self._is_closed:
            raise NotSent("the client of this peer is closed")
        number = slot_of(*place) * PEER_RANGES // SLOTS
        told: asyncio.Future[ItemOutcome] = asyncio.get_running_loop().create_future()
        self._waiting[number].append(_Waiting(key, item, told))
        if number not in self._senders:
            self._senders[number] = asyncio.create_task(self._drain(number))
        return await told

    async def close(self) -> None:
        """Ends every sender. What was in flight is OutcomeUnknown, what only waited is NotSent."""
        self._is_closed = True
        senders = list(self._senders.values())
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        for waiting in self._waiting:
            _tell_all(waiting, NotSent("the client of this peer was closed"))
            waiting.clear()

    async def _drain(self, number: int) -> None:
        waiting = self._waiting[number]
        try:
            while waiting:
                if len(waiting) < PEER_BATCH_MAX:
                    await asyncio.sleep(PEER_GATHER_MS / 1_000)
                await self._send_one(_take(waiting))
        finally:
            del self._senders[number]

    async def _send_one(self, batch: Sequence[_Waiting[T]]) -> None:
        try:
            outcomes = await self._send([one.item for one in batch])
            for one, outcome in zip(batch, outcomes, strict=True):
                _tell(one, outcome)
        except PspTrouble as trouble:
            _tell_all(batch, trouble)
        except asyncio.CancelledError:
            _tell_all(batch, OutcomeUnknown("the call to a peer was cancelled"))
            if self._is_closed:
                raise
        except Exception as failure:  # noqa: BLE001 - the outermost edge of a sender: all of the batch wait for its word
            _log.exception("a call to a peer failed otherwise than calls do", items=len(batch))
            _tell_all(batch, OutcomeUnknown(f"a call to a peer ended {type(failure).__name__}"))


def _take(waiting: deque[_Waiting[T]]) -> list[_Waiting[T]]:
    """The next batch, in order; an item whose key the batch has already stays for the next one."""
    batch: dict[str, _Waiting[T]] = {}
    later: list[_Waiting[T]] = []
    while waiting and len(batch) < PEER_BATCH_MAX:
        one = waiting.popleft()
        if one.told.done():
            continue
        if one.key in batch:
            later.append(one)
        else:
            batch[one.key] = one
    waiting.extendleft(reversed(later))
    return list(batch.values())


def _tell(one: _Waiting[T], outcome: Told) -> None:
    if one.told.done():
        return
    if isinstance(outcome, PspTrouble):
        one.told.set_exception(type(outcome)(outcome.message, outcome.retry_after_ms))
    else:
        one.told.set_result(outcome)


def _tell_all(batch: Sequence[_Waiting[T]] | deque[_Waiting[T]], outcome: Told) -> None:
    for one in batch:
        _tell(one, outcome)


# ---- what a peer said ----------------------------------------------------------------------------------------------


def outcomes_of(keys: Sequence[str], results: Sequence[ItemResult]) -> Sequence[Told]:
    """One outcome per key. Raises OutcomeUnknown where the reply does not fit the request."""
    if [result.key for result in results] != list(keys):
        raise OutcomeUnknown("a peer's reply does not fit its request")
    return [_outcome(result) for result in results]


_REASONS = {str(reason): reason for reason in Reason}


def _outcome(result: ItemResult) -> Told:
    match result.WhichOneof("outcome"):
        case "done":
            return Done()
        case "retry":
            return TryLater(max(0, min(result.retry.retry_after_ms, RETRY_AFTER_CAP_MS)))
        case "refused" if result.refused.reason in _REASONS:
            return Refusal(_REASONS[result.refused.reason], result.refused.field, result.refused.message)
        case _:
            return OutcomeUnknown("a peer answered in words that are not ours")


def trouble_of(error: Any) -> PspTrouble:
    """What a failed call (grpc.aio.AioRpcError) says about its items: NotSent only with proof."""
    code, told = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "failed to connect to all addresses" in told:
        return NotSent("a peer could not be connected to")
    return OutcomeUnknown(f"a call to a peer ended {code.name}", _retry_after_ms(error))


def _retry_after_ms(error: Any) -> int:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    after_ms: int = info.retry_delay.ToMilliseconds()
                    return max(0, min(after_ms, RETRY_AFTER_CAP_MS))
    return 0
