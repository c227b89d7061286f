"""Every discrepancy there is: its class, its likely cause and what is proposed. One table, total over the kinds.

    AUTOMATIC      code fixes it, by an ordinary command under the key the fix always had
    MANUAL         known, but a person decides: finance's queue
    UNCLASSIFIED   nobody knows yet: people investigate

Source: specification "Reconciliation": automatic, known but not automatic, unknown.

Invariant: what is not yet due is EXPECTED, a state of a line or an order, and never a discrepancy.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zerosum.domain.identity import Key, OrderId, Tenant, derived_key
from zerosum.domain.money import Money


class Class(StrEnum):
    """Who deals with it."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"
    UNCLASSIFIED = "unclassified"


class Action(StrEnum):
    """What is proposed. Those of AUTOMATIC kinds run at once; the others wait for two people."""

    NONE = "none"
    """Nothing moves: closing the case is all there is."""
    REPORT_TO_PAYMENT = "report_to_payment"
    """Tell the payment service the line as a fact: it settles the order, or suspends and refunds a late charge."""
    REPLAY_TODO = "replay_todo"
    """Send the posting that an order owes once more, whole and under the id it always had; where it is, nothing happens."""
    WRITE_OFF_TO_SUSPENSE = "write_off_to_suspense"
    """Post what the PSP settled without a home: psp:clearing against suspense, or the reverse."""
    BOOK_FEE = "book_fee"
    """Post the fee that differs: fees:psp against psp:clearing, or the reverse."""
    ASK_PSP = "ask_psp"
    """A person asks the PSP; nothing is posted before it has answered."""


class Kind(StrEnum):
    """What is wrong, in the words of finance. docs/reconciliation.md has an example of each."""

    # a line, or an order without one
    UNRESOLVED_ORDER = "unresolved_order"
    LATE_CHARGE = "late_charge"
    DUPLICATE_LINE = "duplicate_line"
    MISSING_LINE = "missing_line"
    DUPLICATE_CHARGE = "duplicate_charge"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_REFERENCE = "wrong_reference"
    WRONG_PSP_ID = "wrong_psp_id"
    WRONG_FEE = "wrong_fee"
    UNKNOWN_CHARGE = "unknown_charge"
    UNKNOWN_REFUND = "unknown_refund"
    UNKNOWN_DISPUTE = "unknown_dispute"
    UNKNOWN_FEE = "unknown_fee"
    DISPUTE = "dispute"
    PARTIAL_REFUND = "partial_refund"
    PARTIAL_REVERSAL = "partial_reversal"
    REFUND_FAILURE = "refund_failure"
    OTHER_MOVEMENT = "other_movement"
    AMBIGUOUS = "ambiguous"
    # our own services among themselves
    MISSING_JOURNAL = "missing_journal"
    MISSING_TRANSFER = "missing_transfer"
    EXTRA_JOURNAL = "extra_journal"
    EXTRA_TRANSFER = "extra_transfer"
    POSTED_DIFFERENTLY = "posted_differently"
    CLEARING_NOT_OPEN_ITEMS = "clearing_not_open_items"
    PAYMENT_CASE = "payment_case"


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind's row: its class, the likely cause in a sentence, what is proposed."""

    group: Class
    likely_cause: str
    action: Action


_A, _M, _U = Class.AUTOMATIC, Class.MANUAL, Class.UNCLASSIFIED

