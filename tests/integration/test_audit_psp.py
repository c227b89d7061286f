"""The auditor reads what the real PSP simulator says: its truth over HTTP, its settlement file from the disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.audit.book import fetch_truth, read_book
from simulator.audit.damage import double_charge
from simulator.audit.finding import SourceBroken
from simulator.audit.settlement import read_settlement
from tests.integration.psp_process import ADMIN_TOKEN, PspProcess

PAYMENTS = {"po-1": (1_250, "usd"), "po-2": (500, "jpy"), "po-3": (99, "usd")}


@pytest.fixture
def psp(tmp_path: Path) -> Iterator[PspProcess]:
    with PspProcess(tmp_path / "psp") as process:
        yield process


async def pay(psp: PspProcess) -> dict[str, str]:
    """Charge every payment, give the last one back; returns the intents by order."""
    intents = {}
    async with psp.client() as sdk:
        for order_id, (amount, currency) in PAYMENTS.items():
            params: Any = {"amount": amount, "currency": currency, "payment_method": "pm_card_visa", "confirm": True}
            params |= {
                "allowed_payment_method_types": ["card"],
                "metadata": {"payment_order_id": order_id, "tenant": "acme"},
            }
            paid = await sdk.v1.payment_intents.create_async(params, options={"idempotency_key": order_id})
            intents[order_id] = paid.id
        await sdk.v1.refunds.create_async({"payment_intent": intents["po-3"]}, options={"idempotency_key": "back"})
    return intents


def replace_in(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


async def test_truth_of_the_running_simulator_is_read_as_it_happened(psp: PspProcess) -> None:
    """Charges with their order and tenant, refunds, the balance; nothing is lost on the way."""
    intents = await pay(psp)

    book = read_book(fetch_truth(psp.url, ADMIN_TOKEN))

    charges = {charge.reference: charge for charge in book.charges}
    assert {order: charge.intent for order, charge in charges.items()} == intents
    assert {charge.tenant for charge in book.charges} == {"acme"}
    assert (charges["po-2"].taken_minor, charges["po-2"].currency) == (500, "JPY")
    assert [charge.is_live for charge in charges.values()] == [True, True, False]
    assert book.refunded_of_charge == {charges["po-3"].id: 99}
    assert book.balance_gross == {"USD": 1_250, "JPY": 500}
    assert book.intents == len(PAYMENTS)


async def test_settlement_file_of_the_simulator_holds(psp: PspProcess) -> None:
    """Manifest and rows agree, in the auditor's own arithmetic; a charge line names its order."""
    intents = await pay(psp)
    psp.admin("POST", "settlement", {})

    settlement = read_settlement([psp.folder / "settlement"])

    charges = {row.reference: row for row in settlement.rows.values() if row.category == "charge"}
    assert settlement.problems == []
    assert {order: row.intent for order, row in charges.items()} == intents
    assert (charges["po-2"].gross_minor, charges["po-2"].currency) == (500, "JPY")
    assert len(settlement.rows) == len(PAYMENTS) + 1


async def test_newest_version_of_a_period_counts_and_a_payout_must_add_up(psp: PspProcess) -> None:
    """A corrected report replaces the one before; a payout row that is changed is seen even with the right manifest."""
    await pay(psp)
    period = {"from_ms": 0, "to_ms": 2**42}
    psp.admin("POST", "settlement", period)
    paid = psp.admin("POST", "settlement", {**period, "pay_out": True})
    settlement = read_settlement([psp.folder / "settlement"])
    replace_in(Path(paid["path"]), f",-{paid['payouts'][0]['amount']},payout", ",-0.01,payout")

    problems = read_settlement([psp.folder / "settlement"]).problems

    assert (settlement.files, settlement.problems, paid["version"]) == (1, [], 2)
    assert any("is not the sum of its rows" in what for _, what, _, _ in problems)


async def test_sabotaged_truth_is_whole_and_has_one_charge_more(psp: PspProcess) -> None:
    """`make demo --sabotage double-charge` must be caught for the charge, not for a damaged file."""
    await pay(psp)

    book = read_book(double_charge(fetch_truth(psp.url, ADMIN_TOKEN)))

    references = [charge.reference for charge in book.charges]
    assert sorted(references) == ["po-1", "po-1", "po-2", "po-3"]
    assert book.balance_gross["USD"] == 2 * 1_250


def test_wrong_admin_token_and_missing_simulator_are_no_truth(psp: PspProcess) -> None:
    """An audit without its source says so."""
    with pytest.raises(SourceBroken, match="401"):
        read_book(fetch_truth(psp.url, "wrong"))
    psp.kill()
    with pytest.raises(SourceBroken):
        read_book(fetch_truth(psp.url, ADMIN_TOKEN))
