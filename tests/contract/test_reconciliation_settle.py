"""What a file's lines settle: what a case of the run doubts is not believed, whatever else happens to that case."""

import json
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from simulator.psp.settlement import AT, CHECKOUT, ORDER, TENANT, Row
from tests.contract.reconciliation_desk import Desk, telling
from tests.contract.reconciliation_premise import MANY, two_people
from tests.contract.reconciliation_services import World
from zerosum.domain.fee_contract import STRIPE, charge_fee_minor
from zerosum.domain.settlement_posting import HOUSE_BOOKS
from zerosum.store.reconciliation import nightly as reconciliation_nightly
from zerosum.store.reconciliation import settle as reconciliation_settle


def dearer(rows: list[Row]) -> list[Row]:
    """Each fee is a dollar more than the contract's."""
    for row in rows:
        row[AT["fee"]] = str(Decimal(row[AT["fee"]]) + 1)
        row[AT["net"]] = str(Decimal(row[AT["net"]]) - 1)
    return rows


def fees(desk: Desk) -> list[int]:
    """What each journal books as fees."""
    rows = desk.rows(
        "SELECT body FROM reconciliation.deliveries WHERE kind = 'journal' AND body LIKE %s ORDER BY created_at_ms, key",
        f"%{desk.psp}%",
    )
    entries = [entry for (body,) in rows for entry in json.loads(body)["entries"]]
    return [minor for account, minor, _ in entries if account.startswith("fees:psp:")]


def clearing(desk: Desk, world: World) -> Mapping[str, int]:
    """Tenant -> what its clearing account holds by all that was posted."""
    sums: Counter[str] = Counter()
    for journal in world.journals:
        for entry in journal.entries:
            if entry.account == f"psp:{desk.psp}:clearing:USD":
                sums[journal.tenant] += entry.money.amount_minor
    return dict(sums)


# ---- whose books ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells",
    [
        {"payment_intent_id": "", ORDER: "", TENANT: "", CHECKOUT: ""},
        {ORDER: "order-of-somebody", TENANT: ""},
        {TENANT: "somebody-else"},
    ],
    ids=["nameless", "wrong reference", "wrong tenant"],
)
async def test_a_line_settles_in_the_books_of_its_movement_whoever_the_line_names(
    desk: Desk, world: World, cells: Mapping[str, str]
) -> None:
    """The charge stands in its tenant's clearing account: there, and nowhere else, its line takes it out."""
    store, orders = desk.open(), desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=telling(**cells)))
    await desk.night(store)

    await store.outbox(world.peers()).deliver(MANY)

    assert clearing(desk, world) == {desk.tenant: -orders[0].money.amount_minor}


@pytest.mark.parametrize("tenant", ["s" * 65, "L\u00e4den", ""], ids=["long", "not ASCII", "none"])
async def test_a_line_whose_tenant_cannot_be_ours_settles_in_the_books_of_the_house(
    desk: Desk, world: World, tenant: str
) -> None:
    """A file takes 500 characters, the ledger 64: it would refuse the journal for ever, and every resend of it."""
    store, orders = desk.open(), desk.orders(1)
    await desk.take(store, desk.file(orders, spoil=telling(**{TENANT: tenant})))
    await desk.night(store)

    await store.outbox(world.peers()).deliver(MANY)

    assert clearing(desk, world) == {HOUSE_BOOKS: -orders[0].money.amount_minor}


async def test_a_line_about_a_charge_settles_where_its_case_is_written_off(desk: Desk, world: World) -> None:
    """A dispute that names no tenant: settled in the house's books and written off in the tenant's, both would be off."""
    store, orders = desk.open(), desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=disputed))
    await desk.night(store)

    await two_people(store, desk, world, "dispute")

    assert clearing(desk, world) == {desk.tenant: -orders[0].money.amount_minor}


def disputed(rows: list[Row]) -> list[Row]:
    """The first charge is disputed, by a line without tenant and without fee."""
    row = list(rows[0])
    row[AT["balance_transaction_id"]], row[AT["reporting_category"]], row[AT[TENANT]] = "txn_dispute", "dispute", ""
    row[AT["gross"]] = row[AT["net"]] = f"-{row[AT['gross']]}"
    row[AT["fee"]] = "0.00"
    return [*rows, row]


# ---- what is believed ----------------------------------------------------------------------------------------------


async def test_a_fee_whose_case_another_run_has_met_since_is_still_not_believed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: the other run meets it between matching and settling."""
    store, orders = desk.open(), desk.orders(1)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=dearer))
    settle = reconciliation_nightly._STEPS["settle"]

    async def met_before(night: Any) -> None:
        desk.rows("UPDATE reconciliation.mismatches SET last_run = 'another' WHERE psp = %s", desk.psp)
        await settle(night)

    monkeypatch.setattr(reconciliation_nightly, "_STEPS", {**reconciliation_nightly._STEPS, "settle": met_before})
    await desk.night(store)

    assert fees(desk) == [59]


async def test_a_file_of_nothing_but_other_fees_settles_with_the_contracts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PSP that changed its prices: every line has a case, and no more of them than a page's are in memory."""
    monkeypatch.setattr(reconciliation_settle, "PAGE_LINES", 2)
    monkeypatch.setattr(reconciliation_settle, "PART_LINES", 4)
    store, orders = desk.open(), desk.orders(9)
    desk.write(orders)
    await desk.take(store, desk.file(orders, spoil=dearer))
    read: list[int] = []
    real = reconciliation_settle._found

    async def counted(*arguments: Any) -> Any:
        found = await real(*arguments)
        read.append(len(found))
        return found

    monkeypatch.setattr(reconciliation_settle, "_found", counted)
    run = await desk.night(store)

    assert dict(run.summary.by_kind) == {"wrong_fee": 9}
    assert max(read) == 2
    assert sum(fees(desk)) == sum(charge_fee_minor(STRIPE, order.money) for order in orders)
