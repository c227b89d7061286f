"""The alert of orders in flight for too long: a figure that follows the database, a log line when it changes, none when not."""

import asyncio

import pytest

from servers import monitor
from servers.metric import Metrics
from servers.monitor import IN_FLIGHT_EVERY_S, watch_in_flight
from tests.unit.server_fakes import FakePaymentReader, MemoryLog
from zerosum.errors import Unavailable

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
