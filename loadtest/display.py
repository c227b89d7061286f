"""The demo's live display: a small table on a terminal, a line every few seconds elsewhere.

Invariant: it only shows; whatever is not known yet is shown as a dash.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.sample import Status

PLAIN_EVERY_S = 5.0
STATUS_STYLES: Mapping[str, str] = {
    "NOT_STARTED": "dim", "EXECUTING": "cyan", "PENDING": "yellow", "SUCCESS": "green", "FAILED": "red", "CANCELED": "red",
}  # fmt: skip


@dataclass(slots=True)
class View:
    """What is shown. `share`: how much of the present phase is over, 0 to 1."""

    phase: str = "starting"
    share: float = 0.0
    load: Status = field(default_factory=Status)
    orders: Mapping[str, int] = field(default_factory=dict)
    open_todos: int = 0
    marks: list[str] = field(default_factory=list)


class Display:
    """Shows a view until the `with` block ends. `console` decides whether it is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._said_s = 0.0
        self._phase = ""

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""
        self._console.print(text, style=style, highlight=False)

    def show(self, view: View) -> None:
        """The view as it is now."""
        if self._live is not None:
            self._live.update(_table(view))
        elif time.monotonic() - self._said_s >= PLAIN_EVERY_S or view.phase != self._phase:
            self._said_s, self._phase = time.monotonic(), view.phase
            self._console.print(_line(view), highlight=False, soft_wrap=True)


def _line(view: View) -> str:
    load = view.load
    orders = " ".join(f"{name}={count}" for name, count in view.orders.items())
    return (
        f"{view.phase:<26} {view.share:>4.0%}  sent {load.sent} ok {load.ok} pending {load.pending} failed {load.failed}"
        f"  p50 {_ms(load.p50_ms)} p95 {_ms(load.p95_ms)} p99 {_ms(load.p99_ms)}  {orders} to-dos {view.open_todos}"
    )


def _table(view: View) -> RenderableType:
    load = view.load
    head = Table.grid(padding=(0, 2))
    head.add_row(Text(view.phase, style="bold"), ProgressBar(total=1.0, completed=view.share, width=40))
    calls = Table.grid(padding=(0, 2))
    calls.add_row("checkouts", f"{load.sent} sent", f"{load.ok} ok", f"{load.pending} pending", f"{load.failed} failed",
                  f"{load.in_flight} in flight", f"{load.retries} retries")  # fmt: skip
    calls.add_row("latency", f"p50 {_ms(load.p50_ms)}", f"p95 {_ms(load.p95_ms)}", f"p99 {_ms(load.p99_ms)}",
                  f"{load.rate_per_s:.0f}/s", f"{load.views} views", "")  # fmt: skip
    orders = Text("orders     ")
    for name, count in view.orders.items():
        orders.append(f"{name} {count}   ", style=STATUS_STYLES.get(name, ""))
    orders.append(f"open to-dos {view.open_todos}", style="dim")
    marks = [Text(f"  {mark}", style="magenta") for mark in view.marks[-4:]]
    return Group(head, calls, orders, *marks)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
