"""Books, files and two people, for tests of cases whose premise goes.

Tests look at what the outbox posts, summed by account.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from loadtest.bench.reconcile_books import Order
from simulator.psp.settlement import AT, Row
from tests.contract.reconciliation_desk import Desk
from tests.contract.reconciliation_services import World
from zerosum.domain.case import Approve, Propose, Resolution
from zerosum.domain.identity import slot_of
from zerosum.domain.refusal import Refusal
from zerosum.finance_queue import Acted, CaseView
from zerosum.store.reconciliation.queue import SqlFinanceQueue
from zerosum.store.reconciliation.store import Reconciliation

MANY = 10_000
NEXT_DAY, THIRD_DAY = "2026-03-03", "2026-03-04"
LONG_MS = 400 * 86_400_000
CLEARING, SUSPENSE = "psp:psp:clearing:USD", "suspense:USD"

Spoil = Callable[[list[Row]], list[Row]]


def told_as(gross: str, net: str) -> Spoil:
    """Every line tells these amounts."""

    def spoil(rows: list[Row]) -> list[Row]:
        for row in rows:
            row[AT["gross"]], row[AT["net"]] = gross, net
        return rows

    return spoil


async def never_told(desk: Desk) -> tuple[Reconciliation, Order]:
    """An order that no file tells, after the night by which it should have been: a missing line."""
    store = desk.open(line_due_ms=0)
    (order,) = desk.orders(1)
    desk.write([order])
    await desk.night(store)
    return store, order


async def told_nine(desk: Desk, *, line_due_ms: int = LONG_MS) -> tuple[Reconciliation, Order]:
    """An order of 10.00 that the PSP's file tells with 9.00, after its night: a wrong amount."""
    store = desk.open(line_due_ms=line_due_ms)
    (order,) = desk.orders(1)
    desk.write([order])
    await desk.take(store, desk.file([order], spoil=told_as("9.00", "8.41")))
    await desk.night(store)
    return store, order


def charged_again(desk: Desk, *objects: str) -> Spoil:
    """The first order has more charges, of other objects."""

    def spoil(rows: list[Row]) -> list[Row]:
        more = [list(rows[0]) for _ in objects]
        for number, (row, name) in enumerate(zip(more, objects, strict=True)):
            row[AT["balance_transaction_id"]], row[AT["payment_intent_id"]] = f"txn_{number}_{desk.psp}", name
        return [*rows, *more]

    return spoil


def refund(desk: Desk, order: Order, state: str) -> None:
    """Puts a refund of the whole order into the payment service's books."""
    request = {"psp": desk.psp, "object_id": order.object_id, "amount_minor": order.money.amount_minor,
               "currency": order.money.currency}  # fmt: skip
    desk.rows(
        "INSERT INTO payment.operations (slot, tenant, checkout_id, payment_order_id, kind, number, attempt, key, request,"
        " state, answer, started_at_ms) VALUES (%s, %s, %s, %s, 'refund', 1, 1, %s, %s, %s, '', %s)",
        slot_of(order.tenant, order.checkout_id), order.tenant, order.checkout_id, order.order_id,
        f"refund-{order.order_id}", json.dumps(request), state, order.at_ms + 1_000,
    )  # fmt: skip


def second_charge(desk: Desk, order: Order, object_id: str = "pi_second", **changed: Any) -> None:
    """The webhook of another object of the order: the payment service opens its case, and posts it to suspense by itself."""
    row = {
        "slot": slot_of(order.tenant, order.checkout_id), "tenant": order.tenant, "checkout_id": order.checkout_id,
        "mismatch_id": f"second_charge/{object_id}", "number": 1, "payment_order_id": order.order_id,
        "kind": "second_charge", "psp": desk.psp, "psp_object_id": object_id, "amount_minor": order.money.amount_minor,
        "currency": order.money.currency, "detail": "", "state": "OPEN", "opened_at_ms": order.at_ms, **changed,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    desk.rows(f"INSERT INTO payment.mismatches ({names}) VALUES ({marks})", *row.values())  # noqa: S608 - names of ours


def the_case(desk: Desk, kind: str) -> str:
    """The id of the only case of the kind."""
    ((found,),) = desk.rows(
        "SELECT mismatch_id FROM reconciliation.mismatches WHERE psp = %s AND kind = %s", desk.psp, kind
    )
    return str(found)


def acts(desk: Desk, kind: str) -> list[tuple[str, str]]:
    """Each act of the case, and why."""
    rows = desk.rows(
        "SELECT act, detail FROM reconciliation.acts WHERE mismatch_id = %s ORDER BY number", the_case(desk, kind)
    )
    return [(act, json.loads(detail).get("why", "")) for act, detail in rows]


async def proposed(
    store: Reconciliation, desk: Desk, kind: str, resolution: Resolution = Resolution.WRITE_OFF
) -> CaseView | Refusal:
    """Ann proposes."""
    key = f"ann-{len(acts(desk, kind))}"
    acted = await SqlFinanceQueue(store.database).act(
        the_case(desk, kind), Propose(resolution, "why"), by="ann", key=key
    )
    if isinstance(acted, Refusal):
        return acted
    assert acted is not None
    return acted.view


async def approved(store: Reconciliation, desk: Desk, kind: str, seen: CaseView | Refusal) -> Acted | Refusal | None:
    """Bob approves what Ann proposed."""
    assert isinstance(seen, CaseView)
    assert seen.proposal is not None
    key = f"bob-{len(acts(desk, kind))}"
    return await SqlFinanceQueue(store.database).act(
        the_case(desk, kind), Approve(seen.proposal.number), by="bob", key=key
    )


async def two_people(
    store: Reconciliation, desk: Desk, world: World, kind: str, resolution: Resolution = Resolution.WRITE_OFF
) -> Mapping[str, int]:
    """Both agree, and the ledger has it. Returns what all that was ever posted comes to."""
    seen = await proposed(store, desk, kind, resolution)
    assert isinstance(await approved(store, desk, kind, seen), Acted)
    await store.outbox(world.peers()).deliver(MANY)
    return world.sums()


async def seen(store: Reconciliation, desk: Desk, kind: str) -> CaseView:
    """The case as people are shown it."""
    found = await SqlFinanceQueue(store.database).case(the_case(desk, kind))
    assert found is not None
    return found
