"""Dead letters as the monitor counts them: of every tenant, by kind, from every store."""

from dataclasses import replace

from tests.contract import sample
from tests.contract.house import House, Shard
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import Tenant
from zerosum.domain.todo import Todo, TodoKind, TodoState, todo_id

YEAR_MS = 365 * 86_400_000
CREDIT, CONFIRM = TodoKind.CREDIT_WALLET, TodoKind.CONFIRM


async def test_dead_letters_are_counted_by_kind_over_all_tenants_until_they_are_live_again_or_done(
    house: House,
) -> None:
    """By the database's clock. Others share the database: looked at is what these two checkouts add to the counts."""
    shard = await Shard.begin(house.store())
    now_ms = (await shard.store.load(sample.nothing())).now_ms
    before = await _counted(house)
    dead = {
        house.tenant: [_dead(CREDIT, now_ms - 11 * YEAR_MS), _dead(CONFIRM, now_ms - 10 * YEAR_MS)],
        Tenant(f"{house.tenant}-2"): [_dead(CREDIT, now_ms - 9 * YEAR_MS)],
    }
    draft = sample.checkouts(now_ms)
    states = [
        _with_todos(draft, sample.submitted(draft, sample.submit(tenant, "c1")), todos)
        for tenant, todos in dead.items()
    ]
    await shard.commit(draft)

    assert _added(before, await _counted(house)) == {CREDIT: 2, CONFIRM: 1}
    years = {each.kind: each.oldest_ms // YEAR_MS for each in await house.reader().dead_letters()}
    assert (years[CREDIT], years[CONFIRM]) == (11, 10)

    replay = sample.checkouts(now_ms + 1)
    for state, becomes in zip(states, (TodoState.OPEN, TodoState.DONE), strict=True):
        letter = state.todos[todo_id(CREDIT, "o1", 1)]
        _with_todos(replay, state, [replace(letter, state=becomes, created_at_ms=now_ms)])
    await shard.commit(replay)

    assert _added(before, await _counted(house)) == {CONFIRM: 1}


def _dead(kind: TodoKind, since_ms: int) -> Todo:
    return replace(sample.open_todo(kind, "o1", now_ms=since_ms), state=TodoState.DEAD)


def _with_todos(draft: sample.Draft[Checkout], state: Checkout, todos: list[Todo]) -> Checkout:
    after = draft.turn(state.key, state, [], then=lambda now: now.with_todos(todos))
    assert after is not None
    return after


async def _counted(house: House) -> dict[TodoKind, int]:
    return {each.kind: each.todos for each in await house.reader().dead_letters()}


def _added(before: dict[TodoKind, int], after: dict[TodoKind, int]) -> dict[TodoKind, int]:
    more = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in TodoKind}
    return {kind: todos for kind, todos in more.items() if todos}
