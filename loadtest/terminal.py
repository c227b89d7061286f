"""The certificate in a terminal: one screen, readable at 100 columns, with or without colour.

Invariant: what is red here is a reason of the certificate, and every reason stands in words as well as in colour.
"""

from rich.align import Align
from rich.box import HEAVY, ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from loadtest.certificate import Certificate, Invariant, PhaseFigures, State
from loadtest.sample import Percentiles

WIDTH = 100
_GOOD, _BAD, _WARN, _DIM = "bold green", "bold red", "yellow", "dim"


def render_terminal(certificate: Certificate) -> RenderableType:
    """The certificate as something rich prints; 100 columns wide."""
    rows: list[RenderableType] = [
        _head(certificate),
        _money(certificate),
        _speed(certificate),
        _invariants(certificate),
        *_settlement(certificate),
    ]
    wrong = [each for each in certificate.invariants if each.state is State.VIOLATED]
    if wrong:
        rows.append(_examples(wrong))
    if certificate.warnings:
        rows.append(
            Panel(_lines(certificate.warnings, "!", _WARN), title="worth knowing", border_style=_WARN, box=ROUNDED)
        )
    rows.append(_foot(certificate))
    return Group(*rows)


def print_certificate(certificate: Certificate, console: Console | None = None) -> None:
    """Prints it, at most 100 columns wide."""
    out = console or Console()
    out.print(render_terminal(certificate), width=min(WIDTH, out.width))


def _head(certificate: Certificate) -> RenderableType:
    style = _GOOD if certificate.is_clean else _BAD
    word = Text(certificate.verdict, style=f"{style} reverse" if certificate.is_clean else "bold white on red")
    word.pad(3)
    if certificate.is_clean:
        say = Text(f"{certificate.effects:,} charges, each exactly once. Every source agrees.", style="bold")
        body: RenderableType = Group(Align.center(word), Text(""), Align.center(say))
    else:
        body = Group(Align.center(word), Text(""), _lines(certificate.reasons, "✗", _BAD))
    return Panel(body, title="[bold]Zerosum · certificate[/]", border_style=style, box=HEAVY, padding=(1, 2))


def _money(certificate: Certificate) -> RenderableType:
    """What must be zero, beside what must not."""
    plain = [("intents", certificate.intents), ("orders", certificate.orders), ("effects", certificate.effects)]
    zero = [
        ("doubles", certificate.doubles),
        ("losses", certificate.losses),
        ("unknown", certificate.unknown),
        ("dead letters", certificate.dead_letters),
        ("stuck", certificate.stuck),
    ]
    statuses = " · ".join(f"{status} {count:,}" for status, count in sorted(certificate.orders_by_status.items()))
    return Panel(
        Group(
            _tiles([(name, count, "bold cyan") for name, count in plain]),
            Rule(style=_DIM),
            _tiles([(name, count, _GOOD if count == 0 else _BAD) for name, count in zero]),
            Text(""),
            Text(statuses, style=_DIM, justify="center"),
        ),
        title="money",
        box=ROUNDED,
    )


def _tiles(figures: list[tuple[str, int, str]]) -> RenderableType:
    grid = Table.grid(expand=True)
    for _ in figures:
        grid.add_column(ratio=1, justify="center")
    grid.add_row(*(Text(f"{count:,}", style=style) for _, count, style in figures))
    grid.add_row(*(Text(name, style=_DIM) for name, _, _ in figures))
    return grid


