"""What the product made of the settlement files: I12, judged by the auditor's own matching (match.py).

The files are those that were handed to the product, damaged or not. Each must be recorded by its hash, whole or refused;
every line of an accepted one must be exactly one item of a finished run, and so must every charged order of the period; and
the state, kind and class of each must be what the auditor finds. Source of the tables: zerosum/store/reconciliation/table.py.

Invariant: a line or an order without an item is a finding: nothing is ever silently left out.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from simulator.audit.database import Database, OrderKey
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm
from simulator.audit.match import CLASSES, FREE, OWN, LineKey, Matched, match_lines
from simulator.audit.settlement import SettlementFile

_FINE: Final = frozenset({"MATCHED", "EXPLAINED"})
_MENDED: Final = frozenset({"unresolved_order", "late_charge"})
"""Kinds that the product mends by itself: afterwards the order agrees with the line, and the item still tells what was."""


class Item(NamedTuple):
    """What a run says of a line or an order. `kind`, `group`: of its mismatch, "" where there is none."""

    state: str
    kind: str
    group: str

    def __str__(self) -> str:
        return f"{self.state} {self.kind} {self.group}".strip()


_IN_THE_BOOKS_AFTER_MS: Final = 15_000
"""A run reads orders that are so old at its begin: an order's time is its turn's, and its commit may follow that late."""

_EXPECTED: Final = Item("EXPECTED", "", "")
_MISSING: Final = Item("MISMATCH", "missing_line", CLASSES["missing_line"])


def all_is_classed(evidence: Evidence, found: Findings) -> None:
    """I12: every settlement line and every order of the day is in exactly one class, and it is the right one."""
    database, delivered = evidence.database, evidence.delivered
    assert delivered is not None
    recorded: dict[str, tuple[str, int]] = {
        file_id: (state, lines)
        for file_id, state, lines in database.all("SELECT file_id, state, lines FROM reconciliation.files")
    }
    newest = {file.period: file.sha256 for file in delivered if not file.problems}
    for file in delivered:
        _check_file(file, recorded.get(file.sha256), is_newest=newest.get(file.period) == file.sha256, found=found)
    accepted = [file for file in delivered if recorded.get(file.sha256, ("",))[0] == "ACCEPTED"]
    _check_lines(database, accepted, found)
    items = _items(database)
    matched = match_lines(accepted, database, evidence.book)
    _check_line_items(matched, items, found)
    _check_order_items(database, accepted, matched, items, found)


def _check_file(file: SettlementFile, recorded: tuple[str, int] | None, *, is_newest: bool, found: Findings) -> None:
    found.examined += 1
    expected = "REFUSED" if file.problems else "ACCEPTED" if is_newest else "SUPERSEDED"
    state, lines = recorded or ("none", 0)
    if state != expected:
        why = f" ({file.problems[0][0]})" if file.problems else ""
        harm = Harm.LOSS if recorded is None else Harm.WRONG
        found.add(f"file {file.name}", f"is recorded otherwise{why}", expected=expected, found=state, harm=harm)
    if state == "ACCEPTED" and lines != len(file.rows):
        found.add(f"file {file.name}", "has another number of lines", expected=len(file.rows), found=lines)


def _check_lines(database: Database, accepted: Iterable[SettlementFile], found: Findings) -> None:
    """The lines of accepted files are stored as they stand; a refused one has none."""
    for file in accepted:
        stored = {
            number: rest
            for number, *rest in database.stream(
                "SELECT line_no, line_id, category, psp_object_id, reference, currency, gross_minor, fee_minor, net_minor"
                " FROM reconciliation.lines WHERE file_id = %s",
                (file.sha256,),
            )
        }
        for number, row in enumerate(file.rows, 1):
            found.examined += 1
            told: list[str | int] = [row.id, row.category, row.intent, row.reference, row.currency]
            told += [row.gross_minor, row.fee_minor, row.net_minor]
            if (kept := stored.pop(number, None)) != told:
                found.add(str(LineKey(file.sha256, number)), "is stored otherwise", expected=told, found=kept or "none")
        for number in stored:
            found.add(
                str(LineKey(file.sha256, number)), "is stored and not in the file", expected="none", found="a line"
            )
    for file_id, lines in database.all(
        "SELECT l.file_id, count(*) FROM reconciliation.lines l LEFT JOIN reconciliation.files f ON f.file_id = l.file_id"
        " WHERE f.state IS NULL OR f.state = 'REFUSED' GROUP BY l.file_id"
    ):
        found.add(f"file {file_id[:12]}", "was refused and has lines", expected=0, found=lines)


def _items(database: Database) -> dict[str, Item]:
    """Item -> what the last finished run that has it says: of those that paired it, where one did.

    An order that a refund brings back is looked at again by that night, which says no more than that it has its line.
    """
    rows = database.stream(
        "SELECT i.item, i.state, coalesce(m.kind, ''), coalesce(m.class, '') FROM reconciliation.items i"
        " JOIN (SELECT DISTINCT ON (psp, period) run_id, period FROM reconciliation.runs"
        " WHERE kind = 'nightly' AND state = 'DONE' ORDER BY psp, period, attempt DESC) AS r ON r.run_id = i.run_id"
        " LEFT JOIN reconciliation.mismatches m ON m.mismatch_id = i.mismatch_id"
        " ORDER BY i.partner <> '' OR coalesce(m.kind, '') = 'ambiguous', r.period"
    )
    return {item: Item(state, kind, group) for item, state, kind, group in rows}


def _check_line_items(matched: Matched, items: dict[str, Item], found: Findings) -> None:
    for key, word in matched.words.items():
        found.examined += 1
        said = items.pop(f"line/{key.number}/{key.file}", None)
        subject = f"{key} ({matched.orders.get(key, 'no order of ours')})"
        _compare(subject, word, said, found)
    files = {key.file for key in matched.words}
    for name, item in items.items():
        if name.startswith("line/") and name.rpartition("/")[2] in files:
            found.add(name, "is an item of a line that is not in its file", expected="none", found=item)


def _compare(subject: str, word: str, item: Item | None, found: Findings) -> None:
    if item is None:
        found.add(subject, "is in no class: no finished run has it", expected=word, found="none", harm=Harm.LOSS)
    elif word in (OWN, FREE):
        if item.kind not in _MENDED and (item.state not in _FINE or item.kind):
            found.add(subject, "is in another class", expected=word, found=item)
    elif (item.state, item.kind) != ("MISMATCH", word):
        found.add(subject, "is in another class", expected=f"MISMATCH {word}", found=item)
    elif item.group != CLASSES[word]:
        found.add(subject, f"is {word} and in another class", expected=CLASSES[word], found=item.group)


def _check_order_items(
    database: Database, accepted: list[SettlementFile], matched: Matched, items: dict[str, Item], found: Findings
) -> None:
    """Every charged attempt and every refund of an accepted file's period is one item: its line's, else expected or missing.

    Those that were younger than `_IN_THE_BOOKS_AFTER_MS` when their day was first run belong to the next day's run.
    """
    if not accepted:
        return
    end = max(file.period[1] for file in accepted)
    period = (min(file.period[0] for file in accepted), min(end, _books_read_to_ms(database)))
    for tenant, order_id, number in database.stream(
        "SELECT tenant, payment_order_id, number FROM payment.attempts WHERE state = 'CHARGED'"
        " AND opened_at_ms >= %s AND opened_at_ms < %s",
        period,
    ):
        order = OrderKey(tenant, order_id)
        name = f"order/charge/{number}/{order}"
        _check_order_item(f"order {order}", matched.own.get(order), items.get(name), matched, found)
    for tenant, order_id, number, key in database.stream(
        "SELECT tenant, payment_order_id, number, key FROM payment.operations WHERE kind = 'refund' AND state = 'DONE'"
        " AND started_at_ms >= %s AND started_at_ms < %s",
        period,
    ):
        order = OrderKey(tenant, order_id)
        name = f"order/refund/{number}/{order}"
        _check_order_item(f"refund {number} of {order}", matched.refunds.get(key), items.get(name), matched, found)


def _books_read_to_ms(database: Database) -> int:
    """Up to when the last day's first run read our orders; what is younger belongs to the next one. A day before it that ran
    later, as one whose file came late, read no further."""
    began_ms = database.number(
        "SELECT coalesce(max(began), 0) FROM (SELECT DISTINCT ON (psp) started_at_ms AS began FROM reconciliation.runs"
        " WHERE kind = 'nightly' AND state = 'DONE' ORDER BY psp, period DESC, attempt) AS last_days"
    )
    return began_ms - _IN_THE_BOOKS_AFTER_MS


def _check_order_item(subject: str, line: LineKey | None, item: Item | None, matched: Matched, found: Findings) -> None:
    found.examined += 1
    if line is not None:
        _compare(subject, matched.words[line], item, found)
    elif item is None:
        found.add(subject, "is in no class", expected="EXPECTED or a case", found="none", harm=Harm.LOSS)
    elif item not in (_EXPECTED, _MISSING):
        found.add(subject, "has no line and is in another class", expected="missing_line", found=item)
