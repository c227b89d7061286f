"""Journeys on a hand-moved clock: same key on every retry, latency from the intended instant, arrivals never held back."""

import io
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadtest.journal import Journal, read_journal
from loadtest.journeys import CREATE, Buyers, Reply, World, arrivals, dispatch
from loadtest.outcome import Outcome, Patience, Result, may_retry, result_of
from loadtest.profiles import PROFILES
from loadtest.sample import Meter, Sample, read_samples
from loadtest.shape import Checkout, Order

CHECKOUT = Checkout("co-1", "buyer-1", "pm_card_visa", (Order("po-1", "seller-1", "12.50", "USD"),))


@dataclass
class Clock:
    """Moves only when somebody sleeps or the wire takes its time."""

    now: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def now_ms(self) -> float:
        return self.now

    def sleep_ms(self, ms: float) -> None:
        self.slept.append(ms)
        self.now += ms


@dataclass
class ScriptedWire:
    """Gives the scripted replies in order, each after `takes_ms`; remembers what was sent."""

    clock: Clock
    replies: Iterator[Reply]
    takes_ms: float = 40.0
    before_send: Callable[[], None] = lambda: None
    sent: list[tuple[str, bytes, int]] = field(default_factory=list)

    def send(self, method: str, request: bytes, *, timeout_ms: int, lane: int) -> Reply:
        self.before_send()
        self.sent.append((method, request, lane))
        self.clock.now += self.takes_ms
        return next(self.replies)


class PlainCodec:
    """A body is its orders' statuses, separated by spaces."""

    def submit(self, checkout: Checkout) -> bytes:
        return checkout.checkout_id.encode()

    def view(self, method: str, subject: str) -> bytes:
        return subject.encode()

    def told(self, body: bytes) -> tuple[tuple[str, str], ...]:
        return tuple((f"po-{place}", status) for place, status in enumerate(body.decode().split(), start=1))


@dataclass
class Scene:
    """A buyer with everything around it."""

    buyers: Buyers
    wire: ScriptedWire
    clock: Clock
    meter: Meter
    world: World
    journal: Path
    _samples: io.StringIO
    _folder: Path

    def samples(self) -> list[Sample]:
        path = self._folder / "samples.jsonl"
        path.write_text(self._samples.getvalue())
        return read_samples(path)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    journals = []

    def build(*replies: Reply, patience: Patience | None = None, forever: Reply | None = None) -> Scene:
        clock, samples, path = Clock(), io.StringIO(), tmp_path / "journal.jsonl"
        endless: Iterable[Reply] = itertools.repeat(forever) if forever else ()
        wire = ScriptedWire(clock, itertools.chain(replies, endless))
        journal = Journal(path, tenant="acme")
        journals.append(journal)
        meter = Meter(samples, started_ms=clock.now)
        world = World(
            run_id="run",
            wire=wire,
            codec=PlainCodec(),
            journal=journal,
            meter=meter,
            chance=random.Random(1),
            patience=patience or Patience(),
            now_ms=clock.now_ms,
            sleep_ms=clock.sleep_ms,
        )
        return Scene(Buyers(world), wire, clock, meter, world, path, samples, tmp_path)

    yield build
    for journal in journals:
        journal.close()


LOST = ("UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL")
PAID = Reply("OK", b"SUCCESS")


def test_every_retry_is_the_same_bytes_under_the_same_key(scene: Callable[..., Scene]) -> None:
    """Design 8: clients retry these codes only with the same key."""
    stage = scene(*(Reply(code) for code in LOST), PAID)
    stage.buyers.submit(CHECKOUT, 1_000.0)

    assert stage.wire.sent == [(CREATE, b"co-1", 0)] * 7
    assert {record["key"] for record in read_journal(stage.journal)} == {"co-1"}
    assert [each.tries for each in stage.samples()] == [7]


