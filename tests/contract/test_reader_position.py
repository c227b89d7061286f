"""Positions of pages come from outside: only those we gave out are taken."""

import pytest

from tests.contract import sample
from tests.contract.house import House, Shard
from zerosum.domain.todo import TodoState
from zerosum.readers import ListFilter, MalformedPosition

FORGED = (
    "x", "[", "[]", "{}", "null", "1", '["checkouts"]', '["checkouts",1]', '["checkouts",1,2]', '["checkouts","1","c"]',
    '["checkouts",true,"c"]', '["checkouts",1.5,"c"]', '["checkouts",1,"c",1]', '["in_flight",1,"c","o"]',
    '["checkouts",9223372036854775808,"c"]', '["checkouts",1,"\\u0000"]', '["checkouts",1,"\\ud83d"]',
    '["checkouts",NaN,"c"]', "[" * 300, '["checkouts",1,"' + "c" * 400 + '"]',
    '["checkouts",1,"c\'; DROP TABLE payment.todos; --\\n"]',
)  # fmt: skip


@pytest.mark.parametrize("after", FORGED)
async def test_a_forged_position_is_refused_before_it_reaches_a_statement(house: House, after: str) -> None:
    """Security tests, point 8: only positions of this very list, in its own types."""
    with pytest.raises(MalformedPosition):
        await house.reader().checkouts(house.tenant, ListFilter(), 10, after)


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
