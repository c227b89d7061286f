"""`zerosum bench reconcile`: books and file made, damage planted, reconciled, judged. 0 only when every promise holds.

    found           every planted damage opened its case (or, a day shift, closed by itself the next day)
    in its class    each in the class that the damage's own log names
    false alarms    cases that no damage explains: none
    seconds         import and run of the damaged file, by one process
    memory          the peak of that process

The day is yesterday; what was shifted out of it comes with the next file, after which nothing is waited for any more.
Source: issue 4, "Figures to reach and to state".

Invariant: the judgement reads the damage's log and the rows of the database, and nothing the reconciler says of itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.table import Table

from loadtest.bench.finding import console_for, write_json
from loadtest.bench.reconcile_books import DAY_MS, analyze, orders, true_rows, write_books
from loadtest.bench.reconcile_work import URL_VARIABLE
from loadtest.clock import wall_ms
from loadtest.own_database import own_server
from loadtest.planted import Case, Judgement, judge
from simulator.psp import settlement_file
from simulator.psp.damage import Plan
from simulator.psp.damage_file import write_damaged
from simulator.psp.settlement_file import Head
from zerosum.store.migrate import migrate

SECONDS_MAX: Final = 60.0
MEMORY_MB_MAX: Final = 300.0
JUDGED_LINES: Final = 100_000
"""Time is judged up to a file of this many lines and only told of a larger one; memory is judged of any."""

KINDS_MIN: Final = 10
"""Of damage, in a file of at least that many lines (issue 4, figures); a small one has at least some damage."""

_NEXT_DAY_ORDERS: Final = 100


def bench_reconcile(*, lines: int, rate: float, seed: int, json_file: Path | None) -> int:
    """Makes a database of its own, measures, judges, removes it. 0 when everything holds, else 1."""
    console = console_for(json_file)
    console.print("starting a database", style="dim")
    with own_server() as (server, folder):
        migrate(server.urls()["admin"])
        made = _make(server.urls()["admin"], folder, lines=lines, rate=rate, seed=seed, console=console)
        console.print("reconciling", style="dim")
        told = _reconcile(server.urls()["reconciler"], folder, made)
        judged = judge(made.records, _cases(server.urls()["auditor"]), is_over=True)
    return _tell(console, told, judged, lines=lines, json_file=json_file)


# ---- books and files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Made:
    """The damaged file of yesterday, the file of the day after, and what was done."""

    damaged: Mapping[str, Any]
    next_day: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]


def _make(admin_url: str, folder: Path, *, lines: int, rate: float, seed: int, console: Console) -> _Made:
    now_ms = wall_ms()
    today_ms = now_ms - now_ms % DAY_MS
    day = Head(from_ms=today_ms - DAY_MS, to_ms=today_ms, created_ms=today_ms)
    after = Head(from_ms=today_ms, to_ms=today_ms + DAY_MS, created_ms=today_ms + DAY_MS)
    console.print(f"making {lines} orders and their lines", style="dim")
    made = partial(orders, lines, seed=seed, from_ms=day.from_ms)
    made_after = partial(orders, _NEXT_DAY_ORDERS, seed=seed + 1, from_ms=day.from_ms)
    write_books(admin_url, lambda: chain(made(), made_after()))
    analyze(admin_url)
    files = folder / "files"
    true = settlement_file.write(files / "true", true_rows(made(), paid_at_ms=day.to_ms), day)
    damaged = write_damaged(files, true, day, Plan(seed=seed, rate=rate))
    true_after = settlement_file.write(files / "true", true_rows(made_after(), paid_at_ms=after.to_ms), after)
    next_day = write_damaged(files, true_after, after, Plan(seed=seed, rate=0.0))
    log = Path(damaged["damage_log"]).read_text().splitlines()
    return _Made(damaged, next_day, tuple(json.loads(line) for line in log))


# ---- reconciling ---------------------------------------------------------------------------------------------------


def _reconcile(url: str, folder: Path, made: _Made) -> dict[str, Any]:
    tasks = [
        {"file": each["path"], "manifest": each["manifest_path"], "line_due_ms": due_ms}
        for each, due_ms in ((made.damaged, 3 * DAY_MS), (made.next_day, 0))
    ]
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks))
    command = [sys.executable, "-m", "loadtest.bench.reconcile_work", str(path)]
    ended = subprocess.run(command, env={**os.environ, URL_VARIABLE: url}, stdout=subprocess.PIPE, check=True)
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


# ---- judging -------------------------------------------------------------------------------------------------------


def _cases(url: str) -> list[Case]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT kind, class, line_id, payment_order_id FROM reconciliation.mismatches")
        return [Case(*row) for row in found]


# ---- telling -------------------------------------------------------------------------------------------------------


def promises(told: Mapping[str, Any], judged: Judgement, *, lines: int) -> list[tuple[str, str, bool]]:
    """What is promised of a file of so many lines: name, figure, whether it holds. `told`: what `reconcile_work` measured."""
    first, memory_mb = told["tasks"][0], told["memory_mb"]
    seconds = first["import_s"] + first["run_s"]
    kinds = sum(each.planted > 0 for each in judged.kinds)
    kinds_min = KINDS_MIN if lines >= JUDGED_LINES else 1
    is_timed = lines <= JUDGED_LINES
    limit = f"limit {SECONDS_MAX:.0f}" if is_timed else "not judged"
    timed = f"{seconds:.1f} (import {first['import_s']:.1f}, run {first['run_s']:.1f}; {limit})"
    return [
        ("kinds of damage", f"{kinds} (at least {kinds_min})", kinds >= kinds_min),
        ("planted damage found", _percent(judged.found, judged.planted), judged.found == judged.planted),
        ("in its class", _percent(judged.planted - judged.missed, judged.planted), not judged.missed),
        ("false alarms", str(len(judged.false_alarms)), not judged.false_alarms),
        ("seconds", timed, seconds <= SECONDS_MAX or not is_timed),
        ("peak memory", f"{memory_mb:.0f} MB (limit {MEMORY_MB_MAX:.0f})", memory_mb <= MEMORY_MB_MAX),
    ]


def _tell(console: Console, told: Mapping[str, Any], judged: Judgement, *, lines: int, json_file: Path | None) -> int:
    first = told["tasks"][0]
    table = Table("damage", "planted", "found", "in its class", title=f"a file of {first['lines']} lines")
    for each in judged.kinds:
        table.add_row(each.kind, str(each.planted), str(each.found), str(each.in_class))
    console.print(table)
    figures = promises(told, judged, lines=lines)
    for name, figure, holds in figures:
        console.print(f"{'holds' if holds else 'BROKEN':<8}{name:<24}{figure}", highlight=False)
    console.print(
        f"        its own CPU {told['cpu_s']:.1f} s; load of the machine at the end {os.getloadavg()[0]:.1f}",
        highlight=False,
    )
    for alarm in judged.false_alarms[:20]:
        console.print(f"        false alarm: {alarm}", highlight=False)
    holds = all(held for _, _, held in figures)
    if json_file is not None:
        write_json(json_file, {
            "holds": holds, "planted": {each.kind: each.planted for each in judged.kinds},
            "found": {each.kind: each.found for each in judged.kinds},
            "in_class": {each.kind: each.in_class for each in judged.kinds},
            "false_alarms": judged.false_alarms, "seconds": first["import_s"] + first["run_s"],
            "memory_mb": told["memory_mb"], "tasks": told["tasks"],
        })  # fmt: skip
    return 0 if holds else 1


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "nothing was planted"