def test_each_try_is_a_call_with_its_own_intent_written_before_it_is_sent(scene: Callable[..., Scene]) -> None:
    """The audit's format: a retry with the same key is a new call."""
    stage = scene(Reply("UNAVAILABLE"), PAID)
    seen_before_send: list[int] = []
    stage.wire.before_send = lambda: seen_before_send.append(len(read_journal(stage.journal)))
    stage.buyers.submit(CHECKOUT, 1_000.0)

    told = [(each["kind"], each["call"], each.get("result")) for each in read_journal(stage.journal)]
    assert told == [
        ("intent", "run-1", None),
        ("answer", "run-1", "unknown"),
        ("intent", "run-2", None),
        ("answer", "run-2", "ok"),
    ]
    assert seen_before_send == [1, 3]


def test_latency_counts_from_the_intended_instant_not_from_the_sending(scene: Callable[..., Scene]) -> None:
    """No coordinated omission: a buyer served late has waited since it came."""
    stage = scene(PAID)
    stage.clock.now = 5_000.0
    stage.buyers.submit(CHECKOUT, 3_500.0)

    assert [each.latency_ms for each in stage.samples()] == [1_540.0]


def test_latency_of_a_retried_journey_reaches_to_its_last_answer(scene: Callable[..., Scene]) -> None:
    """A buyer does not care which try brought it."""
    stage = scene(Reply("UNAVAILABLE", retry_after_ms=500), PAID)
    stage.buyers.submit(CHECKOUT, 1_000.0)

    [sample] = stage.samples()
    assert stage.clock.slept[0] >= 500
    assert sample.latency_ms == pytest.approx(80.0 + stage.clock.slept[0], abs=0.001)


def test_a_buyer_gives_up_when_the_next_try_would_be_past_its_budget(scene: Callable[..., Scene]) -> None:
    """Its outcome is unknown: a client that stops asking has learned nothing."""
    stage = scene(forever=Reply("UNAVAILABLE"), patience=Patience(budget_ms=1_000))
    stage.buyers.submit(CHECKOUT, 1_000.0)

    assert [each.outcome for each in stage.samples()] == [Outcome.UNKNOWN]
    assert stage.clock.now <= 1_000.0 + 1_000 + stage.wire.takes_ms
    assert stage.meter.status(stage.clock.now).unknown == 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_a_refusal_ends_the_journey_at_once(scene: Callable[..., Scene], code: str) -> None:
    """Nothing was executed; asking again would change nothing."""
    stage = scene(Reply(code))
    stage.buyers.submit(CHECKOUT, 1_000.0)

    assert [each.outcome for each in stage.samples()] == [Outcome.REFUSED]
    assert [each["result"] for each in read_journal(stage.journal) if each["kind"] == "answer"] == ["fail"]


def test_a_refusal_after_a_doubtful_try_settles_nothing(scene: Callable[..., Scene]) -> None:
    """The first try may have been executed before the token expired."""
    stage = scene(Reply("DEADLINE_EXCEEDED"), Reply("UNAUTHENTICATED"))
    stage.buyers.submit(CHECKOUT, 1_000.0)

    assert [each.outcome for each in stage.samples()] == [Outcome.UNKNOWN]


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"SUCCESS FAILED CANCELED", Outcome.FINAL),
        (b"SUCCESS EXECUTING", Outcome.PENDING),
        (b"PENDING", Outcome.PENDING),
        (b"NOT_STARTED", Outcome.PENDING),
    ],
)
def test_only_terminal_orders_make_an_answer_final(scene: Callable[..., Scene], body: bytes, outcome: Outcome) -> None:
    """Latency and rate count only answers that carry final outcomes."""
    stage = scene(Reply("OK", body))
    stage.buyers.submit(CHECKOUT, 1_000.0)

    assert [each.outcome for each in stage.samples()] == [outcome]


def test_copies_of_a_click_go_over_both_channels_and_count_their_orders_once(scene: Callable[..., Scene]) -> None:
    """Twelve copies, one checkout."""
    stage = scene(forever=PAID)
    stage.buyers.click(CHECKOUT, 1_000.0, copies=12, spawn=lambda journey, *args: journey(*args))

    status = stage.meter.status(stage.clock.now)
    assert [lane % 2 for _, _, lane in stage.wire.sent] == [0, 1] * 6
    assert (status.sent, status.ok, status.orders_sent, status.orders_success) == (12, 12, 1, 1)
    assert status.disagreements == 0


