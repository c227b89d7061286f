"""What a server counts, for Prometheus. Labels are methods, codes and outcomes: never an id, a tenant or a value.

Invariant: the number of series is bounded by the contracts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from zerosum.domain.todo import TodoKind
from zerosum.readers import DeadLetters

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0)
"""Bounds of the latency histogram: the goals are 60 and 300 ms, a reply is fixed after 10 s."""


class Metrics:
    """The counters of one server process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("zerosum_grpc_calls", "Calls ended", ("method", "code"), registry=self.registry)
        self._seconds = Histogram(
            "zerosum_grpc_seconds", "Duration of calls", ("method",), buckets=_SECONDS, registry=self.registry
        )
        self._series: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._webhooks = Counter("zerosum_webhooks", "Webhooks received", ("psp", "outcome"), registry=self.registry)
        self._shards = Gauge(
            "zerosum_shard", "Figures of a shard's present copy", ("shard", "figure"), registry=self.registry
        )
        self._database = Gauge(
            "zerosum_database", "What this server has sent to its database", ("figure",), registry=self.registry
        )
        self._overdue = Gauge("zerosum_orders_overdue", "Orders in flight for too long", registry=self.registry)
        self._dead_letters = Gauge(
            "zerosum_dead_letters", "To-dos that only people can go on with", ("kind",), registry=self.registry
        )
        self.in_flight = Gauge("zerosum_grpc_in_flight", "Calls being worked on", registry=self.registry)

    def call(self, method: str, code: str, seconds: float) -> None:
        """A call ended."""
        series = self._series.get((method, code))
        if series is None:
            series = self._series[method, code] = (self._calls.labels(method, code), self._seconds.labels(method))
        count, duration = series
        count.inc()
        duration.observe(seconds)

    def webhook(self, psp: str, outcome: str) -> None:
        """A webhook came: recorded, duplicate, ignored, refused or failed. `psp` is one of ours."""
        self._webhooks.labels(psp, outcome).inc()

    def shard(self, number: int, figures: Mapping[str, int]) -> None:
        """A shard told its figures: batches, turns (their quotient is the average batch), conflicts (40001), calls, ...."""
        for name, value in figures.items():
            self._shards.labels(str(number), name).set(value)

    def database(self, traffic: Any) -> None:
        """What the server itself sends to its database: the store's `Traffic`, as it stands when the page is asked for."""
        for each in fields(traffic):
            self._database.labels(each.name).set_function(partial(getattr, traffic, each.name))

    def overdue(self, orders: int) -> None:
        """So many orders are in flight for longer than the alert's limit."""
        self._overdue.set(orders)

    def dead_letters(self, found: Sequence[DeadLetters]) -> None:
        """So many to-dos of each kind are dead letters; a kind that is not named has none."""
        todos = {each.kind: each.todos for each in found}
        for kind in TodoKind:
            self._dead_letters.labels(kind.value).set(todos.get(kind, 0))
