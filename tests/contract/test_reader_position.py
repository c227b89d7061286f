"""Positions of pages come from outside: only those we gave out are taken."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from tests.contract import sample
from tests.contract.house import House, Shard
from zerosum.domain.todo import TodoState
from zerosum.readers import ListFilter, MalformedPosition, Page
from zerosum.store.paging import PARTS, position_text

OF_CHECKOUTS = (
    "x", "[", "[]", "{}", "null", "1", '["checkouts"]', '["checkouts",1]', '["checkouts",1,2]', '["checkouts","1","c"]',
    '["checkouts",true,"c"]', '["checkouts",1.5,"c"]', '["checkouts",1,"c",1]', '["in_flight",1,"c","o"]',
    '["checkouts",9223372036854775808,"c"]', '["checkouts",1,"\\u0000"]', '["checkouts",1,"\\ud83d"]',
    '["checkouts",NaN,"c"]', "[" * 300, '["checkouts",1,"' + "c" * 400 + '"]',
    '["checkouts",1,"c\'; DROP TABLE payment.todos; --\\n"]',
)  # fmt: skip

FORGED = (
    *(("checkouts", after) for after in OF_CHECKOUTS),
    ("checkouts_of_seller", '["checkouts_of_seller",5000000000,"c"]'),
    ("checkouts_of_seller", '["checkouts_of_seller",-5000000000,"c"]'),
    ("todos", '["todos","OPEN",9223372036854775808,"c","t"]'),
    ("todos", '["todos","SHUT",1,"c","t"]'),
    ("in_flight", '["in_flight",9223372036854775808,"c","o"]'),
    ("wallet_entries", '["wallet_entries",9223372036854775808,1]'),
    ("wallet_entries", '["wallet_entries",1,5000000000]'),
    ("ledger_entries", '["ledger_entries",5000000000,1,1,1]'),
    ("ledger_entries", '["ledger_entries",1,9223372036854775808,1,1]'),
    ("ledger_entries", '["ledger_entries",1,1,5000000000,1]'),
    ("ledger_entries", '["ledger_entries",1,1,1,5000000000]'),
    ("trial_balance", '["trial_balance",1]'),
)

READ: Mapping[str, Callable[[House, str], Awaitable[Page[Any]]]] = {
    "checkouts": lambda house, after: house.reader().checkouts(house.tenant, ListFilter(), 10, after),
    "checkouts_of_seller": lambda house, after: house.reader().checkouts(
        house.tenant, ListFilter(seller_account="seller_1"), 10, after
    ),
    "todos": lambda house, after: house.reader().todos(house.tenant, None, 10, after),
    "in_flight": lambda house, after: house.reader().in_flight(house.tenant, 0, 10, after),
    "wallet_entries": lambda house, after: house.reader("wallet").entries(house.tenant, "seller_1", "USD", 10, after),
    "ledger_entries": lambda house, after: house.reader("ledger").entries(house.tenant, "suspense:USD", 10, after),
    "trial_balance": lambda house, after: house.reader("ledger").trial_balance(house.tenant, 10, after),
}
"""How each list of the services is read from a position."""


@pytest.mark.parametrize(("name", "after"), FORGED)
async def test_a_forged_position_is_refused_before_it_reaches_a_statement(house: House, name: str, after: str) -> None:
    """Security tests, point 8: only positions of this very list, in its own types and their ranges."""
    with pytest.raises(MalformedPosition):
        await READ[name](house, after)


LARGEST: Mapping[str, Any] = {"INT4": 2**31 - 1, "INT8": 2**63 - 1, "TEXT": "OPEN"}
"""Of each type the largest; of texts one that each list takes: where to-dos go on it is a state."""


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", READ)
async def test_a_position_at_the_bounds_of_its_types_is_read(house: House, name: str, sign: int) -> None:
    """What passes the check can be cast: a type that PARTS takes for too wide would end here, in the database's own words."""
    parts = [part if isinstance(part := LARGEST[kind], str) else sign * part for kind in PARTS[name]]

    assert (await READ[name](house, position_text(name, parts))).rows == []


async def test_a_position_of_another_list_or_filter_is_refused(house: House) -> None:
    """A page goes on where it began, or not at all."""
    shard = await Shard.begin(house.store())
    for number in range(3):
        draft = sample.checkouts(sample.NOW_MS + number)
        sample.submitted(draft, sample.submit(house.tenant, f"c{number}"))
        await shard.commit(draft)
    reader = house.reader()
    after = (await reader.checkouts(house.tenant, ListFilter(), 1, "")).after

    with pytest.raises(MalformedPosition):
        await reader.checkouts(house.tenant, ListFilter(seller_account="seller_1"), 1, after)
    with pytest.raises(MalformedPosition):
        await reader.todos(house.tenant, None, 1, after)
    with pytest.raises(MalformedPosition):
        await reader.in_flight(house.tenant, 0, 1, after)
    open_after = (await reader.todos(house.tenant, TodoState.OPEN, 1, "")).after
    with pytest.raises(MalformedPosition):
        await reader.todos(house.tenant, TodoState.DEAD, 1, open_after)