RULES: Final[dict[Kind, Rule]] = {
    Kind.UNRESOLVED_ORDER: Rule(_A, "the PSP's answer and its webhooks were lost", Action.REPORT_TO_PAYMENT),
    Kind.LATE_CHARGE: Rule(_A, "the PSP took money after its final no", Action.REPORT_TO_PAYMENT),
    Kind.DUPLICATE_LINE: Rule(_A, "the PSP listed the same movement twice", Action.NONE),
    Kind.MISSING_LINE: Rule(_M, "the PSP has not settled a charge by its deadline", Action.ASK_PSP),
    Kind.DUPLICATE_CHARGE: Rule(_M, "the PSP charged one order twice", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.WRONG_AMOUNT: Rule(_M, "the PSP settled another amount than it charged", Action.ASK_PSP),
    Kind.WRONG_CURRENCY: Rule(_M, "the PSP settled in another currency than it charged", Action.ASK_PSP),
    Kind.WRONG_REFERENCE: Rule(_M, "the PSP's record carries another reference than it was given", Action.ASK_PSP),
    Kind.WRONG_PSP_ID: Rule(_M, "the PSP names another object than it charged", Action.ASK_PSP),
    Kind.WRONG_FEE: Rule(_M, "the PSP's fee is not the contract's", Action.BOOK_FEE),
    Kind.UNKNOWN_CHARGE: Rule(_U, "money for an order we do not have: a restored backup", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.UNKNOWN_REFUND: Rule(_M, "a refund made in the PSP's own console", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.UNKNOWN_DISPUTE: Rule(_M, "a dispute of a charge that we do not have", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.UNKNOWN_FEE: Rule(_U, "a fee that belongs to no movement of ours", Action.BOOK_FEE),
    Kind.DISPUTE: Rule(_M, "the buyer disputes the charge at the bank", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.PARTIAL_REFUND: Rule(_M, "a part was refunded in the PSP's own console", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.PARTIAL_REVERSAL: Rule(_M, "less was captured than authorized", Action.ASK_PSP),
    Kind.REFUND_FAILURE: Rule(_M, "the buyer's bank sent a refund back to the PSP", Action.WRITE_OFF_TO_SUSPENSE),
    Kind.OTHER_MOVEMENT: Rule(_U, "the PSP moved money for a reason that no payment has", Action.ASK_PSP),
    Kind.AMBIGUOUS: Rule(_U, "several orders or lines fit equally well", Action.ASK_PSP),
    Kind.MISSING_JOURNAL: Rule(_A, "the service lost what it had confirmed: a backup", Action.REPLAY_TODO),
    Kind.MISSING_TRANSFER: Rule(_A, "the service lost what it had confirmed: a backup", Action.REPLAY_TODO),
    Kind.EXTRA_JOURNAL: Rule(_U, "the ledger holds what no order asked for", Action.NONE),
    Kind.EXTRA_TRANSFER: Rule(_U, "a wallet holds what no order asked for", Action.NONE),
    Kind.POSTED_DIFFERENTLY: Rule(_U, "order, wallet and ledger tell different amounts", Action.NONE),
    Kind.CLEARING_NOT_OPEN_ITEMS: Rule(_U, "the clearing account is not the sum of its open items", Action.NONE),
    Kind.PAYMENT_CASE: Rule(_M, "the payment service met a fact that it could not apply", Action.NONE),
}  # fmt: skip


def rule_of(kind: Kind) -> Rule:
    """The row of a kind."""
    return RULES[kind]


# ---- one that was found --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a dry run: debit positive, credit negative, in minor units."""

    account: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed, and the exact postings it would make: they sum to zero per currency, () where nothing is posted.

    `command`: the key that the machine's command has always had (REPORT_TO_PAYMENT: "<psp>/<line id>"; REPLAY_TODO: the id of
    the transfer or journal), "" where people decide: theirs is made from the case and their proposal. `follows`: what moves
    besides these postings, as people read it: what a wallet takes, what comes after; "" where nothing does.
    """

    action: Action
    postings: tuple[Posting, ...]
    command: str
    follows: str = ""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What is wrong with a line, a movement, or both. "" where a side has no such thing.

    `id`: made from kind and subject, so that every run that sees it again finds the same case. `field`: what differs, with
    both values as people read them (amounts in major units with their currency); several are joined by ", ".
    `money`: what is off, signed as the PSP books it: theirs less ours, 0 where only names differ. Writing off exactly this
    against suspense makes the PSP's clearing account right (in the line's currency where the two differ, and unless nobody
    knows: AMBIGUOUS). `movement`: the item of the movement whose line, or lack of one, it is about; "" where it is about
    a line that comes on top of a movement's own or has none, a posting, or an account.
    """

    id: Key
    kind: Kind
    psp: str
    tenant: Tenant
    checkout_id: str
    order_id: OrderId
    object_id: str
    line_id: str
    file_id: str
    field: str
    ours: str
    theirs: str
    money: Money
    proposal: Proposal
    movement: str = ""

    @property
    def group(self) -> Class:
        """Its class, by the table."""
        return RULES[self.kind].group

    @property
    def likely_cause(self) -> str:
        """A sentence for people, by the table."""
        return RULES[self.kind].likely_cause


def mismatch_id(kind: Kind, scope: str, subject: str) -> Key:
    """The id of a case, the same in every run. `scope`: a tenant or a PSP; `subject`: what it is about within it."""
    return derived_key(scope, subject, kind, 1)
