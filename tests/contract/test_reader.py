"""What the doors read: the same rows in the same order from every store, page by page, of one tenant only."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from tests.contract import sample
from tests.contract.house import House, Shard
from zerosum.domain.checkout_state import Checkout, CheckoutStatus
from zerosum.domain.identity import EntityKey, OrderId, Tenant, slot_of
from zerosum.domain.journal import Balance
from zerosum.domain.money import Money
from zerosum.domain.todo import TodoKind, TodoState, todo_id
from zerosum.readers import AccountRow, ListFilter, Page, view_of

R = TypeVar("R")

STRANGER = Tenant("stranger")
DAY_MS = 86_400_000


async def all_pages(read: Callable[[int, str], Awaitable[Page[R]]], rows_max: int) -> list[R]:
    """Every row, page by page; each page but the last is full."""
    rows: list[R] = []
    after = ""
    while True:
        page = await read(rows_max, after)
        rows += page.rows
        if not page.after:
            return rows
        assert len(page.rows) == rows_max
        assert page.after.isascii()
        after = page.after


async def submit_all(house: House, count: int, **options: Any) -> list[Checkout]:
    """Checkouts over many slots, each stored a millisecond after the one before, two at the same time."""
    shard = await Shard.begin(house.store())
    states = []
    for number in range(count):
        draft = sample.checkouts(sample.NOW_MS + number - number % 2)
        states.append(sample.submitted(draft, sample.submit(house.tenant, f"c{number:03}", **options)))
        await shard.commit(draft)
    return states


# ---- checkouts -----------------------------------------------------------------------------------------------------


async def test_a_checkout_is_read_by_its_id_and_by_its_order(house: House) -> None:
    """Get reads the database; a foreign tenant's id is unknown (I21)."""
    (state,) = await submit_all(house, 1)
    reader = house.reader()

    assert await reader.checkout(state.key) == state
    assert await reader.home_of(house.tenant, OrderId("c000_o1")) == state.key
    assert await reader.checkout(EntityKey(STRANGER, state.key.id)) is None
    assert await reader.home_of(STRANGER, OrderId("c000_o1")) is None


@pytest.mark.parametrize("rows_max", [1, 4, 13, 14])
async def test_checkouts_are_listed_newest_first_over_all_slots(house: House, rows_max: int) -> None:
    """Each once, whatever the page size; of two of one instant the larger id comes first."""
    states = await submit_all(house, 13)
    reader = house.reader()

    async def read(rows: int, after: str) -> Page[Checkout]:
        page: Page[Checkout] = await reader.checkouts(house.tenant, ListFilter(), rows, after)
        return page

    expected = sorted(states, key=lambda state: (state.created_at_ms, state.key.id), reverse=True)
    assert await all_pages(read, rows_max) == expected
    assert (await reader.checkouts(STRANGER, ListFilter(), 10, "")).rows == []


async def test_checkouts_that_come_meanwhile_do_not_shift_a_page(house: House) -> None:
    """Keyset, not offset: a row that is stored between two pages neither repeats nor hides another."""
    states = await submit_all(house, 6)
    reader = house.reader()
    first = await reader.checkouts(house.tenant, ListFilter(), 3, "")
    shard = await Shard.begin(house.store())
    draft = sample.checkouts(sample.NOW_MS + DAY_MS)
    sample.submitted(draft, sample.submit(house.tenant, "newest"))
    await shard.commit(draft)

    second = await reader.checkouts(house.tenant, ListFilter(), 3, first.after)

    assert {row.key for row in [*first.rows, *second.rows]} == {state.key for state in states}


