"""Journals: the chart of accounts, the posting table, and the owner who writes them.

A journal is a set of signed entries (debit positive) that sums to zero per currency, or it cannot be constructed.
Every account id ends in its currency. Source: design section 6.

Invariant: journals are immutable; a correction is a new journal.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from zerosum.domain.account import NO_NEW_MONEY, AccountClosed, CloseAccount, Closure, with_closure
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, fingerprint_of
from zerosum.domain.money import Money
from zerosum.domain.record import replace
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import Bug

_ACCOUNT = re.compile(r"[a-z]+(:[A-Za-z0-9_.-]+)*:[A-Z]{3}", re.ASCII)


class Movement(StrEnum):
    """Every kind of journal there is; a row of the posting table each."""

    CAPTURE = "capture"
    REFUND = "refund"
    SUSPENSE_CHARGE = "suspense_charge"
    SUSPENSE_CAPTURE = "suspense_capture"
    SUSPENSE_REFUND = "suspense_refund"
    SETTLEMENT = "settlement"
    WRITE_OFF = "write_off"
    FEE_CORRECTION = "fee_correction"


# ---- the chart of accounts -----------------------------------------------------------------------------------------


def buyer_account(buyer: str, currency: str) -> str:
    """What a buyer bought and paid; nets to zero with every capture."""
    return f"buyer:{buyer}:{currency}"


def seller_pending_account(seller: str, currency: str) -> str:
    """What we owe a seller and may not yet pay out. The wallet's pending bucket is minus its sum."""
    return f"seller:{seller}:pending:{currency}"


def clearing_account(psp: str, currency: str) -> str:
    """What a PSP has taken for us and not yet settled."""
    return f"psp:{psp}:clearing:{currency}"


def platform_fee_account(currency: str) -> str:
    """What the platform earns."""
    return f"fees:platform:{currency}"


def suspense_account(currency: str) -> str:
    """Facts without a home, until people or a refund clear them."""
    return f"suspense:{currency}"


# ---- a journal -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a movement. Debit positive, credit negative, never zero."""

    account: str
    money: Money


@dataclass(frozen=True, slots=True)
class Journal:
    """A balanced set of entries, and the command to post it: once for ever under `journal_id`.

    `owner` is the entity that writes it: the seller or user it is about; "psp:<psp>" for settlement and what people approve.
    """

    tenant: Tenant
    journal_id: Key
    owner: str
    movement: Movement
    entries: tuple[Entry, ...]
    order_id: OrderId

    def fingerprint(self) -> str:
        """A versioned hash over parsed fields: tells the same request from another one under the same id."""
        sides = [side for entry in self.entries for side in (entry.account, str(entry.money.amount_minor))]
        return fingerprint_of(self.owner, self.movement, self.order_id, *sides)


def journal(
    *, tenant: Tenant, journal_id: Key, owner: str, movement: Movement, entries: tuple[Entry, ...], order_id: OrderId
) -> Journal | Refusal:
    """Constructs a journal, or refuses: ACCOUNT_MALFORMED, AMOUNT_MALFORMED (a zero entry), JOURNAL_NOT_BALANCED."""
    sums: Counter[str] = Counter()
    for line, entry in enumerate(entries):
        well_formed = _ACCOUNT.fullmatch(entry.account) and entry.account.endswith(f":{entry.money.currency}")
        if not well_formed:
            return Refusal(Reason.ACCOUNT_MALFORMED, f"entries[{line}].account", "not an account of its currency")
        if entry.money.amount_minor == 0:
            return Refusal(Reason.AMOUNT_MALFORMED, f"entries[{line}].money.amount", "an entry is never zero")
        sums[entry.money.currency] += entry.money.amount_minor
    if not entries or any(sums.values()):
        return Refusal(Reason.JOURNAL_NOT_BALANCED, "entries", "entries do not sum to zero per currency")
    return Journal(tenant, journal_id, owner, movement, entries, order_id)


# ---- the posting table ---------------------------------------------------------------------------------------------


