"""Open items of clearing accounts: what differs is named, the rest is a sum, and memory has an end."""

import pytest

from zerosum.domain import reconcile_clearing
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.reconcile_clearing import OpenItems
from zerosum.domain.reconcile_inside import Posted, Side, compare

SHOP = Tenant("shop")
CLEARING = "psp:stripe:clearing:EUR"


def extra(number: int, minor: int) -> Posted:
    """A journal that nobody promised."""
    sides = ((CLEARING, minor), ("suspense:EUR", -minor))
    return Posted(Side.LEDGER, Key(f"j{number}"), SHOP, "s", OrderId(f"o{number}"), "EUR", sides)


def counted(*posted: Posted) -> OpenItems:
    """Judged and counted, as a run does."""
    items = OpenItems()
    items.count(compare([], posted), {}, posted)
    return items


def test_an_account_without_postings_is_right() -> None:
    assert OpenItems().compare(SHOP, CLEARING, 0) is None


def test_money_that_no_posting_explains_is_told_as_of_all_others() -> None:
    """An entry was changed in place: no journal is too much, and the account is off."""
    found = OpenItems().compare(SHOP, CLEARING, 500)

    assert found is not None
    assert (found.ours, found.theirs) == ("5.00 EUR (all others 5.00)", "0.00 EUR (all others 0.00)")


def test_names_beyond_the_limit_are_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost of the sum, and memory has an end."""
    monkeypatch.setattr(reconcile_clearing, "NAMES_MAX", 2)

    found = counted(*(extra(number, 100) for number in range(5))).compare(SHOP, CLEARING, 500)

    assert found is not None
    assert found.ours == "5.00 EUR (all others 3.00, o0 1.00, o1 1.00)"


def test_other_accounts_of_a_posting_are_not_looked_at() -> None:
    assert counted(extra(1, 100)).compare(SHOP, "psp:other:clearing:EUR", 0) is None