async def test_checkouts_are_filtered_by_time_status_and_seller(house: House) -> None:
    """From is inclusive, before is exclusive; a seller's list is in the order of the seller's index."""
    states = await submit_all(house, 6, seller="seller_a")
    shard = await Shard.begin(house.store())
    draft = sample.checkouts(sample.NOW_MS + 2)
    other = sample.submitted(draft, sample.submit(house.tenant, "other", "x1", "x2", seller="seller_b"))
    await shard.commit(draft)
    charging = sample.checkouts(sample.NOW_MS + 3)
    done = sample.executing(charging, states[0], "c000_o1")
    done = sample.charged(charging, done, "c000_o1")
    await shard.commit(charging)
    reader = house.reader()

    async def ids(**wanted: Any) -> list[str]:
        async def read(rows: int, after: str) -> Page[Checkout]:
            page: Page[Checkout] = await reader.checkouts(house.tenant, ListFilter(**wanted), rows, after)
            return page

        return [row.key.id for row in await all_pages(read, 2)]

    by_slot = sorted(("c001", "c002", "c003", "c004", "c005"), key=lambda name: (slot_of(house.tenant, name), name))
    assert await ids(created_from_ms=sample.NOW_MS + 2, created_before_ms=sample.NOW_MS + 4) == [
        "other",
        "c003",
        "c002",
    ]
    assert await ids(status=CheckoutStatus.DONE) == ["c000"]
    assert await ids(status=CheckoutStatus.FAILED) == []
    assert await ids(seller_account="seller_b") == [other.key.id]
    assert await ids(seller_account="seller_a", status=CheckoutStatus.OPEN) == by_slot
    assert await ids(seller_account="seller_a", created_before_ms=sample.NOW_MS + 2, status=CheckoutStatus.DONE) == [
        "c000"
    ]


async def test_history_is_read_in_the_order_of_versions(house: House) -> None:
    """One row an event, with canonical JSON."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    sample.executing(draft, state, "o1")
    await shard.commit(draft)

    rows = await house.reader().history(state.key)

    assert [(row.version, row.type, row.order_id, row.status, row.at_ms) for row in rows] == [
        (1, "CheckoutSubmitted", "", "", sample.NOW_MS),
        (2, "RiskAssessed", "", "", sample.NOW_MS),
        (3, "AttemptOpened", "o1", "EXECUTING", sample.NOW_MS),
        (4, "OperationStarted", "o1", "EXECUTING", sample.NOW_MS),
    ]
    assert rows[2].detail == '{"number":1,"psp":"stripe"}'
    assert await house.reader().history(EntityKey(STRANGER, "c1")) == []


# ---- to-dos --------------------------------------------------------------------------------------------------------


async def _with_todos(house: House) -> Checkout:
    """A checkout with open, dead and done to-dos."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o1"))
    state = sample.executing(draft, state, "o1")
    todos = [
        replace(
            sample.open_todo(TodoKind.POST_JOURNAL, f"x{number}", now_ms=sample.NOW_MS + number, due_in_ms=-7 * number),
            state=TodoState.DEAD if number % 2 else TodoState.OPEN,
            reason="spent",
        )
        for number in range(7)
    ]
    after = draft.turn(state.key, None, [], then=lambda now: now.with_todos(todos))
    await shard.commit(draft)
    assert after is not None
    return after


async def test_todos_are_listed_by_state(house: House) -> None:
    """Dead ones oldest first, then open ones by due time; done ones only when asked for."""
    state = await _with_todos(house)
    reader = house.reader()

    async def listed(wanted: TodoState | None, rows_max: int) -> Sequence[str]:
        async def read(rows: int, after: str) -> Page[Any]:
            page: Page[Any] = await reader.todos(house.tenant, wanted, rows, after)
            return page

        rows = await all_pages(read, rows_max)
        assert all(row.entity == state.key and row.todo == state.todos[row.todo.id] for row in rows)
        assert all(row.request == "" for row in rows)
        return [row.todo.id for row in rows]

    dead = [todo_id(TodoKind.POST_JOURNAL, f"x{number}", 1) for number in (1, 3, 5)]
    due = [todo_id(TodoKind.POST_JOURNAL, f"x{number}", 1) for number in (6, 4, 2)]
    also_due = sorted([todo_id(TodoKind.POST_JOURNAL, "x0", 1), todo_id(TodoKind.PREPARE, "o1", 1)])
    for rows_max in (1, 2, 3, 4, 50):
        assert await listed(TodoState.DEAD, rows_max) == dead
        assert await listed(TodoState.OPEN, rows_max) == [*due, *also_due]
        assert await listed(None, rows_max) == [*dead, *due, *also_due]
        assert await listed(TodoState.DONE, rows_max) == [todo_id(TodoKind.ASSESS_RISK, "", 1)]
    assert (await reader.todos(STRANGER, None, 10, "")).rows == []


