"""The version of the rules a run names, held to the rules themselves."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from docs.reconciliation_kinds import example_of
from tests.unit.reconcile_sample import DAY_MS, NOON_MS, OVERDUE, charge, line
from zerosum.domain import reconcile_judgement
from zerosum.domain.discrepancy import RULES as KINDS
from zerosum.domain.discrepancy import Action, Class, Discrepancy, Kind, Rule
from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Item, Movement, MovementKind, Standing
from zerosum.domain.settlement import Category, Line
from zerosum.store.reconciliation.run import RULES

DAYS = 200
"""Days of up to 7 lines and 6 movements of few names: enough that every kind is met."""

FINGERPRINTS = {"4": "b03ac6404512ed0d"}
"""Version of the rules -> what they make of the class table, of each kind's example and of the days below."""


def test_rules_that_have_changed_have_another_version() -> None:
    """If this fails, a line, a movement or a posting ends as something else than before. Where that is meant: raise `RULES` in
    zerosum/store/reconciliation/run.py, and put the fingerprint of the new version here in the place of the old one's."""
    assert {RULES: _fingerprint()} == FINGERPRINTS


@pytest.mark.parametrize("name", ["class", "action", "table", "fee"])
def test_every_part_of_the_rules_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A guard that no change can set off would guard nothing. Method: one rule of each part is another."""
    before, rule = _fingerprint(), KINDS[Kind.WRONG_FEE]
    patches = {
        "class": (KINDS, Kind.WRONG_FEE, Rule(Class.UNCLASSIFIED, rule.likely_cause, rule.action)),
        "action": (KINDS, Kind.MISSING_JOURNAL, Rule(Class.AUTOMATIC, "", Action.NONE)),
    }
    if name in patches:
        monkeypatch.setitem(*patches[name])
    elif name == "table":
        swapped = {**reconcile_judgement.UNKNOWN, Category.DISPUTE: Kind.UNKNOWN_REFUND}
        monkeypatch.setattr(reconcile_judgement, "UNKNOWN", swapped)
    else:
        monkeypatch.setattr(reconcile_judgement, "charge_fee_minor", lambda *_: 0)

    assert _fingerprint() != before


def test_the_days_meet_every_kind_that_lines_and_movements_can_have() -> None:
    """What no day has would be outside of the fingerprint but for its one example."""
    seen = {case.kind for item in _items() for case in (item.discrepancy, item.fee) if case is not None}

    assert seen >= {kind for kind in Kind if kind not in _NOT_OF_LINES}


_NOT_OF_LINES = frozenset(
    {
        Kind.MISSING_JOURNAL, Kind.MISSING_TRANSFER, Kind.EXTRA_JOURNAL, Kind.EXTRA_TRANSFER, Kind.POSTED_DIFFERENTLY,
        Kind.CLEARING_NOT_OPEN_ITEMS, Kind.PAYMENT_CASE,
    }
)  # fmt: skip


# ---- what is hashed ------------------------------------------------------------------------------------------------


def _fingerprint() -> str:
    """Of what rules decide: states, kinds, classes, money, postings. Wording is none of it."""
    told = [f"{kind} {rule.group} {rule.action}" for kind, rule in KINDS.items()]
    told += [_case(example_of(kind)) for kind in Kind]
    told += [_outcome(item) for item in _items()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _outcome(item: Item) -> str:
    sides = (item.line.item if item.line else "", item.movement.item if item.movement else "")
    return f"{sides} {item.state} {item.matched_by} {_case(item.discrepancy)} {_case(item.fee)}"


def _case(found: Discrepancy | None) -> str:
    if found is None:
        return "-"
    posted = [(side.account, side.amount_minor, side.currency) for side in found.proposal.postings]
    money, proposal = found.money, found.proposal
    return (
        f"{found.id} {found.group} {money.amount_minor} {money.currency} {proposal.action} {proposal.command} {posted}"
    )


def _items() -> Iterator[Item]:
    """The days are the same for ever: what chance makes of a seed is part of the language."""
    chance = random.Random(2_026)
    for _ in range(DAYS):
        movements = [_movement(chance, order) for order in chance.sample("123456", chance.randint(0, 6))]
        lines = [_line(chance, number, movements) for number in range(chance.randint(0, 7))]
        yield from reconcile(lines, movements, OVERDUE)


def _movement(chance: random.Random, order: str) -> Movement:
    kind = chance.choice(list(MovementKind))
    return charge(
        kind=kind, tenant=Tenant(chance.choice("tu")), checkout_id=CheckoutId("c1"), order_id=OrderId(order),
        object_id=chance.choice(["", "1", "2", "3"]), standing=chance.choice(list(Standing)),
        refund_key="" if kind is MovementKind.CHARGE else f"refund-{chance.choice('12')}",
        money=Money(chance.choice([1_000, 2_000]), chance.choice(["EUR", "JPY"])),
        at_ms=NOON_MS + chance.randint(0, 2) * DAY_MS, settled_by=chance.choice(["", "", "", "txn_1", "txn_9"]),
        is_from_suspense=chance.random() < 0.5,
    )  # fmt: skip


def _line(chance: random.Random, number: int, movements: Sequence[Movement]) -> Line:
    """The line of a movement with one thing other at most, or one of anything."""
    category = chance.choice(list(Category))
    sign = 1 if category in (Category.CHARGE, Category.DISPUTE_REVERSAL) else -1
    strange: dict[str, Any] = {
        "category": category, "object_id": chance.choice(["", "1", "9"]), "tenant": Tenant(chance.choice(["", "t", "u"])),
        "checkout_id": chance.choice(["", "c1", "c9"]), "reference": chance.choice(["", "1", "9"]),
        "refund_key": chance.choice(["", "refund-1"]), "amount_minor": sign * chance.choice([1_000, 2_000, 700]),
        "currency": chance.choice(["EUR", "JPY"]), "created_at_ms": NOON_MS + chance.randint(0, 2) * DAY_MS,
    }  # fmt: skip
    if movements and chance.random() < 0.7:
        of = chance.choice(movements)
        category = Category.CHARGE if of.kind is MovementKind.CHARGE else Category.REFUND
        other = chance.choice(["", *strange])
        strange = {
            "category": category, "object_id": of.object_id, "tenant": of.tenant, "checkout_id": of.checkout_id,
            "reference": of.order_id, "refund_key": of.refund_key, "amount_minor": of.signed.amount_minor,
            "currency": of.money.currency, "created_at_ms": of.at_ms, **({other: strange[other]} if other else {}),
        }  # fmt: skip
    fee: dict[str, Any] = chance.choice([{}, {}, {"fee_minor": 0}, {"fee_minor": 25}])
    return line(**strange, **fee, number=number, id=f"txn_{chance.choice('12345678')}")
