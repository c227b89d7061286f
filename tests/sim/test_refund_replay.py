"""A refund that its first day brought no end: what a replay may send, what it may not, and that it ends. Rows P17, P33, S10.

"The day after" is when the PSP has forgotten its keys, while its refunds stay: what is sent then is executed anew.
"""

import asyncio
from dataclasses import replace

import pytest

from actors.answer import Answer, Applied, Refused
from tests.sim.faults import PLACES_MAX, CrashDoors, die_from_here
from tests.sim.house import HOUR_MS, TENANT, House, checkout, rows, webhook
from tests.sim.proof import findings
from tests.sim.psp import DROP_REQUEST, DROP_RESPONSE, LATE, LATE_MS, NOT_SENT, STORED_FAILURE, Object, ScriptedPsp
from tests.sim.virtual import run
from zerosum.domain import message as m
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import EntityKey, Key, OrderId
from zerosum.domain.refund import RequestRefund
from zerosum.domain.request import PspRequest, PspVerb
from zerosum.domain.todo import TodoKind, todo_id

KEY = EntityKey(TENANT, "c-1")
ORDER = OrderId("c-1-o0")
REFUND = todo_id(TodoKind.REFUND, ORDER, 1)
ASKED = RequestRefund(ORDER, Key("r-1"), None, "DUPLICATE", "fin")


async def dead_refund(house: House, late: str = DROP_REQUEST, read: str = DROP_REQUEST) -> None:
    """A refund that its whole first day brought no end: a dead letter, and the PSP has forgotten its key."""
    house.psp.always = {"refund": late, "read": read}
    await house.tell(KEY, ASKED)
    await asyncio.sleep(5)
    await the_day_after(house)


async def the_day_after(house: House) -> None:
    """Everything that was on its way has arrived, and the PSP knows its refunds, but no key any more."""
    await asyncio.sleep(2 * LATE_MS / 1_000)
    await house.skip(24 * HOUR_MS)
    await asyncio.sleep(60)
    house.psp.remembered.clear()
    house.psp.failures.clear()
    house.psp.always = {}


async def replay(house: House, name: str = REFUND, key: str = "op-1") -> Answer:
    """An operator replays a dead letter, and says so again under the same key until there is an answer."""
    answer = await house.tell(KEY, m.ReplayTodo(name, Key(key), "ops"))
    while not isinstance(answer, Applied | Refused):
        answer = await house.tell(KEY, m.ReplayTodo(name, Key(key), "ops"))
    return answer


async def paid(house: House) -> House:
    await house.start()
    await house.pay(checkout("c-1", 1_000))
    await house.settle("c-1")
    return house


def told(house: House) -> list[str]:
    """What the PSP was asked about the refund since it was last listened to, in order."""
    calls = [call.verb.value for call in house.psp.calls if call.verb in (PspVerb.REFUND, PspVerb.READ)]
    house.psp.calls.clear()
    return calls


def keys(house: House) -> set[str]:
    return {call.key for call in house.psp.calls if call.verb is PspVerb.REFUND}


# ---- a day without an end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [DROP_REQUEST, NOT_SENT, STORED_FAILURE])
def test_a_refund_that_was_never_made_is_asked_for_and_then_sent_under_its_old_key(late: str) -> None:
    """The key's day is over: the PSP shows that nothing was given back, so the same request may go again; once."""

    async def tell() -> tuple[set[str], list[str], set[str], House]:
        house = await paid(House())
        await dead_refund(house, late)
        before = keys(house)
        told(house)
        await replay(house)
        await house.settle("c-1")
        after = keys(house)
        return before, told(house), after, house

    before, calls, after, house = run(tell())

    assert calls == ["read", "refund"]
    assert len(before) == 1
    assert before == after
    assert findings(house) == []


@pytest.mark.parametrize("late", [DROP_RESPONSE, LATE])
def test_a_refund_that_was_made_is_found_by_a_replay_and_not_sent_again(late: str) -> None:
    """The PSP would execute it anew by now: the question comes first, and its answer is the end."""

    async def tell() -> tuple[list[str], House]:
        house = await paid(House())
        await dead_refund(house, late)
        told(house)
        await replay(house)
        await house.settle("c-1")
        return told(house), house

    calls, house = run(tell())

    assert calls == ["read"]
    assert findings(house) == []


class _Silent(ScriptedPsp):
    """Its lists show no refund, and nothing else is proof: as where a page is not the whole or somebody gave back a part."""

    def _report(self, request: PspRequest, obj: Object | None) -> m.Report:
        return replace(super()._report(request, obj), is_unrefunded=False)


