"""`python -m simulator.audit --database-url URL ...`: the audit as a command.

Exit status 0: clean. 1: an invariant is violated. 2: a source could not be read, so nothing was judged.
"""

import argparse
import os
import sys
from pathlib import Path

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulator.audit.book import fetch_truth, file_truth, read_book
from simulator.audit.client import read_journal
from simulator.audit.database import open_database
from simulator.audit.evidence import PENDING_LIMIT_MS, Evidence, Options
from simulator.audit.finding import SourceBroken
from simulator.audit.heads import read_heads
from simulator.audit.report import AuditReport, Outcome, Verdict, audit
from simulator.audit.settlement import read_delivered, read_settlement

_TRIES_MAX = 3
"""A serializable snapshot may be refused under load (40001); the next one is another instant, just as true."""


def main(arguments: list[str] | None = None) -> int:
    """Audit, print, and return the exit status."""
    options = _options(arguments)
    console = Console(stderr=False)
    try:
        report = _run(options)
    except SourceBroken as broken:
        console.print(f"[bold red]NOT AUDITED[/]: {escape(str(broken))}")
        return 2
    if options.json:
        options.json.write_text(report.to_json() + "\n", encoding="utf-8")
    print_report(report, console)
    return 0 if report.is_clean else 1


def print_report(report: AuditReport, console: Console) -> None:
    """The report on a terminal."""
    table = Table(title="Audit", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("result")
    table.add_column("looked at", justify="right")
    table.add_column("wrong", justify="right")
    table.add_column("statement")
    colour = {Outcome.HELD: "green", Outcome.VIOLATED: "bold red", Outcome.NOT_CHECKED: "yellow"}
    for verdict in report.verdicts:
        result = f"[{colour[verdict.outcome]}]{verdict.outcome}[/]"
        table.add_row(verdict.id, result, str(verdict.examined), str(verdict.count or ""), escape(verdict.statement))
    console.print(table)
    for verdict in report.verdicts:
        _print_findings(verdict, console)
    totals = report.totals
    figures = {
        "intents": totals.intents,
        "effects": totals.effects,
        "doubles": totals.doubles,
        "losses": totals.losses,
        "unknown": totals.unknown,
        "dead letters": totals.dead_letters,
        "stuck": totals.stuck,
        "orders": totals.orders,
        "mismatches": sum(totals.mismatches_by_kind.values()),
        "open mismatches": totals.mismatches_open,
    }
    shown = (f"{name} {'-' if number is None else number}" for name, number in figures.items())
    console.print("\n" + "  ".join(shown), highlight=False)
    verdict_line = (
        "[bold green]CLEAN[/]" if report.is_clean else f"[bold red]NOT CLEAN[/]: {', '.join(report.violated)}"
    )
    console.print(f"{verdict_line}  ({report.elapsed_ms} ms)", highlight=False)


def _print_findings(verdict: Verdict, console: Console) -> None:
    for note in verdict.notes:
        console.print(f"[yellow]{verdict.id}[/] {escape(note)}", highlight=False)
    for each in verdict.examples:
        values = f"expected {each.expected}, found {each.found}"
        console.print(f"[red]{verdict.id}[/] {escape(f'{each.subject}: {each.problem}; {values}')}", highlight=False)
    if verdict.count > len(verdict.examples):
        console.print(f"[red]{verdict.id}[/] and {verdict.count - len(verdict.examples)} more", highlight=False)


def _run(options: argparse.Namespace) -> AuditReport:
    settings = Options(
        psp=options.psp,
        in_flight_limit_ms=options.in_flight_limit_ms,
        pending_limit_ms=options.pending_limit_ms,
        do_dead_letters_count=options.dead_letters_count,
        digests=options.digests,
        canaries=tuple(options.canary),
    )
    book = None
    if options.psp_truth:
        book = read_book(file_truth(options.psp_truth))
    elif options.psp_url:
        book = read_book(fetch_truth(options.psp_url, options.psp_admin_token))
    client = read_journal(options.journal) if options.journal else None
    settlement = read_settlement(options.settlement) if options.settlement else None
    delivered = read_delivered(options.delivered) if options.delivered else None
    heads = read_heads(options.heads) if options.heads else None
    for tries in range(1, _TRIES_MAX + 1):
        try:
            with open_database(options.database_url) as database:
                return audit(
                    Evidence(
                        database=database,
                        book=book,
                        client=client,
                        settlement=settlement,
                        delivered=delivered,
                        heads=heads,
                        logs=tuple(options.logs),
                        options=settings,
                    )
                )
        except psycopg.errors.SerializationFailure as refused:
            if tries == _TRIES_MAX:
                raise SourceBroken("the database refused a serializable snapshot three times") from refused
        except psycopg.Error as broken:
            raise SourceBroken(f"the database cannot be read: {broken}") from broken
        except OSError as broken:
            raise SourceBroken(f"a file cannot be read: {broken}") from broken
    raise AssertionError("unreachable: the last try returns or raises")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator.audit", description="The independent auditor.")
    add = parser.add_argument
    add("--database-url", default=os.environ.get("ZEROSUM_AUDITOR_DATABASE_URL"), help="URL of the role auditor")
    add("--psp", default="stripe", help="name of the PSP whose book this is, as in the ledger's accounts")
    add("--psp-url", help="base URL of the PSP simulator: its truth is fetched")
    add("--psp-admin-token", default=os.environ.get("PSP_ADMIN_TOKEN", "admin_simulator"))
    add("--psp-truth", type=Path, help="a saved truth instead of a running simulator")
    add("--journal", type=Path, nargs="+", default=[], help="files of the client's journal")
    add("--settlement", type=Path, nargs="+", default=[], help="settlement files, or folders of them")
    add("--delivered", type=Path, nargs="+", default=[], help="settlement files as they were handed to the product")
    add("--heads", type=Path, help="heads of the slots' logs, exported before (simulator.audit.chain)")
    add("--logs", type=Path, nargs="+", default=[], help="files and folders to be searched for card numbers")
    add("--canary", nargs="+", default=[], help="planted secrets that must be found nowhere")
    add("--digests", type=Path, help="row digests of the run before; written anew")
    add("--in-flight-limit-ms", type=int, default=0, help="age from which what is open is stuck; 0: all has drained")
    add("--pending-limit-ms", type=int, default=PENDING_LIMIT_MS, help="the same for orders that wait for a person")
    add("--dead-letters-count", action="store_true", help="a dead letter counts as stuck")
    add("--json", type=Path, help="write the report there too")
    options = parser.parse_args(arguments)
    if not options.database_url:
        parser.error("--database-url is needed")
    return options


if __name__ == "__main__":
    sys.exit(main())
