"""Rows that cannot be stored: the batch is refused by name, nothing of it stays, and nothing of it is quoted."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract import sample
from tests.contract.house import House, Shard, everything
from zerosum.domain.message import RiskAssessed, Verdict
from zerosum.domain.money import Money
from zerosum.errors import RowsRefused
from zerosum.ports import Committed


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param({"minor": 0}, "", id="an amount of zero"),
        pytest.param({"minor": 2**63}, "", id="an amount beyond 64 bits"),
        pytest.param({"seller": "nul \x00"}, "", id="U+0000 in a text"),
        pytest.param({}, "half \ud83d", id="a lone surrogate in a text"),
    ],
)
async def test_a_row_that_cannot_be_stored_refuses_the_batch_and_leaves_nothing(
    house: House, broken: dict[str, Any], reason: str
) -> None:
    """SQLSTATE 22 and 23 are told as such, so that the shard can find the one turn at fault."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    sample.submitted(draft, sample.submit(house.tenant, "c1"))
    state = sample.submitted(draft, sample.submit(house.tenant, "c2", **broken))
    draft.turn(state.key, None, [RiskAssessed(Verdict.BLOCK, reason)])

    with pytest.raises(RowsRefused) as refused:
        await shard.commit(draft)

    assert not any(everything(house).values())
    assert "Ada" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    sane = sample.checkouts()
    sample.submitted(sane, sample.submit(house.tenant, "c1"))
    assert isinstance(await shard.commit(sane), Committed)


async def test_a_wallet_does_not_go_below_zero(house: House) -> None:
    """The CHECK stands behind the rule."""
    shard = await Shard.begin(house.store("wallet"))
    draft = sample.wallets()
    asked = sample.transfer(house.tenant, "t1")
    sample.credit(draft, None, replace(asked, money=Money(-1, "USD")))

    with pytest.raises(RowsRefused):
        await shard.commit(draft)

    assert house.rows("wallet", "entries") == []
