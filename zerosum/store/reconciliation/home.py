# ruff: noqa: S608 - expressions here are made of names of ours
"""Where the money of a case is by now, as expressions over a row `m` of `mismatches`: who has booked it, what people posted.

    unresolved order, unknown refund     our books hold the very movement for done by now
    late charge, duplicate charge        the payment service has its own case of the very object, with its money in suspense
    unknown charge                       an order that has come since has charged the very object

And the other way round: a movement that our books had later than the PSP its line, and whose line is such a case.

A night closes by them, and an approval is refused by them in its own transaction: the same money never goes to suspense twice.

Invariant: one charge is the home of one case. Of several lines of one object the first case has it, the others stay people's.
"""

import json
from typing import Any

from zerosum.domain.discrepancy import Kind, Posting
from zerosum.store.reconciliation.books import CASE_NUMBERS_FROM
from zerosum.store.reconciliation.table import ACTS, DELIVERIES, FILES, ITEMS, LINES, MISMATCHES

_OF_ORDER = " AND ".join(f"x.{name} = o.{name}" for name in ("slot", "tenant", "checkout_id", "payment_order_id"))
_ORDER = "payment.payment_orders AS o WHERE o.payment_order_id = m.payment_order_id AND o.tenant = m.tenant"
_NUMBER = "CAST(x.number AS TEXT) = split_part(m.movement, '/', 3)"

_IS_DONE = (
    "(m.movement LIKE 'order/charge/%' AND EXISTS (SELECT 1 FROM payment.attempts AS x, "
    f"{_ORDER} AND {_OF_ORDER} AND x.psp = m.psp AND {_NUMBER} AND x.state = 'CHARGED') "
    "OR m.movement LIKE 'order/refund/%' AND EXISTS (SELECT 1 FROM payment.operations AS x, "
    f"{_ORDER} AND {_OF_ORDER} AND x.kind = 'refund' AND {_NUMBER} AND x.state = 'DONE'))"
)
"""The movement of the case, and no other one of its order."""


def _has_case(case_kind: str, same_money: str) -> str:
    """Whether the payment service has a case of that kind of the object that the line of `m` names."""
    return (
        f"EXISTS (SELECT 1 FROM {LINES.fullname} AS t, payment.mismatches AS x, {_ORDER} AND {_OF_ORDER} "
        "AND t.file_id = m.file_id AND t.line_id = m.line_id "
        f"AND x.kind = '{case_kind}' AND x.psp = m.psp AND x.psp_object_id = t.psp_object_id AND t.psp_object_id <> ''"
        f"{same_money})"
    )


_SAME_MONEY = " AND x.amount_minor = t.gross_minor AND x.currency = t.currency"
_SECOND = (
    f"'order/charge/' || CAST({CASE_NUMBERS_FROM} + x.number AS TEXT) || '/' || o.tenant || '/' || o.payment_order_id"
)
_ATTEMPT = "'order/charge/' || CAST(x.number AS TEXT) || '/' || o.tenant || '/' || o.payment_order_id"
"""Their items."""


def _has_no_line(item: str) -> str:
    return f" AND NOT EXISTS (SELECT 1 FROM {ITEMS.fullname} AS i WHERE i.partner <> '' AND i.item = {item})"


_IS_THE_FIRST = (
    f" AND NOT EXISTS (SELECT 1 FROM {MISMATCHES.fullname} AS d JOIN {LINES.fullname} AS s ON s.file_id = d.file_id "
    "AND s.line_id = d.line_id WHERE d.tenant = m.tenant AND d.payment_order_id = m.payment_order_id "
    f"AND d.kind = '{Kind.DUPLICATE_CHARGE}' AND d.mismatch_id < m.mismatch_id AND s.psp_object_id = t.psp_object_id)"
)
_IS_ITS_OWN = _has_no_line(_SECOND) + _IS_THE_FIRST
"""No line was matched with the payment service's second charge, and no case before this one is about its object."""