async def test_one_todo_is_shown_with_the_request_it_would_send(house: House) -> None:
    """Only to-dos of the PSP have a stored request."""
    state = await _with_todos(house)
    reader = house.reader()
    prepare, post = todo_id(TodoKind.PREPARE, "o1", 1), todo_id(TodoKind.POST_JOURNAL, "x1", 1)

    shown = await reader.todo(state.key, prepare)
    other = await reader.todo(state.key, post)

    assert (shown.todo, shown.request) == (state.todos[prepare], state.orders[OrderId("o1")].operations[0].request)
    assert (other.todo, other.request) == (state.todos[post], "")
    assert await reader.todo(state.key, "nothing/1") is None
    assert await reader.todo(EntityKey(STRANGER, state.key.id), prepare) is None


async def test_orders_in_flight_are_those_not_final_and_old_enough_oldest_first(house: House) -> None:
    """By the database's clock, over all slots."""
    shard = await Shard.begin(house.store())
    now_ms = (await shard.store.load(sample.nothing())).now_ms
    ages_ms = {"c0": 90_000, "c1": 70_000, "c2": 80_000, "young": 1_000}
    for name, age_ms in ages_ms.items():
        draft = sample.checkouts(now_ms - age_ms)
        state = sample.submitted(draft, sample.submit(house.tenant, name, f"{name}_a", f"{name}_b"))
        if name == "c0":
            sample.charged(draft, sample.executing(draft, state, "c0_a"), "c0_a")
        await shard.commit(draft)
    reader = house.reader()

    async def read(rows: int, after: str) -> Page[Any]:
        page: Page[Any] = await reader.in_flight(house.tenant, 60_000, rows, after)
        return page

    expected = [("c0", "c0_b"), ("c2", "c2_a"), ("c2", "c2_b"), ("c1", "c1_a"), ("c1", "c1_b")]
    for rows_max in (1, 2, 5):
        found = await all_pages(read, rows_max)
        assert [(key.id, order_id) for key, order_id in found] == expected
    assert await reader.count_in_flight(60_000) >= 5
    assert await reader.count_in_flight(10 * 365 * DAY_MS) == 0


# ---- wallets -------------------------------------------------------------------------------------------------------


async def test_a_wallet_and_its_entries_are_read_in_the_order_they_were_applied(house: House) -> None:
    """Signed money, the version after each, the order each is about."""
    shard = await Shard.begin(house.store("wallet"))
    state = None
    for turn in range(3):
        draft = sample.wallets(sample.NOW_MS + turn)
        for number in range(3):
            state = sample.credit(
                draft, state if number == 0 else None, sample.transfer(house.tenant, f"t{turn}{number}")
            )
        await shard.commit(draft)
    reader = house.reader("wallet")

    async def read(rows: int, after: str) -> Page[Any]:
        page: Page[Any] = await reader.entries(house.tenant, "seller_1", "USD", rows, after)
        return page

    assert await reader.wallet(house.tenant, "seller_1", "USD") == state
    assert await reader.wallet(house.tenant, "seller_1", "EUR") is None
    for rows_max in (1, 2, 9):
        rows = await all_pages(read, rows_max)
        assert [row.transfer_id for row in rows] == [f"t{turn}{number}" for turn in range(3) for number in range(3)]
        assert [row.version for row in rows] == list(range(1, 10))
    assert (rows[0].money, rows[0].bucket, rows[0].order_id) == (Money(1_250, "USD"), "pending", "order_t00")


# ---- the ledger ----------------------------------------------------------------------------------------------------


async def _posted(house: House, owners: int = 3, journals: int = 4) -> None:
    shard = await Shard.begin(house.store("ledger"))
    states: dict[str, Any] = {}
    for turn in range(journals):
        draft = sample.owners(sample.NOW_MS + turn)
        for number in range(owners):
            owner = f"seller_{number}"
            states[owner] = sample.post(
                draft,
                states.get(owner),
                sample.capture(house.tenant, f"j{turn}_{number}", owner=owner, minor=100 + number),
            )
        await shard.commit(draft)