def entries_of(movement: Movement, *, gross: Money, fee: Money, buyer: str, seller: str, psp: str) -> tuple[Entry, ...]:
    """The entries of a movement of `gross` of which the platform keeps `fee`. A side of zero is left out.

    capture          buyer, psp:clearing              against  seller:pending (net), fees:platform, buyer
    refund           the same sides, reversed         (the buyer has it back: the original split)
    suspense_charge  psp:clearing                     against  suspense      (money came without a home)
    suspense_capture seller:pending, fees:platform    against  suspense      (a capture lost its home)
    suspense_refund  suspense                         against  psp:clearing  (and went back)

    Those of settlement are made in `settlement_posting`, from lines: asking for them here is a Bug.
    """
    currency = gross.currency
    if fee.currency != currency:
        raise Bug("a fee is of the currency of its gross")
    all_minor, fee_minor = gross.amount_minor, fee.amount_minor
    clearing = clearing_account(psp, currency)
    sides: tuple[tuple[str, int], ...]
    match movement:
        case Movement.CAPTURE | Movement.REFUND:
            sign = 1 if movement is Movement.CAPTURE else -1
            sides = (
                (buyer_account(buyer, currency), sign * all_minor),
                (clearing, sign * all_minor),
                (seller_pending_account(seller, currency), sign * (fee_minor - all_minor)),
                (platform_fee_account(currency), sign * -fee_minor),
                (buyer_account(buyer, currency), sign * -all_minor),
            )
        case Movement.SUSPENSE_CHARGE:
            sides = ((clearing, all_minor), (suspense_account(currency), -all_minor))
        case Movement.SUSPENSE_CAPTURE:
            sides = (
                (seller_pending_account(seller, currency), all_minor - fee_minor),
                (platform_fee_account(currency), fee_minor),
                (suspense_account(currency), -all_minor),
            )
        case Movement.SUSPENSE_REFUND:
            sides = ((suspense_account(currency), all_minor), (clearing, -all_minor))
        case Movement.SETTLEMENT | Movement.WRITE_OFF | Movement.FEE_CORRECTION:
            raise Bug(f"{movement} is not a movement of an order")
    return tuple(Entry(account, Money(minor, currency)) for account, minor in sides if minor != 0)


# ---- the owner, who writes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Balance:
    """The sum of one account's entries, in minor units, debit positive."""

    balance_minor: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class Owner:
    """The entity that writes journals. `accounts`: balances of its own accounts only. `closures`: by currency.

    `version` counts its journals and closings.
    """

    key: EntityKey
    version: int
    accounts: Mapping[str, Balance]
    created_at_ms: int
    updated_at_ms: int
    closures: Mapping[str, Closure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalPosted:
    """A journal became part of the record."""

    journal: Journal


def new_owner(key: EntityKey, now_ms: int) -> Owner:
    """An owner opens at its first journal, or by an account of its being closed."""
    return Owner(key, 0, {}, now_ms, now_ms)


def is_own_account(owner: str, account: str) -> bool:
    """True where the account has a balance row with this owner: "seller:<owner>:..." or "user:<owner>:..."."""
    return account.startswith((f"seller:{owner}:", f"user:{owner}:"))


BRINGS_NEW_MONEY = frozenset({Movement.CAPTURE})
"""Movements that a closed account refuses; all others correct what it took, or do not concern it."""


def decide(owner: Owner, command: Journal | CloseAccount) -> JournalPosted | AccountClosed | Refusal | None:
    """What follows from a command whose id is new; None: nothing, the account was closed before.

    Refusals: ACCOUNT_CLOSED. Nothing is posted by it.
    """
    if isinstance(command, CloseAccount):
        is_closed = command.currency in owner.closures
        return None if is_closed else AccountClosed(command.currency, command.closed_by, command.reason)
    currencies = {entry.money.currency for entry in command.entries}
    if command.movement in BRINGS_NEW_MONEY and not currencies.isdisjoint(owner.closures):
        return NO_NEW_MONEY
    return JournalPosted(command)


def evolve(owner: Owner, event: JournalPosted | AccountClosed, now_ms: int) -> Owner:
    """The owner after the event; its version rises by one."""
    if isinstance(event, AccountClosed):
        closures = with_closure(owner.closures, event, owner.version + 1, now_ms)
        return replace(owner, version=owner.version + 1, closures=closures, updated_at_ms=now_ms)
    accounts = dict(owner.accounts)
    for entry in event.journal.entries:
        if is_own_account(owner.key.id, entry.account):
            before = accounts.get(entry.account, Balance(0, 0))
            accounts[entry.account] = Balance(before.balance_minor + entry.money.amount_minor, before.entry_count + 1)
    return replace(owner, version=owner.version + 1, accounts=accounts, updated_at_ms=now_ms)
