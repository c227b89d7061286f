"""The alerts of orders in flight for too long and of dead letters: figures that follow the database, a log line when they
change, none when not. And what a server tells of itself."""

import asyncio
from collections.abc import Sequence

import pytest

from servers import monitor
from servers.metric import Metrics
from servers.monitor import DEAD_LETTERS_EVERY_S, IN_FLIGHT_EVERY_S, watch_dead_letters, watch_in_flight
from tests.unit.server_fakes import FakePaymentReader, MemoryLog
from zerosum.domain.todo import TodoKind
from zerosum.errors import Unavailable
from zerosum.readers import DeadLetters
from zerosum.store.wire import Traffic

LIMIT_MS = 60_000
OVERDUE = "orders in flight for too long"


class Overdue(FakePaymentReader):
    """So many orders are overdue, look after look; None: the database is away."""

    def __init__(self, *looks: int | None) -> None:
        super().__init__()
        self._looks = list(looks)
        self.figures: list[float | None] = []
        self.metrics = Metrics()

    async def count_in_flight(self, older_than_ms: int) -> int:
        """The next of them."""
        self.asked.append(older_than_ms)
        overdue = self._looks.pop(0)
        if overdue is None:
            raise Unavailable("the database is away")
        return overdue

    async def sleep(self, seconds: float) -> None:
        """Keeps what Prometheus sees between two looks; ends the watch after the last of them."""
        assert seconds == IN_FLIGHT_EVERY_S
        self.figures.append(self.metrics.registry.get_sample_value("zerosum_orders_overdue"))
        if not self._looks:
            raise asyncio.CancelledError


async def watched(looks: Overdue, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """The log's lines after all looks."""
    log = MemoryLog()
    monkeypatch.setattr(monitor, "_log", log)
    with pytest.raises(asyncio.CancelledError):
        await watch_in_flight(looks, LIMIT_MS, looks.metrics, sleep=looks.sleep)
    return [(line["event"], line["orders"], line["older_than_ms"]) for line in log.lines]


async def test_overdue_orders_are_a_figure_and_one_warning_until_their_number_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last look finds none: the figure is 0 again, and the log says so once."""
    looks = Overdue(0, 3, 3, 5, 0, 0)

    told = await watched(looks, monkeypatch)

    assert looks.figures == [0, 0, 3, 3, 5, 0, 0]
    assert told == [(OVERDUE, 3, LIMIT_MS), (OVERDUE, 5, LIMIT_MS), (OVERDUE, 0, LIMIT_MS)]
    assert looks.asked == [LIMIT_MS] * 6


async def test_a_database_that_is_away_ends_no_watch_and_takes_no_alert_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is not 0: the figure stays, and the same number afterwards is no news."""
    looks = Overdue(2, None, None, 2, 0)

    told = await watched(looks, monkeypatch)

    assert looks.figures == [0, 2, 2, 2, 2, 0]
    assert told == [(OVERDUE, 2, LIMIT_MS), (OVERDUE, 0, LIMIT_MS)]


# ---- dead letters --------------------------------------------------------------------------------------------------

CONFIRM, CREDIT, REFUND = TodoKind.CONFIRM, TodoKind.CREDIT_WALLET, TodoKind.REFUND
WAITING = "dead letters wait for people"

Look = dict[TodoKind, tuple[int, int]]


class Dead(FakePaymentReader):
    """Dead letters, look after look: how many of a kind, and the age of the oldest; None: the database is away."""

    def __init__(self, *looks: Look | None) -> None:
        super().__init__()
        self._looks = list(looks)
        self.figures: list[dict[str, float]] = []
        self.metrics = Metrics()

    async def dead_letters(self) -> Sequence[DeadLetters]:
        """The next of them."""
        dead = self._looks.pop(0)
        if dead is None:
            raise Unavailable("the database is away")
        return [DeadLetters(kind, todos, oldest_ms) for kind, (todos, oldest_ms) in dead.items()]

    async def sleep(self, seconds: float) -> None:
        """Keeps what Prometheus sees between two looks; ends the watch after the last of them."""
        assert seconds == DEAD_LETTERS_EVERY_S
        (family,) = (each for each in self.metrics.registry.collect() if each.name == "zerosum_dead_letters")
        self.figures.append({sample.labels["kind"]: sample.value for sample in family.samples})
        if not self._looks:
            raise asyncio.CancelledError

    def seen(self, kind: TodoKind) -> list[float | None]:
        """What Prometheus saw of a kind before each look, and after the last; None: nothing yet."""
        return [figures.get(kind) for figures in self.figures]


async def watched_dead(looks: Dead, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, int], int]]:
    """The log's lines after all looks."""
    log = MemoryLog()
    monkeypatch.setattr(monitor, "_log", log)
    with pytest.raises(asyncio.CancelledError):
        await watch_dead_letters(looks, looks.metrics, sleep=looks.sleep)
    assert {line["event"] for line in log.lines} <= {WAITING}
    return [(line["dead_letters"], line["by_kind"], line["oldest_ms"]) for line in log.lines]


async def test_dead_letters_are_figures_by_kind_and_a_warning_at_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind has a figure from the first look on, also nought. That the oldest grows older is no news."""
    first, third = {CONFIRM: (1, 70_000), CREDIT: (2, 90_000)}, {CONFIRM: (1, 80_000)}
    looks = Dead({}, first, {CONFIRM: (1, 75_000), CREDIT: (2, 95_000)}, third, {}, {})

    told = await watched_dead(looks, monkeypatch)

    assert looks.seen(CONFIRM) == [None, 0, 1, 1, 1, 0, 0]
    assert looks.seen(CREDIT) == [None, 0, 2, 2, 0, 0, 0]
    assert set(looks.figures[1]) == set(TodoKind)
    assert told == [(3, {"confirm": 1, "credit_wallet": 2}, 90_000), (1, {"confirm": 1}, 80_000), (0, {}, 0)]


async def test_one_dead_letter_that_takes_the_place_of_another_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay and a new death between two looks: the sum is the same, the work is not."""
    looks = Dead({CONFIRM: (1, 70_000)}, {REFUND: (1, 5)})

    told = await watched_dead(looks, monkeypatch)

    assert told == [(1, {"confirm": 1}, 70_000), (1, {"refund": 1}, 5)]


async def test_a_database_that_is_away_takes_no_dead_letter_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is not 0: figures stay, and the same afterwards is no news."""
    looks = Dead(None, {REFUND: (2, 5)}, None, {REFUND: (2, 9)}, {})

    told = await watched_dead(looks, monkeypatch)

    assert looks.seen(REFUND) == [None, None, 2, 2, 2, 0]
    assert told == [(2, {"refund": 2}, 5), (0, {}, 0)]


def test_what_a_server_sends_to_its_database_is_told_as_it_stands_when_it_is_asked_for() -> None:
    """Issue 5: round trips and statements are counted where they are sent, those of a server's own reads, too."""
    metrics, traffic = Metrics(), Traffic()
    metrics.database(traffic)

    traffic.round_trips, traffic.statements = 2, 6

    told = {name: metrics.registry.get_sample_value("zerosum_database", {"figure": name}) for name in Traffic.__slots__}
    assert told == {"round_trips": 2.0, "statements": 6.0, "commits": 0.0}
