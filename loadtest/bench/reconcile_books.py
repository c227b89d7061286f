"""Books and a settlement file that agree, made in bulk: what `zerosum bench reconcile` spoils and reconciles.

Orders are written as the payment service would have left them, by COPY; the file is the simulator's, streamed row by row from
the same numbers. One order in a hundred was declined and has no line.

Invariant: order number `i` is the same in the books and in the file, for every size and seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import psycopg

from simulator.psp.ids import derive
from simulator.psp.settlement import Row, utc
from simulator.psp.stripe.currency import major_units
from zerosum.domain.fee_contract import STRIPE, charge_fee_minor
from zerosum.domain.identity import derived_key, slot_of
from zerosum.domain.money import Money, format_amount

DAY_MS: Final = 86_400_000
CURRENCIES: Final = ("USD",) * 7 + ("EUR", "GBP", "JPY")
"""Each is counted by Stripe as by ISO 4217."""
DECLINED_EVERY: Final = 100


@dataclass(frozen=True, slots=True)
class Order:
    """One order of the books. `is_charged`: it is SUCCESS and has a line."""

    tenant: str
    checkout_id: str
    order_id: str
    object_id: str
    money: Money
    at_ms: int
    is_charged: bool = True
    psp: str = "stripe"


def orders(count: int, *, seed: int, from_ms: int) -> Iterator[Order]:
    """`count` charged orders spread over the day that begins at `from_ms`, and the declined ones between them."""
    chance = Random(f"books {seed}")
    for number in range(count + count // DECLINED_EVERY):
        is_charged = number % (DECLINED_EVERY + 1) != DECLINED_EVERY
        money = Money(chance.randint(200, 500_000), chance.choice(CURRENCIES))
        yield Order(
            f"shop-{number % 3}", f"c-{seed}-{number}", f"o-{seed}-{number}", derive("pi", seed, number), money,
            from_ms + number * (DAY_MS - 1_000) // (count + count // DECLINED_EVERY), is_charged,
        )  # fmt: skip


# ---- the books -----------------------------------------------------------------------------------------------------


def analyze(admin_url: str) -> None:
    """Lets the database count what was copied, as it would have by itself in days."""
    with psycopg.connect(admin_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ANALYZE")


def write_books(admin_url: str, made: Callable[[], Iterator[Order]]) -> None:
    """Copies the orders into the payment service's tables, one table after the other."""
    with psycopg.connect(admin_url.replace("+psycopg", "")) as connection:
        for table, columns, row in _TABLES:
            with connection.cursor().copy(f"COPY payment.{table} ({columns}) FROM STDIN".encode()) as copy:
                for order in made():
                    copy.write_row(row(order))


def _event(order: Order) -> tuple[Any, ...]:
    status = "DONE" if order.is_charged else "FAILED"
    return (
        *_key(order), 9, "1:f", "buyer-1", "pm", "ALLOW", "", status, order.is_charged, b"", order.at_ms, order.at_ms,
    )  # fmt: skip


def _order(order: Order) -> tuple[Any, ...]:
    status = "SUCCESS" if order.is_charged else "FAILED"
    return (
        *_key(order), order.order_id, 0, "buyer-1", f"seller-{len(order.order_id)}", format_amount(order.money),
        order.money.amount_minor, order.money.currency, status, "", order.is_charged, order.is_charged, order.object_id,
        order.at_ms, order.at_ms,
    )  # fmt: skip


def _attempt(order: Order) -> tuple[Any, ...]:
    state = "CHARGED" if order.is_charged else "NO_CHARGE"
    return (*_key(order), order.order_id, 1, order.psp, state, order.object_id, order.at_ms)


def _confirm(order: Order) -> tuple[Any, ...]:
    key = derived_key(order.tenant, order.order_id, "confirm", 1)
    state = "DONE" if order.is_charged else "DECLINED"
    return (*_key(order), order.order_id, "confirm", 1, 1, key, "{}", state, order.object_id, order.at_ms)


def _key(order: Order) -> tuple[int, str, str]:
    return slot_of(order.tenant, order.checkout_id), order.tenant, order.checkout_id


_TABLES: Final[tuple[tuple[str, str, Callable[[Order], tuple[Any, ...]]], ...]] = (
    (
        "payment_events",
        "slot, tenant, checkout_id, version, fingerprint, buyer_account, credit_card_info, risk_verdict, risk_reason, status, "
        "is_payment_done, reply, created_at_ms, updated_at_ms",
        _event,
    ),
    (
        "payment_orders",
        "slot, tenant, checkout_id, payment_order_id, position, buyer_account, seller_account, amount, amount_minor, currency, "
        "payment_order_status, reason, ledger_updated, wallet_updated, psp_reference, created_at_ms, updated_at_ms",
        _order,
    ),
    (
        "attempts",
        "slot, tenant, checkout_id, payment_order_id, number, psp, state, psp_object_id, opened_at_ms",
        _attempt,
    ),
    (
        "operations",
        "slot, tenant, checkout_id, payment_order_id, kind, number, attempt, key, request, state, answer, started_at_ms",
        _confirm,
    ),
)

# ---- the file ------------------------------------------------------------------------------------------------------


def true_rows(made: Iterator[Order], *, paid_at_ms: int) -> Iterator[Row]:
    """The rows of the PSP's report for these orders, in the order of its columns; payout rows are the writer's."""
    payouts: dict[str, str] = {}
    for order in made:
        if not order.is_charged:
            continue
        currency = order.money.currency.lower()
        fee = charge_fee_minor(STRIPE, order.money)
        gross, fee_text, net = (
            major_units(minor, currency) for minor in (order.money.amount_minor, fee, order.money.amount_minor - fee)
        )
        charge, booked = derive("ch", order.object_id), utc(order.at_ms)
        yield [
            payouts.setdefault(currency, derive("po", order.object_id)), utc(paid_at_ms), derive("txn", order.object_id),
            booked, booked, currency, gross, fee_text, net, "charge", charge, "", gross, currency, charge,
            order.object_id, booked, "card", order.tenant, order.checkout_id, order.order_id, "",
        ]  # fmt: skip
