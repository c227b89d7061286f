"""Natural batching towards a peer: what waits goes together, one call per range, every item learns its own outcome."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest

from zerosum.domain.identity import slot_of
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import NotSent, OutcomeUnknown
from zerosum.limits import PEER_BATCH_MAX, PEER_RANGES, RETRY_AFTER_CAP_MS, SLOTS
from zerosum.peers.batch import Batcher, Told, outcomes_of, trouble_of
from zerosum.ports import Done, TryLater
from zerosum.v1.common_pb2 import ItemDone, ItemRefusal, ItemResult, ItemRetry

PLACE = ("acme", "seller-1")


class Line:
    """A `send` that is held until it is let go on, and keeps what went with each call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.go_on = asyncio.Semaphore(0)
        self.begun = asyncio.Event()
        self.told: list[Sequence[Told] | Exception] = []

    async def send(self, items: Sequence[str]) -> Sequence[Told]:
        """One call."""
        self.calls.append(list(items))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.begun.set()
        try:
            await self.go_on.acquire()
        finally:
            self.in_flight -= 1
        told = self.told.pop(0) if self.told else [Done()] * len(items)
        if isinstance(told, Exception):
            raise told
        return told


def _put(batcher: Batcher[str], item: str, place: tuple[str, str] = PLACE, key: str = "") -> "asyncio.Task[object]":
    return asyncio.ensure_future(batcher.put(item, key=key or item, place=place))


async def test_what_waits_while_a_call_is_on_its_way_goes_with_the_next() -> None:
    """Design section 3, natural batching: no timer, one call in flight per range."""
    line = Line()
    batcher: Batcher[str] = Batcher(line.send)
    first = _put(batcher, "a")
    await line.begun.wait()
    others = [_put(batcher, item) for item in "bcd"]
    line.go_on.release()
    await first
    line.go_on.release()
    outcomes = await asyncio.gather(*others)

    assert line.calls == [["a"], ["b", "c", "d"]]
    assert line.most_in_flight == 1
    assert outcomes == [Done()] * 3


