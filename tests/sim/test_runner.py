"""The runner among things that hang: whatever an effect waits for, the others still run. Rows P33, I9."""

import asyncio
from collections.abc import Sequence
from typing import Any

from actors.runner import Runner
from actors.turn import Run
from tests.sim.house import POLICY, TENANT
from tests.sim.virtual import VirtualClock, run
from tests.unit.test_peer_clients import posting, transfer
from zerosum import limits
from zerosum.domain import message as m
from zerosum.domain.identity import EntityKey
from zerosum.domain.journal import Journal
from zerosum.domain.wallet import Transfer
from zerosum.ports import Done, ItemOutcome

C1 = EntityKey(TENANT, "c-1")


class Hanging:
    """A wallet that never answers, and a ledger that does."""

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never comes

    async def post(self, journal: Journal) -> ItemOutcome:
        return Done()


def _runner(peer: Any, told: list[m.CheckoutCommand]) -> Runner:
    return Runner(
        gateway=peer, risk=peer, wallet=peer, ledger=peer, clock=VirtualClock(), lease_ms=POLICY.lease_ms,
        tell=told.append,
    )  # fmt: skip


def test_effects_that_hang_give_their_permits_back_and_the_others_run() -> None:
    """P33: as many as there are permits hang; each ends as an unknown outcome, and what comes after is carried out."""

    async def tell() -> Sequence[m.CheckoutCommand]:
        told: list[m.CheckoutCommand] = []
        runner = _runner(Hanging(), told)
        for number in range(limits.EFFECTS_LIVE_MAX):
            runner.start(Run(C1, f"credit_wallet/1/o-{number}", 1, transfer(f"t-{number}")))
        await asyncio.sleep(limits.EFFECT_HOLD_LEASES * POLICY.lease_ms / 1_000 + 1)
        runner.start(Run(C1, "post_journal/1/o-new", 1, posting("j-new")))
        await asyncio.sleep(1)
        return told

    *hung, last = run(tell())

    assert {(type(each.body), getattr(each.body, "trouble", None)) for each in hung} == {
        (m.RecordTrouble, m.Trouble.OUTCOME_UNKNOWN)
    }
    assert len(hung) == limits.EFFECTS_LIVE_MAX
    assert last.body == m.RecordDelivery("post_journal/1/o-new")
