"""Planted damage: the ways a payment system goes wrong, done on purpose, to prove that the audit sees them.

`plant` runs one entry of `DAMAGE` as the administrator, with the triggers that protect the tables switched off for this
session; `double_charge` adds a second charge to a saved truth. Used by `make demo --sabotage` and by tests; never run it
on data that anybody needs. Invariant: each entry names the invariants that must then be violated.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from simulator.audit.database import plain_url

_PLACES: Final = {
    "<hit>": "(tenant, payment_order_id) IN (SELECT tenant, payment_order_id FROM payment.payment_orders"
    " WHERE payment_order_status = 'SUCCESS' ORDER BY tenant, payment_order_id LIMIT 1)",
    "<its checkout>": "(tenant, checkout_id) IN (SELECT tenant, checkout_id FROM payment.payment_orders WHERE <hit>)",
    "<its journal>": "(tenant, journal_id) IN (SELECT tenant, journal_id FROM ledger.journals"
    " WHERE movement = 'capture' AND <hit>)",
}
"""Where it hurts: one paid order, always the same, and what hangs on it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to the rows, and the invariants that it breaks (others may break with them)."""

    violates: tuple[str, ...]
    statements: tuple[str, ...]


DAMAGE: Final[Mapping[str, Damage]] = {
    "lose-posting": Damage(
        ("POSTINGS", "I22"),
        ("DELETE FROM ledger.entries WHERE <its journal>", "DELETE FROM ledger.journals WHERE movement = 'capture' AND <hit>"),
    ),
    "lose-credit": Damage(("POSTINGS", "I5"), ("DELETE FROM wallet.entries WHERE <hit>",)),
    "forget-order": Damage(
        ("I24", "I3"),
        (
            "CREATE TEMP TABLE lost AS SELECT tenant, checkout_id FROM payment.payment_orders WHERE <hit>",
            *(
                f"DELETE FROM payment.{table} WHERE (tenant, checkout_id) IN (SELECT tenant, checkout_id FROM lost)"  # noqa: S608 (names of ours)
                for table in ("attempts", "operations", "todos", "history", "buyers", "payment_orders", "payment_events")
            ),
            "DROP TABLE lost",
        ),
    ),
    "unbalance-journal": Damage(
        ("I1", "I2"), ("UPDATE ledger.entries SET amount_minor = amount_minor + 1 WHERE line = 1 AND <its journal>",)
    ),
    "post-to-nowhere": Damage(
        ("I2",), ("UPDATE ledger.entries SET account = 'pocket:' || currency WHERE line = 1 AND <its journal>",)
    ),
    "fail-a-paid-order": Damage(
        ("I3",), ("UPDATE payment.payment_orders SET payment_order_status = 'FAILED' WHERE <hit>",)
    ),
    "two-live-attempts": Damage(
        ("I4",),
        (
            "DROP INDEX IF EXISTS payment.attempts_one_live",
            "INSERT INTO payment.attempts SELECT slot, tenant, checkout_id, payment_order_id, number + 1, psp, 'UNKNOWN', '',"
            " opened_at_ms FROM payment.attempts WHERE <hit>",
        ),
    ),
    "raise-balance": Damage(("I5",), ("UPDATE wallet.wallets SET pending_minor = pending_minor + 100",)),
    "other-reply": Damage(("I6",), ("UPDATE payment.payment_events SET reply = 'other'::bytea WHERE <its checkout>",)),
    "forget-command": Damage(
        ("I6",),
        (
            "DELETE FROM payment.commands WHERE (tenant, entity_id) IN"
            " (SELECT tenant, checkout_id FROM payment.payment_events WHERE <its checkout>)",
        ),
    ),
    "gap-in-slot-log": Damage(("I7",), ("DELETE FROM payment.slot_log WHERE seq = 1",)),
    "stale-epoch": Damage(
        ("I7",),
        (
            "UPDATE wallet.slot_log SET epoch = epoch - 1 WHERE (slot, seq) IN"
            " (SELECT slot, max(seq) FROM wallet.slot_log GROUP BY slot)",
        ),
    ),
    "skip-version": Damage(("I7",), ("UPDATE payment.payment_events SET version = version + 1 WHERE <its checkout>",)),
    "illegal-step": Damage(
        ("I8",),
        ("UPDATE payment.history SET type = 'OrderPended', status = 'PENDING' WHERE type = 'AttemptOpened' AND <hit>",),
    ),
    "state-beside-history": Damage(
        ("I8",), ("UPDATE payment.payment_orders SET payment_order_status = 'CANCELED' WHERE <hit>",)
    ),
    "stuck-order": Damage(
        ("I9",), ("UPDATE payment.payment_orders SET payment_order_status = 'EXECUTING' WHERE <hit>",)
    ),
    "stuck-todo": Damage(("I9",), ("UPDATE payment.todos SET state = 'OPEN' WHERE <hit>",)),
    "lose-webhook": Damage(
        ("I10",), ("DELETE FROM payment.inbox WHERE event_id = (SELECT min(event_id) FROM payment.inbox)",)
    ),
    "rewrite-history": Damage(("I11", "I18"), ("UPDATE payment.history SET detail = '{} ' WHERE <hit>",)),
    "remove-entry": Damage(
        ("I11",),
        (
            "DELETE FROM wallet.entries WHERE (slot, seq, ord) IN"
            " (SELECT slot, seq, ord FROM wallet.entries ORDER BY slot, seq, ord LIMIT 1)",
        ),
    ),
    "below-zero": Damage(
        ("I13",), ("UPDATE wallet.entries SET amount_minor = -amount_minor WHERE version = 1",)
    ),
    "claim-refund": Damage(
        ("I14", "I3"),
        (
            "INSERT INTO payment.refunds SELECT slot, tenant, checkout_id, payment_order_id, 99, 'REQUESTED', 'SUCCEEDED',"
            " amount_minor, currency, 'DUPLICATE', 'nobody', '', created_at_ms, created_at_ms FROM payment.payment_orders"
            " WHERE <hit>",
        ),
    ),
    "flip-a-byte": Damage(
        ("I18",), ("UPDATE payment.slot_log SET hash = set_byte(hash, 0, get_byte(hash, 0) # 1) WHERE seq = 1",)
    ),
    "card-number": Damage(
        ("I20",), ("UPDATE payment.history SET detail = '{\"note\":\"4242 4242 4242 4242\"}' WHERE <hit>",)
    ),
    "cash-vanishes": Damage(
        ("I22",),
        (
            "UPDATE ledger.entries SET account = 'fees:platform:' || currency"
            " WHERE account LIKE 'psp:%' AND <its journal>",
        ),
    ),
    "other-seller": Damage(("I24",), ("UPDATE payment.payment_orders SET seller_account = 'mallory' WHERE <hit>",)),
    "lose-item": Damage(
        ("I12",), ("DELETE FROM reconciliation.items WHERE item = (SELECT min(item) FROM reconciliation.items)",)
    ),
    "other-class": Damage(
        ("I12",), ("UPDATE reconciliation.mismatches SET class = 'automatic' WHERE class = 'manual'",)
    ),
    "other-amount": Damage(
        ("SETTLEMENT", "I3"), ("UPDATE payment.payment_orders SET amount_minor = amount_minor + 1 WHERE <hit>",)
    ),
}  # fmt: skip


def plant(admin_url: str, name: str) -> None:
    """Do the named damage. Triggers are passed by in this session only; CockroachDB has none to pass by.

    Raises KeyError for a name that is not in `DAMAGE`, psycopg.Error where the role may not.
    """
    damage = DAMAGE[name]
    with psycopg.connect(plain_url(admin_url)) as connection:
        version = connection.execute("SELECT version()").fetchone()
        if version is not None and "CockroachDB" not in version[0]:
            connection.execute("SET session_replication_role = replica")
        for statement in damage.statements:
            connection.execute(_located(statement).encode())


def _located(statement: str) -> str:
    for name in reversed(_PLACES):
        statement = statement.replace(name, _PLACES[name])
    return statement


def double_charge(truth: Iterable[bytes]) -> Iterator[bytes]:
    """The truth with one charge made twice, whole with its intent and balance transaction. Violates I3, I4 and I22.

    Raises ValueError where nothing was charged at all.
    """
    lines = [json.loads(line) for line in truth]
    charge = next((line for line in lines if line["type"] == "charge" and line["is_captured"]), None)
    if charge is None:
        raise ValueError("no charge in this truth to double")
    yield from (_line(line) for line in lines if line["type"] != "end")
    counts = dict(lines[-1]["counts"])
    for line in lines:
        if _belongs_to(line, charge):
            counts[line["type"]] += 1
            yield _line(_twin(line, charge))
    yield _line({"type": "end", "counts": counts})


def _belongs_to(line: Mapping[str, Any], charge: Mapping[str, Any]) -> bool:
    match line["type"]:
        case "intent":
            return bool(line["id"] == charge["intent"])
        case "charge":
            return bool(line["id"] == charge["id"])
        case "balance_transaction":
            return bool(line["source"] == charge["id"])
    return False


def _twin(line: Mapping[str, Any], charge: Mapping[str, Any]) -> dict[str, Any]:
    old = {charge["id"], charge["intent"], charge["balance_transaction"]} - {None}
    return {
        name: f"{value}_again" if isinstance(value, str) and value in old else value for name, value in line.items()
    }


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