async def test_a_journal_is_read_as_it_was_posted(house: House) -> None:
    """All lines in their order, and when."""
    await _posted(house)
    reader = house.reader("ledger")

    assert await reader.journal(house.tenant, "j2_1") == (
        sample.capture(house.tenant, "j2_1", owner="seller_1", minor=101),
        sample.NOW_MS + 2,
    )
    assert await reader.journal(house.tenant, "j9") is None
    assert await reader.journal(STRANGER, "j2_1") is None


async def test_an_accounts_entries_are_paged_slot_by_slot_in_posting_order(house: House) -> None:
    """A clearing account lies in the slots of all owners; each entry once, those of one slot as they were posted."""
    await _posted(house)
    reader = house.reader("ledger")

    async def read(rows: int, after: str) -> Page[Any]:
        page: Page[Any] = await reader.entries(house.tenant, "psp:stripe:clearing:USD", rows, after)
        return page

    by_slot = sorted(range(3), key=lambda number: slot_of(house.tenant, f"seller_{number}"))
    expected = [f"j{turn}_{number}" for number in by_slot for turn in range(4)]
    for rows_max in (1, 5, 12):
        assert [row.journal_id for row in await all_pages(read, rows_max)] == expected


async def test_balances_of_own_and_of_other_accounts_are_the_sums_of_their_entries(house: House) -> None:
    """A balance row where the owner keeps one, a sum where none is kept; None where there was no entry ever."""
    await _posted(house)
    reader = house.reader("ledger")

    assert await reader.balance(house.tenant, "seller:seller_1:pending:USD") == Balance(-404, 4)
    assert await reader.balance(house.tenant, "psp:stripe:clearing:USD") == Balance(1_212, 12)
    assert await reader.balance(house.tenant, "buyer:buyer_1:USD") == Balance(0, 24)
    assert await reader.balance(house.tenant, "seller:seller_9:pending:USD") is None
    assert await reader.balance(STRANGER, "psp:stripe:clearing:USD") is None


async def test_the_trial_balance_lists_every_account_by_name_and_sums_to_zero(house: House) -> None:
    """I2, as the door shows it."""
    await _posted(house)
    reader = house.reader("ledger")

    async def read(rows: int, after: str) -> Page[AccountRow]:
        page: Page[AccountRow] = await reader.trial_balance(house.tenant, rows, after)
        return page

    expected = [
        AccountRow("buyer:buyer_1:USD", "USD", Balance(0, 24)),
        AccountRow("psp:stripe:clearing:USD", "USD", Balance(1_212, 12)),
        AccountRow("seller:seller_0:pending:USD", "USD", Balance(-400, 4)),
        AccountRow("seller:seller_1:pending:USD", "USD", Balance(-404, 4)),
        AccountRow("seller:seller_2:pending:USD", "USD", Balance(-408, 4)),
    ]
    for rows_max in (1, 2, 5, 6):
        assert await all_pages(read, rows_max) == expected
    assert await reader.sums(house.tenant) == [Money(0, "USD")]
    assert await reader.sums(STRANGER) == []


async def test_callers_see_a_checkout_its_orders_and_its_fixed_reply(house: House) -> None:
    """The short ways of the doors show what the whole checkout says."""
    shard = await Shard.begin(house.store())
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(house.tenant, "c1", "o2", "o1"))
    await shard.commit(draft)
    reader = house.reader()
    assert await reader.payment(state.key) == view_of(state)
    assert await reader.reply(state.key) is None

    later = sample.checkouts(sample.NOW_MS + 1)
    state = sample.executing(later, state, "o1")
    state = sample.charged(later, state, "o1", reply=b"\x00reply")
    await shard.commit(later)

    assert await reader.payment(state.key) == view_of(state)
    assert await reader.order(house.tenant, OrderId("o1")) == view_of(state).orders[1]
    assert await reader.reply(state.key) == b"\x00reply"
    assert await reader.payment(EntityKey(STRANGER, "c1")) is None
    assert await reader.order(STRANGER, OrderId("o1")) is None
    assert await reader.reply(EntityKey(STRANGER, "c1")) is None