_HAS_COME = (
    f"EXISTS (SELECT 1 FROM {LINES.fullname} AS t, payment.attempts AS x, payment.payment_orders AS o "
    f"WHERE o.payment_order_id = m.payment_order_id AND m.tenant IN ('', o.tenant) AND {_OF_ORDER} AND x.state = 'CHARGED' "
    "AND t.file_id = m.file_id AND t.line_id = m.line_id AND x.psp = m.psp AND x.psp_object_id = t.psp_object_id "
    f"AND t.psp_object_id <> ''{_has_no_line(_ATTEMPT)}"
)
"""A charge of the very object is in our books, and no other line is its own."""


def _home(same_money: str) -> str:
    return (
        f"CASE WHEN m.kind IN ('{Kind.UNRESOLVED_ORDER}', '{Kind.UNKNOWN_REFUND}') AND {_IS_DONE} "
        "THEN 'the payment service has booked the movement by now' "
        f"WHEN m.kind IN ('{Kind.LATE_CHARGE}', '{Kind.UNRESOLVED_ORDER}') AND {_has_case('late_charge', same_money)} "
        "THEN 'the payment service has the case, and the money in suspense' "
        f"WHEN m.kind = '{Kind.DUPLICATE_CHARGE}' AND {_has_case('second_charge', same_money + _IS_ITS_OWN)} "
        "THEN 'the payment service has the case, and the money in suspense' "
        f"WHEN m.kind = '{Kind.UNKNOWN_CHARGE}' AND {_HAS_COME}{same_money.replace('x.', 'o.')}) "
        "THEN 'the payment service has the order by now' ELSE '' END"
    )


HOME = _home("")
"""Who has booked money of the case, "" = nobody: nothing is posted for it as long as this says something."""

HOME_OF_ALL = _home(_SAME_MONEY)
"""The same where all of it is booked: nothing is off. Where the amounts differ the day is to be run again: it sees the rest."""

LINE_WAS_A_CASE = (
    f"EXISTS (SELECT 1 FROM {MISMATCHES.fullname} AS d JOIN {LINES.fullname} AS t ON t.file_id = d.file_id "
    f"AND t.line_id = d.line_id AND t.psp_object_id <> '' JOIN {FILES.fullname} AS f ON f.file_id = t.file_id "
    f"AND f.state || '' = 'ACCEPTED', {_ORDER} AND d.payment_order_id = m.payment_order_id "
    "AND d.tenant IN ('', m.tenant) AND d.psp || '' = m.psp "
    f"AND (d.kind = '{Kind.DUPLICATE_CHARGE}' AND EXISTS (SELECT 1 FROM payment.mismatches AS x WHERE {_OF_ORDER} "
    f"AND x.kind = 'second_charge' AND x.psp_object_id = t.psp_object_id AND m.movement = {_SECOND}) "
    f"OR d.kind = '{Kind.UNKNOWN_CHARGE}' AND EXISTS (SELECT 1 FROM payment.attempts AS x WHERE {_OF_ORDER} "
    f"AND x.psp = m.psp AND x.psp_object_id = t.psp_object_id AND m.movement = {_ATTEMPT})))"
)
"""Whether the line of the movement that `m` misses came before our books had the movement: a case of its own, by its object."""

POSTED = (
    f"(SELECT '[' || string_agg(d.body, ',') || ']' FROM {ACTS.fullname} AS a JOIN {DELIVERIES.fullname} AS d "
    "ON d.key = CAST(a.detail AS JSON) ->> 'command' AND d.kind = 'journal' AND d.run_id || '' = '' "
    "WHERE a.mismatch_id = m.mismatch_id AND a.act IN ('settle', 'write_off'))"
)
"""The journals of people's approvals that are in the ledger, as a JSON array of their bodies; NULL where there is none."""


def posted_of(kind: str, bodies: str | None) -> tuple[Posting, ...]:
    """The sides that were posted for a case and count against what is still to be posted.

    None for a clearing account's own case: its money is what is off now, and what was written off is in the account.
    """
    if kind == Kind.CLEARING_NOT_OPEN_ITEMS or not bodies:
        return ()
    journals: list[dict[str, Any]] = json.loads(bodies)
    return tuple(Posting(*side) for journal in journals for side in journal["entries"])
