"""The one table of what is checked. Source of the numbers and statements: failures.md, section 2.

Invariant: every check names the sources it needs; without one of them it is "not checked", never "held".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from simulator.audit import (
    check_card,
    check_chain,
    check_client,
    check_ledger,
    check_log,
    check_order,
    check_posting,
    check_reconciliation,
    check_refund,
    check_world,
)
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings

Source = Literal["book", "client", "settlement", "delivered"]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table. The database is always there; `needs` names the other sources."""

    id: str
    statement: str
    function: Callable[[Evidence, Findings], None]
    needs: tuple[Source, ...] = ()


CHECKS: Final = (
    Check("I1", "every journal sums to zero per currency", check_ledger.journals_balance),
    Check("I2", "the whole ledger sums to zero per currency, in known accounts", check_ledger.ledger_balances),
    Check("I3", "charges and SUCCESS orders are one to one, with equal money", check_world.charges_match_orders, ("book",)),
    Check("I4", "no order has two live charges", check_world.charged_at_most_once, ("book",)),
    Check("I5", "every balance is the sum of its entries", check_ledger.balances_are_projections),
    Check("I6", "one key, one outcome, one effect, the same reply", check_client.one_key_one_outcome, ("client",)),
    Check("I7", "no write of a superseded copy: logs gapless, versions rise by one", check_log.logs_are_gapless),
    Check("I8", "only legal transitions; the present state is the fold of the history", check_order.states_are_folds),
    Check("I9", "nothing is stuck", check_order.nothing_is_stuck),
    Check("I10", "every webhook answered 2xx is in the inbox once", check_world.events_are_in_the_inbox, ("book",)),
    Check("I11", "append-only rows never change", check_log.rows_never_change),
    Check("I12", "every settlement line and order of the day is in exactly one class, the right one",
          check_reconciliation.all_is_classed, ("delivered",)),
    Check("I13", "no wallet was ever below zero", check_ledger.never_below_zero),
    Check("I14", "what goes back is captured money, once, and every book follows", check_refund.refunds_are_whole),
    Check("I18", "every slot's hash chain verifies, from its first commit to its exported heads", check_chain.chains_verify),
    Check("I20", "no card number in any table or log", check_card.no_card_numbers),
    Check("I22", "the world's money is conserved: PSP's book = ledger's cash", check_world.world_is_conserved, ("book",)),
    Check("I24", "what was acknowledged is durable", check_client.acknowledged_is_durable, ("client",)),
    Check("POSTINGS", "every paid order is in wallet and ledger exactly once", check_posting.posted_exactly_once),
    Check("SETTLEMENT", "settlement holds and matches the orders", check_world.settlement_matches_orders, ("settlement",)),
)  # fmt: skip
