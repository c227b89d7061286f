"""What a bench found, in one form for all of them: a table for people, JSON for programs; `page.py` draws the same as a page.

    finding = Finding(bench="post", command="zerosum bench post", headline="post: 31,000/s", columns=("peer", "posts/s"),
                      rows=(("ours", spread_of(rates)), ("theirs", spread_of(others))), cards=(before, after))
    tell(finding, Console(), json_file)

Several measurements of one thing are a `Spread`: told as median and range, never as the best of them.

Invariant: whatever makes a finding void or weak is told above its headline, and the headline is the last line.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.bench.card import NAMES, Card, differences
from loadtest.plot import Chart

STANDARD_OUTPUT: Final = Path("-")
PAIRS_MIN: Final = 5
"""Neighbouring pairs that a comparison needs. Source: speed.md "The bench", rules."""

_WIDTH_OF_A_FILE: Final = 180
_THREE_DIGITS: Final = 100.0


@dataclass(frozen=True, slots=True)
class Spread:
    """One thing, measured several times; in the order measured, never empty."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, high = number(min(self.values)), number(max(self.values))
        return low if low == high else f"{number(self.median)} ({low} to {high})"


def spread_of(values: Iterable[float]) -> Spread | None:
    """The spread of some figures; None of none."""
    found = tuple(values)
    return Spread(found) if found else None


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Ours over theirs, neighbour by neighbour: the n-th of one was measured beside the n-th of the other."""
    return spread_of(one / other for one, other in zip(ours, theirs, strict=True))


def few_pairs(count: int) -> tuple[str, ...]:
    """What must be said of a ratio of so few neighbouring pairs, as notes; none: they are enough."""
    return () if count >= PAIRS_MIN else (f"fewer than {PAIRS_MIN} pairs ({count}): what they differ by may be chance",)


Cell = str | float | Spread | None
"""What stands in a table: words, a figure, several of one thing, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One bench's figures. `command`: brings them again. `headline`: one line, such as "knee: 123 checkouts/s".

    `losses`: what was acknowledged and is not stored, in words. `doubts`: what else speaks against the figures. `notes`: what
    a reader must know to read them. `facts`: machine, versions, commit (`machine.py`). `charts`: for the page. `rate_per_s`
    and `cpu_us`: the headline's rate, and its CPU, where it is one.
    """

    bench: str
    command: str
    headline: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    cards: tuple[Card, Card] | None = None
    losses: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    charts: tuple[Chart, ...] = ()
    rate_per_s: float | None = None
    cpu_us: float | None = None

    @property
    def void_because(self) -> tuple[str, ...]:
        """Why the figures do not count; none: they do."""
        changed = differences(*self.cards) if self.cards is not None else ()
        return (
            *self.losses,
            *self.doubts,
            *([f"the machine changed meanwhile: {'; '.join(changed)}"] if changed else []),
        )

    @property
    def machine_units(self) -> dict[str, float]:
        """Unit -> the headline in it: what this machine can do by the card taken before. Source: speed.md "The bench"."""
        if self.cards is None:
            return {}
        card = self.cards[0]
        of_figures = (
            (self.rate_per_s, card.commits_of_64_clients_per_s, "per one-row commit of the card at 64 clients"),
            (self.cpu_us, card.grpc_echo_us, "gRPC echoes of the card"),
        )
        return {unit: figure / one for figure, one, unit in of_figures if figure is not None and one}

    @property
    def machine_line(self) -> str:
        """The same in one line, "" where there is nothing to say."""
        return "; ".join(f"{number(figure)} {unit}" for unit, figure in self.machine_units.items())

    @property
    def status(self) -> int:
        """How the command ends: 1 when something acknowledged is not stored. Figures alone are no verdict."""
        return 1 if self.losses else 0

    def document(self) -> dict[str, Any]:
        """All of it as JSON, but for the charts, which are drawn from it."""
        cards = dict(zip(("before", "after"), (asdict(card) for card in self.cards or ()), strict=False))
        rows = [dict(zip(self.columns, (_plain(cell) for cell in row), strict=True)) for row in self.rows]
        return {
            "bench": self.bench, "command": self.command, "headline": self.headline,
            "machine_units": self.machine_units, "is_void": bool(self.void_because),
            "void_because": list(self.void_because), "rows": rows, "cards": cards, "notes": list(self.notes),
            "facts": dict(self.facts),
        }  # fmt: skip


def tell(finding: Finding, console: Console, json_file: Path | None = None) -> None:
    """Prints the table and what belongs to it, the headline last; writes JSON where asked ("-" = standard output)."""
    table = Table(title=Text(finding.command), title_justify="left")
    for place, name in enumerate(finding.columns):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in finding.rows:
        table.add_row(*(Text(cell_text(cell)) for cell in row))
    console.print(table)
    if finding.cards is not None:
        console.print(_cards_line(*finding.cards), style="dim", highlight=False, soft_wrap=True)
    for note in finding.notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True)
    for reason in finding.void_because:
        console.print(f"VOID  {reason}", style="bold red", highlight=False, soft_wrap=True)
    if finding.machine_line:
        console.print(f"in units of this machine: {finding.machine_line}", highlight=False, soft_wrap=True)
    console.print(finding.headline, style="bold", highlight=False, soft_wrap=True)
    if json_file is not None:
        write_json(json_file, finding.document())


def write_json(path: Path, document: Any) -> None:
    """Writes it to the file, or to the standard output."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def console_for(json_file: Path | None) -> Console:
    """Where people read: the standard error where JSON takes the standard output. A file gets lines as wide as they are."""
    console = Console(stderr=json_file == STANDARD_OUTPUT)
    return console if console.is_terminal else Console(stderr=console.stderr, width=_WIDTH_OF_A_FILE)


def cell_text(cell: Cell) -> str:
    """A cell as people read it."""
    match cell:
        case None:
            return "-"
        case float() | int():
            return number(cell)
        case _:
            return str(cell)


def number(value: float) -> str:
    """Three digits are enough to read: 12,345, 123, 12.3, 0.12; whole numbers as they are."""
    if value == int(value) or abs(value) >= _THREE_DIGITS:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2g}"


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Spread):
        return {"median": cell.median, "min": min(cell.values), "max": max(cell.values), "values": list(cell.values)}
    return cell


def _cards_line(before: Card, after: Card) -> str:
    pairs = [(NAMES[name], value, getattr(after, name)) for name, value in asdict(before).items()]
    told = (f"{name} {cell_text(first)} / {cell_text(second)}" for name, first, second in pairs)
    return f"card before / after: {'; '.join(told)}"