def _speed(certificate: Certificate) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, header_style=_DIM)
    table.add_column("phase", ratio=1, overflow="fold")
    for name in ("calls", "final/s", "p50 ms", "p95 ms", "p99 ms", "pending"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in certificate.phases:
        title = Text(each.phase.name)
        if each.phase.has_faults:
            title.append("  faults on", style=_WARN)
        has_views = each.views.count > 0
        rate = f"{each.rate_per_s:,.1f}"
        table.add_row(title, *_cells(each.submits, rate), _pending(each), end_section=not has_views)
        if has_views:
            table.add_row(Text("  views", style=_DIM), *_cells(each.views, ""), "", end_section=True)
    facts = certificate.facts
    beside = [
        f"average batch {facts.average_batch:.1f}" if facts.average_batch is not None else "",
        f"memory {facts.memory_mb:,.0f} MB" if facts.memory_mb is not None else "",
        f"drained in {facts.drained_ms / 1_000:.1f} s" if facts.drained_ms is not None else "",
        f"{facts.executing_at_kill:,} orders EXECUTING at the kill" if facts.executing_at_kill is not None else "",
    ]
    line = Text(" · ".join(filter(None, beside)), style=_DIM, justify="center")
    return Panel(Group(table, line), title="speed, from the intended instant to the final answer", box=ROUNDED)


def _cells(figures: Percentiles, rate: str) -> list[str]:
    return [f"{figures.count:,}", rate, *(_ms(value) for value in (figures.p50_ms, figures.p95_ms, figures.p99_ms))]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits are enough to read


def _pending(figures: PhaseFigures) -> Text:
    return Text(f"{figures.pending:,} ({figures.pending_share:.2%})", style="" if figures.pending else _DIM)


def _invariants(certificate: Certificate) -> RenderableType:
    table = Table(box=None, expand=True, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for each in certificate.invariants:
        mark, style, says = _state(each)
        table.add_row(
            Text(mark, style=style), Text(each.id, style="bold"), Text(each.statement), Text(says, style=style)
        )
    return Panel(table, title="the audit", box=ROUNDED)


def _settlement(certificate: Certificate) -> list[RenderableType]:
    """Planted and found side by side; nothing where no file was damaged."""
    reconciled = certificate.facts.reconciled
    if reconciled is None or reconciled.judgement is None:
        return []
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, header_style=_DIM)
    table.add_column("damage of the settlement file", ratio=1, no_wrap=True)
    for name in ("planted", "found", "in its class"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("class")
    for each in reconciled.judgement.kinds:
        style = "" if each.planted == each.in_class else _BAD
        counts = (f"{number:,}" for number in (each.planted, each.found, each.in_class))
        table.add_row(each.kind.replace("_", " "), *counts, each.group, style=style)
    alarms = len(reconciled.judgement.false_alarms)
    said = Text(f"false alarms {alarms:,} · {reconciled.line}", style=_BAD if alarms else _DIM, justify="center")
    return [Panel(Group(table, said), title="settlement, planted and found", box=ROUNDED)]


def _state(invariant: Invariant) -> tuple[str, str, str]:
    match invariant.state:
        case State.HELD:
            return "✓", _GOOD, f"{invariant.examined:,} examined"
        case State.VIOLATED:
            return "✗", _BAD, f"{invariant.count:,} wrong"
        case State.NOT_CHECKED:
            return "-", _WARN, "not checked"


def _examples(invariants: list[Invariant], shown: int = 3) -> RenderableType:
    lines = Table(box=None, expand=True, show_header=False, pad_edge=False, padding=(0, 1))
    lines.add_column(no_wrap=True)
    lines.add_column(ratio=1, overflow="fold")
    for each in invariants:
        for example in each.examples[:shown]:
            says = Text(example.problem)
            if example.expected or example.found:
                says.append(f"  expected {example.expected or '-'}, found {example.found or '-'}", style=_DIM)
            lines.add_row(Text(each.id, style="bold"), Text.assemble((example.subject, "cyan"), "  ", says))
        if each.count > shown:
            lines.add_row("", Text(f"and {each.count - min(shown, len(each.examples)):,} more", style=_DIM))
    return Panel(lines, title="what is wrong", border_style=_BAD, box=ROUNDED)


def _lines(words: tuple[str, ...], mark: str, style: str) -> Text:
    return Text("\n").join(Text.assemble((f"{mark} ", style), each) for each in words)


def _foot(certificate: Certificate) -> RenderableType:
    events = " · ".join(event.label for event in certificate.events)
    told = Text(f"seed {certificate.facts.seed}" + (f" · {events}" if events else ""), style=_DIM)
    again = Text.assemble(("again: ", _DIM), (certificate.facts.command, "bold"))
    return Group(told, again)
