"""What is matched and what becomes of it: movements of ours, items of a run, and the rules a run goes by.

Invariant: every line and every movement of a run ends in exactly one item, in exactly one state.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zerosum.domain.discrepancy import Discrepancy
from zerosum.domain.fee_contract import FeeContract
from zerosum.domain.identity import CheckoutId, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.settlement import Line


class MovementKind(StrEnum):
    """What a movement of ours did."""

    CHARGE = "charge"
    REFUND = "refund"


class Standing(StrEnum):
    """What our books say of a movement."""

    SETTLED = "settled"
    """The PSP has told us that it moved the money: an order that is SUCCESS, a refund that is done."""
    IN_FLIGHT = "in_flight"
    """Nobody knows yet: an order before its end, a refund that was asked for."""
    GIVEN_UP = "given_up"
    """We believe that nothing moved: an order that is FAILED or CANCELED, an attempt without charge, a declined refund."""
    CASE_OPEN = "case_open"
    """Money came that had no home, and the payment service has its case: a late charge, a second charge; open or closed."""


MOVED: Final = frozenset({Standing.SETTLED, Standing.CASE_OPEN})
"""Standings that say that money moved: a line must come."""


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of ours at a PSP: a row for each attempt of an order and for each refund, and one for each second charge.

    A late charge is its attempt's row, CASE_OPEN. A second charge was of another object than the attempt's: a row of its own.
    `number`: of the attempt or of the refund's operation; 1,000 and the case's number for a second charge. `object_id`: the
    PSP's object, "" while it is not known. `refund_key`: "" for a charge. `money`: positive, also of a refund. `at_ms`: when
    our books took it (for what is in flight or given up: when it was opened), by the database's clock. `buyer` and `seller`:
    accounts, for the dry run. `is_from_suspense`: of a refund whose charge stands in suspense (it came late, or the account
    is closed). `settled_by`: the id of the line that has it already, of another file or of an earlier pass; else "".
    """

    kind: MovementKind
    number: int
    tenant: Tenant
    checkout_id: CheckoutId
    order_id: OrderId
    psp: str
    object_id: str
    refund_key: str
    money: Money
    at_ms: int
    standing: Standing
    buyer: str
    seller: str
    is_from_suspense: bool = False
    settled_by: str = ""

    @property
    def signed(self) -> Money:
        """Its money as the PSP books it: of a refund negative."""
        sign = 1 if self.kind is MovementKind.CHARGE else -1
        return Money(sign * self.money.amount_minor, self.money.currency)

    @property
    def item(self) -> str:
        """Its name among the items of a run."""
        return f"order/{self.kind}/{self.number}/{self.tenant}/{self.order_id}"


def tenant_of(item: str) -> Tenant:
    """The tenant in the name of a movement's item. A tenant's name may hold a slash, an order's id may not."""
    return Tenant(item.split("/", 3)[3].rpartition("/")[0])


class State(StrEnum):
    """Where a line or a movement ends. The first three count as explained."""

    MATCHED = "MATCHED"
    """Line and movement tell the same."""
    EXPECTED = "EXPECTED"
    """Not yet due: the line comes in a later file. Closes alone, or becomes MISSING_LINE."""
    EXPLAINED = "EXPLAINED"
    """Needs no partner: a payout, a fee of the contract, a charge that never was, a movement settled by an earlier line."""
    MISMATCH = "MISMATCH"
    """Somebody must look, or code must mend: there is a discrepancy."""


class MatchedBy(StrEnum):
    """What brought a line and a movement together."""

    NOTHING = ""
    PSP_ID = "psp_id"
    REFERENCE = "reference"
    AMOUNT_DAY = "amount_day"


@dataclass(frozen=True, slots=True)
class Item:
    """A pair, or a line or a movement that is alone; at least one of the two is there.

    `discrepancy` is set exactly where the state is MISMATCH. Items of one ambiguity share one discrepancy. `fee`: beside it, a
    fee that is not the contract's: a case of its own, since nobody who decides the first one looks at the fee.
    """

    line: Line | None
    movement: Movement | None
    state: State
    matched_by: MatchedBy
    discrepancy: Discrepancy | None
    fee: Discrepancy | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass decided of one group, and what it leaves to the next; together they are all that was handed in."""

    items: tuple[Item, ...]
    lines: tuple[Line, ...]
    movements: tuple[Movement, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run goes by. A movement's line is due `due_after_ms` after it; `now_ms`: the database's clock at its begin."""

    now_ms: int
    due_after_ms: int
    contract: FeeContract