async def test_ranges_of_slots_do_not_wait_for_one_another() -> None:
    """PEER_RANGES calls in flight at the most, one a range."""
    line = Line()
    batcher: Batcher[str] = Batcher(line.send)
    places = {slot_of("acme", f"s{at}") * PEER_RANGES // SLOTS: ("acme", f"s{at}") for at in range(200)}
    waiting = [_put(batcher, f"item-{number}", place) for number, place in places.items()]
    while len(line.calls) < PEER_RANGES:
        await line.begun.wait()
        await asyncio.sleep(0)
    for _ in places:
        line.go_on.release()
    await asyncio.gather(*waiting)

    assert sorted(places) == list(range(PEER_RANGES))
    assert line.most_in_flight == PEER_RANGES


async def test_batch_is_no_larger_than_the_peer_takes() -> None:
    """PEER_BATCH_MAX items a call; the rest goes with the next."""
    line = Line()
    batcher: Batcher[str] = Batcher(line.send)
    waiting = [_put(batcher, f"item-{at}") for at in range(PEER_BATCH_MAX + 2)]
    for _ in range(3):
        line.go_on.release()
    await asyncio.gather(*waiting)

    assert max(len(call) for call in line.calls) == PEER_BATCH_MAX
    assert sum(len(call) for call in line.calls) == PEER_BATCH_MAX + 2


async def test_key_is_in_a_batch_once() -> None:
    """Design section 8: a key twice in one batch is INVALID_ARGUMENT; the second one goes with the next call."""
    line = Line()
    batcher: Batcher[str] = Batcher(line.send)
    waiting = [_put(batcher, "first"), _put(batcher, "x", key="k"), _put(batcher, "y", key="k"), _put(batcher, "z")]
    for _ in range(3):
        line.go_on.release()
    await asyncio.gather(*waiting)

    assert [call for call in line.calls if "y" in call] == [["y"]]
    assert [item for call in line.calls for item in call] == ["first", "x", "z", "y"]


@pytest.mark.parametrize("trouble", [NotSent("refused"), OutcomeUnknown("lost", 700)])
async def test_trouble_of_a_call_is_the_trouble_of_every_item_of_it_and_of_no_other(trouble: NotSent) -> None:
    """An error of the call says nothing about any item: each of them is to be asked again under its key."""
    line = Line()
    line.told = [trouble, [Done()]]
    batcher: Batcher[str] = Batcher(line.send)
    troubled = [_put(batcher, "a"), _put(batcher, "b")]
    await line.begun.wait()
    after = _put(batcher, "c")
    line.go_on.release()
    line.go_on.release()
    told = await asyncio.gather(*troubled, return_exceptions=True)

    assert [(type(one), one.args) for one in told if isinstance(one, BaseException)] == [
        (type(trouble), trouble.args)
    ] * 2
    assert await after == Done()


async def test_item_whose_caller_is_gone_before_it_was_sent_is_not_sent() -> None:
    """Nobody waits for it; its to-do stands for it."""
    line = Line()
    batcher: Batcher[str] = Batcher(line.send)
    first = _put(batcher, "a")
    await line.begun.wait()
    gone, kept = _put(batcher, "b"), _put(batcher, "c")
    await asyncio.sleep(0)
    gone.cancel()
    line.go_on.release()
    line.go_on.release()
    await asyncio.gather(first, kept)

    assert line.calls == [["a"], ["c"]]


async def test_closing_tells_what_was_in_flight_from_what_only_waited() -> None:
    """errors.py: OutcomeUnknown may have been executed, NotSent was not."""
    line = Line()
    batcher: Batcher[str] = Batcher(line.send)
    sent = _put(batcher, "a")
    await line.begun.wait()
    waiting = _put(batcher, "b")
    await asyncio.sleep(0)
    await batcher.close()
    told = await asyncio.gather(sent, waiting, _put(batcher, "late"), return_exceptions=True)

    assert [type(one) for one in told] == [OutcomeUnknown, NotSent, NotSent]


def _result(key: str, **outcome: object) -> ItemResult:
    return ItemResult(key=key, **outcome)  # type: ignore[arg-type]  # a table of cases


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (_result("k", done=ItemDone(replayed=True)), Done()),
        (_result("k", retry=ItemRetry(retry_after_ms=300)), TryLater(300)),
        (_result("k", retry=ItemRetry(retry_after_ms=10**9)), TryLater(RETRY_AFTER_CAP_MS)),
        (_result("k", retry=ItemRetry(retry_after_ms=-5)), TryLater(0)),
        (
            _result("k", refused=ItemRefusal(reason="KEY_REUSED", field="f", message="m")),
            Refusal(Reason.KEY_REUSED, "f", "m"),
        ),
    ],
)
def test_result_of_an_item_becomes_its_outcome(result: ItemResult, outcome: object) -> None:
    """ports.py: Done, Refusal or TryLater."""
    assert outcomes_of(["k"], [result]) == [outcome]


@pytest.mark.parametrize("result", [_result("k"), _result("k", refused=ItemRefusal(reason="NEW_REASON"))])
def test_outcome_in_words_that_are_not_ours_is_unknown(result: ItemResult) -> None:
    """A newer peer must not be read as a yes or a no."""
    (told,) = outcomes_of(["k"], [result])

    assert isinstance(told, OutcomeUnknown)


@pytest.mark.parametrize("keys", [["a"], ["b", "a"], ["a", "b", "c"], []])
def test_reply_that_does_not_fit_its_request_is_unknown(keys: list[str]) -> None:
    """One result per item, in order, or none of them counts."""
    with pytest.raises(OutcomeUnknown):
        outcomes_of(["a", "b"], [_result(key, done=ItemDone()) for key in keys])


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_failed_call_is_unknown_without_proof(code: grpc.StatusCode) -> None:
    """CANCELLED, UNAVAILABLE on a broken connection, DEADLINE_EXCEEDED: items may be recorded."""
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="Socket closed")

    assert type(trouble_of(error)) is OutcomeUnknown