def test_copies_that_are_told_different_things_are_a_disagreement(scene: Callable[..., Scene]) -> None:
    """I6: all replies to one key are the same bytes."""
    stage = scene(*([PAID] * 11), Reply("OK", b"FAILED"))
    stage.buyers.click(CHECKOUT, 1_000.0, copies=12, spawn=lambda journey, *args: journey(*args))

    assert stage.meter.status(stage.clock.now).disagreements == 1


def test_a_view_of_what_is_not_there_yet_is_an_answer(scene: Callable[..., Scene]) -> None:
    """A look may overtake the submit it is about."""
    stage = scene(PAID, Reply("NOT_FOUND"), Reply("UNAVAILABLE"))
    stage.buyers.submit(CHECKOUT, 1_000.0)
    stage.buyers.view(1_100.0)
    stage.buyers.view(1_200.0)

    assert [each.outcome for each in stage.samples()] == [Outcome.FINAL, Outcome.READ, Outcome.UNREAD]


def test_a_patient_buyer_waits_at_least_the_hint_and_backs_off_up_to_its_cap() -> None:
    """RetryInfo is a minimum; full jitter lies on top, under an exponential ceiling."""
    patience, chance = Patience(base_ms=50, cap_ms=2_000), random.Random(3)

    for tries in range(1, 2_000):
        delay_ms = patience.delay_ms(tries, 500, chance)

        assert 500 <= delay_ms <= 500 + min(2_000, 50 * 2 ** min(tries - 1, 16))


def test_an_impatient_buyer_ignores_the_hint() -> None:
    """The retry storm."""
    assert Patience(base_ms=10, is_patient=False).delay_ms(9, 5_000, random.Random(1)) == 10.0


def test_evenly_spaced_arrivals_are_counted_exactly() -> None:
    """50 a second for 2 s are 100, the last before the end."""
    instants = list(arrivals(tps=50.0, seconds=2.0, chance=None))

    assert len(instants) == 100
    assert (instants[0], instants[-1]) == (0.0, 1_980.0)


def test_poisson_arrivals_follow_their_seed() -> None:
    """Same seed, same instants; another seed, others."""
    first = list(arrivals(tps=50.0, seconds=20.0, chance=random.Random(7)))

    assert first == list(arrivals(tps=50.0, seconds=20.0, chance=random.Random(7)))
    assert first != list(arrivals(tps=50.0, seconds=20.0, chance=random.Random(8)))
    assert first == sorted(first)
    assert 800 < len(first) < 1_200


def test_a_late_dispatcher_begins_at_once_and_keeps_the_intended_instants(scene: Callable[..., Scene]) -> None:
    """Open loop: a slow system is asked as often as a quick one."""
    stage = scene(forever=PAID)
    begun: list[tuple[str, float]] = []

    def spawn(journey: Callable[..., object], *args: Any) -> None:
        begun.append((journey.__name__, args[-1]))
        stage.clock.now += 100.0  # spawning is slow here: the machine is busy

    profile = PROFILES["steady-50"]
    dispatch(
        profile,
        stage.buyers,
        itertools.repeat(CHECKOUT),
        arrivals(tps=50.0, seconds=0.12, chance=None),
        world=stage.world,
        spawn=spawn,
    )

    assert begun == [
        ("submit", 1_000.0),
        ("view", 1_020.0),
        ("view", 1_040.0),
        ("submit", 1_060.0),
        ("view", 1_080.0),
        ("view", 1_100.0),
    ]
    assert stage.clock.slept == []


def test_results_follow_the_table_of_codes() -> None:
    """ok, fail and unknown, as the audit's format has them."""
    told = {code: result_of(code) for code in ("OK", "NOT_FOUND", "FAILED_PRECONDITION", *LOST, "UNKNOWN")}

    assert told == {
        "OK": Result.OK,
        "NOT_FOUND": Result.FAIL,
        "FAILED_PRECONDITION": Result.FAIL,
        **dict.fromkeys((*LOST, "UNKNOWN"), Result.UNKNOWN),
    }
    assert [code for code in told if may_retry(code)] == [*LOST, "UNKNOWN"]
