"""What a settlement report says: the rows of Stripe's payout reconciliation report, made from the account.

Columns are a selection of `payout_reconciliation.itemized.5` (docs.stripe.com/reports/report-types/
payout-reconciliation), under Stripe's names. Amounts are decimal strings in major units with exactly the currency's
decimals, signed as Stripe books them (docs.stripe.com/api/balance_transactions/object, `amount`: negative is sent to
another party): a charge is positive, a refund, a dispute, a fee and a payout are negative. One row per balance
transaction; net = gross - fee. `settlement_file.py` writes the rows and adds the payouts'; `damage.py` spoils them.

A period is [from, to) in UTC, cut at `created_utc`; a day begins at 00:00. A payout has one currency. The invariant: a
report holds all of a payout or none of it, so that its sum can be checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from simulator.psp.account import Account
from simulator.psp.ids import derive
from simulator.psp.stripe.currency import major_units
from simulator.psp.stripe.objects import BalanceTransaction

Row = list[str]

COLUMNS: Final = (
    "automatic_payout_id",
    "automatic_payout_effective_at_utc",
    "balance_transaction_id",
    "created_utc",
    "available_on_utc",
    "currency",
    "gross",
    "fee",
    "net",
    "reporting_category",
    "source_id",
    "description",
    "customer_facing_amount",
    "customer_facing_currency",
    "charge_id",
    "payment_intent_id",
    "charge_created_utc",
    "payment_method_type",
    "payment_metadata[tenant]",
    "payment_metadata[checkout_id]",
    "payment_metadata[payment_order_id]",
    "refund_metadata[refund_key]",
)
AT: Final[Mapping[str, int]] = {name: index for index, name in enumerate(COLUMNS)}
"""Column -> where it stands in a row."""

TENANT, CHECKOUT, ORDER = (f"payment_metadata[{name}]" for name in ("tenant", "checkout_id", "payment_order_id"))
REFUND_KEY: Final = "refund_metadata[refund_key]"
"""Our references, under the names the callers give them at Stripe (metadata of payment and refund)."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One report: its rows' balance transactions in the order of the book, and the period [from, to) in ms UTC."""

    movements: tuple[BalanceTransaction, ...]
    from_ms: int
    to_ms: int


def settle_new(account: Account, now_ms: int) -> Settlement:
    """Return everything that is in no payout yet, from where the last one ended."""
    movements = tuple(each for each in account.balance.values() if each.id not in account.payout_of)
    return Settlement(movements=movements, from_ms=account.settled_until_ms, to_ms=now_ms + 1)


def settle_period(account: Account, from_ms: int, to_ms: int) -> Settlement:
    """Return what was booked in [from, to). Raises ValueError where the period has no length or cuts a payout in two."""
    if from_ms >= to_ms:
        raise ValueError("the period ends before it begins")
    movements = tuple(each for each in account.balance.values() if from_ms <= each.created_ms < to_ms)
    sizes = Counter(account.payout_of.values())
    here = Counter(payout for each in movements if (payout := account.payout_of.get(each.id)))
    cut = [payout for payout, count in here.items() if count != sizes[payout]]
    if cut:
        raise ValueError(f"the period cuts {cut[0]} in two: a report holds all of a payout or none of it")
    return Settlement(movements=movements, from_ms=from_ms, to_ms=to_ms)


def day_of(text: str) -> tuple[int, int]:
    """Return a day, "2026-11-26", as [from, to) in milliseconds. Raises ValueError where it is no day."""
    begin = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    return _ms(begin), _ms(begin + _DAY)


def payouts_due(settlement: Settlement, account: Account) -> dict[str, list[str]]:
    """Return the payouts that a report makes: id -> its balance transactions, one payout for each currency."""
    due: dict[str, list[str]] = {}
    of_currency: dict[str, str] = {}
    for each in settlement.movements:
        if each.id not in account.payout_of:
            due.setdefault(of_currency.setdefault(each.currency, payout_id(each.id)), []).append(each.id)
    return due


def payout_id(movement_id: str) -> str:
    """Return the id of the payout that begins with this balance transaction, which is in no other."""
    return derive("po", movement_id)


def rows(settlement: Settlement, account: Account) -> Iterator[Row]:
    """Yield the cells of each row, in the order of `COLUMNS`; payout rows are not among them."""
    for each in settlement.movements:
        charge = account.charges[each.charge]
        metadata = account.intents[each.intent].metadata
        refund = account.refunds.get(each.source)
        payout = account.payout_of.get(each.id, "")
        amount = major_units(each.amount, each.currency)
        yield [
            payout,
            utc(account.payouts.get(payout)),
            each.id,
            utc(each.created_ms),
            utc(each.available_on_ms),
            each.currency,
            amount,
            major_units(each.fee, each.currency),
            major_units(each.net, each.currency),
            each.type,
            each.source,
            charge.description or "",
            amount,
            each.currency,
            each.charge,
            each.intent,
            utc(charge.created_ms),
            "card",
            metadata.get("tenant", ""),
            metadata.get("checkout_id", ""),
            metadata.get("payment_order_id", ""),
            refund.metadata.get("refund_key", "") if refund else "",
        ]


def utc(at_ms: int | None) -> str:
    """Return an instant as the report shows it, to the second; "" for none."""
    return "" if at_ms is None else datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1_000
