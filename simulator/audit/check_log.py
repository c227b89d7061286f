"""The logs of the slots and what must never change: I7, I11.

Invariant: rows are named by their keys and compared by digests made from their values alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from simulator.audit.database import SERVICES, Database
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm, SourceBroken

_COMMANDS: Final = (("slot", "tenant", "method", "key"), ("fingerprint", "entity_id", "outcome", "at_ms"))
_SLOT_LOG: Final = (("slot", "seq"), ("epoch", "hash", "at_ms"))
_CLOSING: Final = ("version", "closed_by", "reason", "closed_at_ms")
_AT: Final = ("slot", "seq", "ord")

APPEND_ONLY: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    **{f"{service}.slot_log": _SLOT_LOG for service in SERVICES},
    **{f"{service}.commands": _COMMANDS for service in SERVICES},
    "payment.history": (
        _AT,
        ("tenant", "checkout_id", "version", "type", "payment_order_id", "status", "detail", "at_ms"),
    ),
    "payment.refusals": (_AT, ("tenant", "method", "key", "fingerprint", "reason", "at_ms")),
    "payment.inbox": (
        ("slot", "psp", "event_id"),
        ("tenant", "checkout_id", "type", "psp_object_id", "body_sha256", "verified_with", "outcome", "received_at_ms"),
    ),
    "wallet.entries": (
        _AT,
        (
            "tenant",
            "wallet_id",
            "version",
            "transfer_id",
            "bucket",
            "amount_minor",
            "currency",
            "payment_order_id",
            "at_ms",
        ),
    ),
    "wallet.closures": (("slot", "tenant", "wallet_id"), _CLOSING),
    "ledger.closures": (("slot", "tenant", "owner", "currency"), _CLOSING),
    "ledger.journals": (_AT, ("tenant", "owner", "version", "journal_id", "movement", "payment_order_id", "at_ms")),
    "ledger.entries": (
        (*_AT, "line"),
        ("tenant", "journal_id", "account", "currency", "amount_minor", "at_ms"),
    ),
    "ledger.checkpoints": (("slot", "tenant", "account", "seq"), ("balance_minor", "entry_count")),
}
"""Table -> its key and its other columns: rows that nobody may change or remove."""

LOGGED: Final = {
    "payment": ("history", "refusals"),
    "wallet": ("entries",),
    "ledger": ("journals", "entries"),
}
"""Tables whose rows carry the (slot, seq) of their commit."""

_VERSIONED: Final = (
    # (service, what, root table, its id, tables whose rows carry its versions)
    ("payment", "checkout", "payment_events", "checkout_id", ("history",)),
    ("wallet", "wallet", "wallets", "wallet_id", ("entries", "closures")),
    ("ledger", "owner", "owners", "owner", ("journals", "closures")),
)


def logs_are_gapless(evidence: Evidence, found: Findings) -> None:
    """I7: per slot epochs never fall and seq has no gap; per entity versions rise by exactly one, in one slot."""
    for service in SERVICES:
        _check_slots(evidence.database, service, found)
        for table in LOGGED[service]:
            _check_logged(evidence.database, service, table, found)
    for names in _VERSIONED:
        _check_versions(evidence.database, names, found)


def _check_slots(database: Database, service: str, found: Findings) -> None:
    found.examined += database.number(f"SELECT count(*) FROM {service}.slot_log")  # noqa: S608 (names of ours)
    for slot, count, first, last, falls in database.all(
        "SELECT slot, count(*), min(seq), max(seq), count(*) FILTER (WHERE epoch < before) FROM (SELECT slot, seq,"  # noqa: S608 (names of ours)
        f" epoch, lag(epoch) OVER (PARTITION BY slot ORDER BY seq) AS before FROM {service}.slot_log) AS log GROUP BY slot"
    ):
        subject = f"slot {service}:{slot}"
        if (first, count) != (1, last):
            found.add(
                subject,
                "has a gap in its log",
                expected=f"1 to {last}",
                found=f"{count} rows from {first}",
                harm=Harm.LOSS,
            )
        if falls:
            found.add(
                subject,
                "took a write from a superseded copy",
                expected="epochs that never fall",
                found=f"{falls} falls",
            )
    for slot, seq, last, epoch, last_epoch, is_same in database.all(
        "SELECT coalesce(s.slot, l.slot), coalesce(s.seq, 0), coalesce(l.seq, 0), coalesce(s.epoch, 0), coalesce(l.epoch, 0),"  # noqa: S608 (names of ours)
        f" l.seq IS NULL OR s.hash = l.hash FROM {service}.slots s FULL OUTER JOIN (SELECT DISTINCT ON (slot) slot, seq, epoch,"
        f" hash FROM {service}.slot_log ORDER BY slot, seq DESC) AS l ON l.slot = s.slot"
    ):
        subject = f"slot {service}:{slot}"
        if seq != last:
            found.add(subject, "its head is not the end of its log", expected=last, found=seq, harm=Harm.LOSS)
        elif not is_same:
            found.add(subject, "its head has another hash than its log", expected="the log's", found="another")
        if epoch < last_epoch:
            found.add(subject, "its epoch fell", expected=last_epoch, found=epoch)


def _check_logged(database: Database, service: str, table: str, found: Findings) -> None:
    for slot, seq in database.stream(
        f"SELECT DISTINCT t.slot, t.seq FROM {service}.{table} t LEFT JOIN {service}.slot_log l"  # noqa: S608 (names of ours)
        " ON l.slot = t.slot AND l.seq = t.seq WHERE l.seq IS NULL"
    ):
        subject = f"{service}.{table} at {slot}:{seq}"
        found.add(subject, "was written outside the slot's log", expected="a log row", found="none")


def _check_versions(database: Database, names: tuple[str, str, str, str, tuple[str, ...]], found: Findings) -> None:
    service, what, root, id_, tables = names
    rows = " UNION ALL ".join(f"SELECT tenant, {id_}, version, slot FROM {service}.{table}" for table in tables)  # noqa: S608 (names of ours)
    for tenant, name, version, count, first, last, slots in database.stream(
        f"WITH r AS (SELECT tenant, {id_}, count(DISTINCT version) AS count, min(version) AS first, max(version) AS last,"  # noqa: S608 (names of ours)
        f" count(DISTINCT slot) AS slots FROM ({rows}) AS every GROUP BY tenant, {id_})"
        f" SELECT coalesce(e.tenant, r.tenant), coalesce(e.{id_}, r.{id_}), coalesce(e.version, 0), coalesce(r.count, 0),"
        f" coalesce(r.first, 1), coalesce(r.last, 0), coalesce(r.slots, 0) FROM {service}.{root} e"
        f" FULL OUTER JOIN r ON r.tenant = e.tenant AND r.{id_} = e.{id_}"
    ):
        found.examined += 1
        subject = f"{what} {tenant}/{name}"
        if version == 0 and count:
            found.add(subject, "has a history and is gone", expected=f"version {last}", found="none", harm=Harm.LOSS)
        elif not first == 1 <= count == last == version:
            said = f"{count} versions, {first} to {last}"
            found.add(subject, "its versions do not rise by one", expected=f"1 to {version}", found=said)
        if slots > 1:
            found.add(subject, "lives in several slots", expected=1, found=slots)


def rows_never_change(evidence: Evidence, found: Findings) -> None:
    """I11: every append-only row of the run before is there, unchanged; the roles could not have changed one."""
    database, digests = evidence.database, evidence.options.digests
    _check_grants(database, found)
    if digests is None:
        found.notes.append("no digest file was given: only the roles' rights were looked at")
        return
    earlier = _read_digests(digests) if digests.exists() else {}
    if not earlier:
        found.notes.append("first run with this digest file: rows are compared from the next run on")
    half = digests.with_name(digests.name + ".new")
    with half.open("w", encoding="utf-8") as lines:
        for table in APPEND_ONLY:
            before = earlier.pop(table, {})
            for key, digest in _digest_rows(database, table):
                found.examined += 1
                lines.write(f"{table}\t{key}\t{digest}\n")
                was = before.pop(key, digest)
                if was != digest:
                    found.add(f"{table} {key}", "was changed", expected=was, found=digest)
            for key, digest in before.items():
                found.add(f"{table} {key}", "was removed", expected=digest, found="none", harm=Harm.LOSS)
    # Kept as it was when rows changed, so that the next run says so again.
    if found.count == 0:
        half.replace(digests)
    else:
        half.unlink()


def _check_grants(database: Database, found: Findings) -> None:
    roles = {name for (name,) in database.all("SELECT rolname FROM pg_catalog.pg_roles")}
    for table in APPEND_ONLY:
        for role in (name for name in (*SERVICES, "auditor") if name in roles):
            for right in ("UPDATE", "DELETE"):
                found.examined += 1
                if database.all("SELECT has_table_privilege(%s, %s, %s)", (role, table, right))[0][0]:
                    found.add(f"role {role}", f"may {right} rows of {table}", expected="INSERT, SELECT", found=right)


def _digest_rows(database: Database, table: str) -> Iterator[tuple[str, str]]:
    key, others = APPEND_ONLY[table]
    name = " || '/' || ".join(f"{column}::text" for column in key)
    values = " || '|' || ".join(f"coalesce(replace({column}::text, '|', '||'), '~|~')" for column in others)
    for name_, digest in database.stream(f"SELECT {name}, md5({values}) FROM {table}"):  # noqa: S608 (names of ours)
        yield name_.replace("\t", " ").replace("\n", " "), digest


def _read_digests(path: Path) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip("\n").split("\t")
            if len(parts) != 3:  # noqa: PLR2004 (table, key, digest)
                raise SourceBroken(f"{path}: line {number} is damaged")
            tables.setdefault(parts[0], {})[parts[1]] = parts[2]
    return tables
