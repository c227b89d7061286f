"""The open items of clearing accounts, added up while postings are judged: what should be in each account, and by name only
what differs. Pure.

What is not named agrees posting by posting, so that its sum is enough: a posting that nobody promised, or that was posted
differently, is a name of its own, and sums that agree by chance hide none. What is promised and missing is in neither sum: it
is a case of its own.

Invariant: memory grows with the accounts and with what differs (capped), never with the postings.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from zerosum.domain.discrepancy import Discrepancy
from zerosum.domain.identity import Key, Tenant
from zerosum.domain.journal import Journal
from zerosum.domain.reconcile_inside import OpenItem, Posted, Promise, Side, Verdict, clearing_case, compare_clearing
from zerosum.domain.reconcile_item import State

NAMES_MAX: Final = 1_000
"""Names kept of one account; ten are told. What is beyond them is told as one."""

OTHERS: Final = "all others"
WRITTEN_OFF: Final = "written off"

Account = tuple[Tenant, str]
"""Tenant and clearing account."""


class OpenItems:
    """What clearing accounts should hold. Every posting of the ledger is counted once."""

    def __init__(self) -> None:
        self._promised: Counter[Account] = Counter()
        self._written_off: Counter[Account] = Counter()
        self._differing: dict[Account, dict[str, tuple[int, int]]] = {}

    @property
    def accounts(self) -> Collection[Account]:
        """Those that anything was promised of."""
        return self._promised.keys()

    def count(
        self, verdicts: Iterable[Verdict], promises: Mapping[tuple[Side, Key], Promise], posted: Sequence[Posted],
        *, written_off: Collection[Key] = (),
    ) -> None:  # fmt: skip
        """Counts what was judged. `written_off`: journals that people wrote off of a clearing account's own case."""
        there = {found.id: found for found in posted if found.side is Side.LEDGER}
        for verdict in verdicts:
            found = there.get(verdict.id) if verdict.side is Side.LEDGER else None
            if found is None:
                continue
            promise = promises.get((verdict.side, verdict.id))
            wanted = _of_promise(promise)
            tenant = found.tenant
            for account, minor in wanted.items():
                self._promised[tenant, account] += minor
                if verdict.id in written_off:
                    self._written_off[tenant, account] += minor
            if verdict.state is State.MISMATCH:
                self._name(tenant, verdict.order_id or verdict.id, _clearing(found.sides), wanted)

    def _name(self, tenant: Tenant, name: str, here: Counter[str], there: Counter[str]) -> None:
        for account in {*here, *there}:
            named = self._differing.setdefault((tenant, account), {})
            if here[account] != there[account] and (name in named or len(named) < NAMES_MAX):
                before = named.get(name, (0, 0))
                named[name] = (before[0] + here[account], before[1] + there[account])

    def compare(self, tenant: Tenant, account: str, booked_minor: int) -> Discrepancy | None:
        """The account's case; None where it is the sum of its open items, or where people have written off the rest."""
        promised_minor, off_minor = self._promised[tenant, account], self._written_off[tenant, account]
        if off_minor and booked_minor == promised_minor - off_minor:
            return None
        named = self._differing.get((tenant, account), {})
        here = [OpenItem(name, minor) for name, (minor, _) in named.items()]
        there = [OpenItem(name, minor) for name, (_, minor) in named.items()]
        here.append(OpenItem(OTHERS, booked_minor - sum(item.amount_minor for item in here)))
        there.append(OpenItem(OTHERS, promised_minor - sum(item.amount_minor for item in there)))
        there.append(OpenItem(WRITTEN_OFF, -off_minor))
        _, psp, _, currency = account.split(":")
        return compare_clearing(tenant, psp, currency, booked=here, open_items=there)


def is_write_off_of_clearing(journal: Journal, mismatch_id: str) -> bool:
    """Whether a journal settles the case of a clearing account that it changes."""
    cases = {clearing_case(journal.tenant, entry.account) for entry in journal.entries if _is_clearing(entry.account)}
    return mismatch_id in cases


def _of_promise(promise: Promise | None) -> Counter[str]:
    entries = promise.request.entries if promise and isinstance(promise.request, Journal) else ()
    return _clearing((entry.account, entry.money.amount_minor) for entry in entries)


def _clearing(sides: Iterable[tuple[str, int]]) -> Counter[str]:
    """Clearing accounts alone, each once."""
    sums: Counter[str] = Counter()
    for account, minor in sides:
        if _is_clearing(account):
            sums[account] += minor
    return sums


def _is_clearing(account: str) -> bool:
    return account.startswith("psp:") and ":clearing:" in account
