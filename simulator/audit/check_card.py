"""No card number anywhere: I20. Every text and bytes column, and the logs.

Invariant: what is found is named by its place and masked; the audit must not be a leak of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from simulator.audit.card import card_numbers
from simulator.audit.database import SERVICES, Database
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings

OUR_OWN: Final = frozenset(
    {"fingerprint", "todo_id", "transfer_id", "journal_id", "mismatch_id", "event_id", "psp_object_id", "psp_reference",
     "body_sha256", "hash"}
)  # fmt: skip
"""Columns of ids and hashes that we or the PSP make: nobody can put text there. Canaries are looked for in them too."""

_MAYBE: Final = "[0-9]([ -]?[0-9]){12}|[^ -~]"
"""What the database looks for, so that few rows travel: 13 digits in a run, or anything that is not plain ASCII."""


def no_card_numbers(evidence: Evidence, found: Findings) -> None:
    """I20: no card number and no planted secret in any text column or log."""
    canaries = evidence.options.canaries
    for table, columns in _columns(evidence.database, ("text", "character varying", "json", "jsonb")):
        for values in _suspicious(evidence.database, table, columns, canaries):
            for column, value in zip(columns, values, strict=True):
                if value is not None:
                    _look(value, f"{table}.{column}", column in OUR_OWN, canaries, found)
    for table, columns in _columns(evidence.database, ("bytea",)):
        for column in (name for name in columns if name not in OUR_OWN):
            for (value,) in evidence.database.stream(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"):  # noqa: S608 (names of the catalogue)
                _look(bytes(value).decode("latin-1"), f"{table}.{column}", False, canaries, found)
    for path in _log_files(evidence.logs):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                _look(line, f"{path}:{number}", False, canaries, found)


def _look(text: str, place: str, is_our_own: bool, canaries: tuple[str, ...], found: Findings) -> None:
    found.examined += 1
    if not is_our_own:
        for masked in card_numbers(text):
            found.add(place, "holds a card number", expected="none", found=masked)
    for number, canary in enumerate(canaries, 1):
        if canary in text:
            found.add(place, f"holds planted secret {number}", expected="none", found=f"{canary[:6]}..")


def _columns(database: Database, types: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    tables: dict[str, list[str]] = {}
    for schema, table, column in database.all(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = ANY(%s) AND data_type = ANY(%s) ORDER BY table_schema, table_name, ordinal_position",
        (list(SERVICES), list(types)),
    ):
        tables.setdefault(f"{schema}.{table}", []).append(column)
    return list(tables.items())


def _suspicious(
    database: Database, table: str, columns: list[str], canaries: tuple[str, ...]
) -> Iterator[tuple[str | None, ...]]:
    """Rows in whose text the database sees something: one look at all columns together, as rows are many."""
    all_text = " || '|' || ".join(f"coalesce({column}::text, '')" for column in columns)
    wanted = " OR ".join(["whole_row ~ %s"] + ["position(%s in whole_row) > 0"] * len(canaries))
    names = ", ".join(f"{column}::text" for column in columns)
    return database.stream(
        f"SELECT {names} FROM (SELECT *, {all_text} AS whole_row FROM {table}) AS lines WHERE {wanted}",  # noqa: S608 (names of the catalogue)
        (_MAYBE, *canaries),
    )


def _log_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