def test_a_replayed_refund_is_never_sent_on_silence() -> None:
    """Neither a lost question nor a charge that does not show what was given back lets anything go."""

    async def tell(psp: ScriptedPsp, always: dict[str, str]) -> tuple[set[str], House]:
        house = await paid(House(psp=psp))
        await dead_refund(house)
        told(house)
        house.psp.always = always
        await replay(house)
        await asyncio.sleep(3_600)
        return set(told(house)), house

    for psp, always in ((_Silent(), {}), (ScriptedPsp(), {"read": DROP_RESPONSE})):
        calls, house = run(tell(psp, always))

        assert calls == {"read"}
        assert [row["status"] for row in rows(house, "payment", "refunds")] == ["PENDING"]


def test_what_was_shown_in_one_budget_lets_nothing_go_in_the_next() -> None:
    """The second day's sends may have been executed: the third begins with asking, however the questions are answered."""

    async def tell() -> tuple[list[str], list[str], House]:
        house = await paid(House())
        await dead_refund(house)
        told(house)
        house.psp.script = {"read": [""]}
        house.psp.always = {"refund": DROP_RESPONSE, "read": DROP_RESPONSE}
        await replay(house)
        await the_day_after(house)
        second = told(house)
        house.psp.script = {"read": [DROP_RESPONSE] * 4}
        await replay(house, key="op-2")
        await house.settle("c-1")
        return second, told(house), house

    second, third, house = run(tell())

    assert second[:3] == ["read", "refund", "read"]
    assert set(second[3::2]) == {"refund"}
    assert third == ["read"] * 5
    assert findings(house) == []


@pytest.mark.parametrize("script", [[DROP_REQUEST], [DROP_RESPONSE], [STORED_FAILURE], [LATE], [NOT_SENT, LATE]])
def test_a_refund_that_is_sent_again_is_made_once_whatever_befalls_it(script: list[str]) -> None:
    """P17: the key lives anew from then on, and the story is that of the first day."""

    async def tell() -> House:
        house = await paid(House())
        await dead_refund(house)
        house.psp.script = {"refund": list(script), "read": ["", DROP_RESPONSE]}
        await replay(house)
        if STORED_FAILURE in script:
            await asyncio.sleep(60)
            await the_day_after(house)
            await replay(house, key="op-2")
        await house.settle("c-1")
        return house

    assert findings(run(tell())) == []


def test_two_operators_replaying_one_dead_refund_at_once_send_it_once() -> None:
    """O1: the second is told that it is no dead letter any more, or is the same act."""

    async def tell() -> tuple[list[Answer], House]:
        house = await paid(House())
        await dead_refund(house)
        acts = [replay(house, key=key) for key in ("op-1", "op-2", "op-1")]
        answers = list(await asyncio.gather(*acts))
        await house.settle("c-1")
        return answers, house

    answers, house = run(tell())

    assert [answer for answer in answers if isinstance(answer, Applied)] == [Applied(False), Applied(True)]
    assert findings(house) == []


def test_a_late_charge_s_refund_that_was_never_made_is_sent_by_a_replay() -> None:
    """P35: the same road, and suspense is cleared."""

    async def tell() -> tuple[Checkout, House]:
        house = await House().start()
        await house.pay(checkout("c-1", 1_000, token="tok_decline"))
        await house.settle("c-1")
        house.psp.pay_now("pi_1")
        house.psp.always = {"refund": DROP_REQUEST, "read": DROP_REQUEST}
        await house.tell(KEY, webhook("evt_1", m.ObjectStatus.CHARGED))
        await asyncio.sleep(5)
        await the_day_after(house)
        await replay(house)
        return await house.settle("c-1"), house

    done, house = run(tell())

    assert [case.is_resolved for case in done.mismatches.values()] == [True]
    assert findings(house) == []


def test_a_shard_may_die_at_every_place_of_a_replayed_refund() -> None:
    """A1: before, during and after the question, the sending, and each commit between them."""

    async def tell(doors: CrashDoors, at: int) -> House:
        doors.house = house = await paid(House(doors=doors))
        await dead_refund(house)
        keeper = die_from_here(doors, at)
        await replay(house)
        await house.settle("c-1")
        keeper.cancel()
        return house

    met: set[str] = set()
    for at in range(1, PLACES_MAX):
        doors = CrashDoors()
        assert findings(run(tell(doors, at))) == [], f"place {at}: {doors.seen[at - 1 : at]}"
        met.update(doors.seen)
        if not doors.killed:
            break
    assert not doors.killed, "the story never ran through"
    assert {"payment: before refund", "payment: after refund", "payment: after read"} <= met
