"""A batch as rows: its order, its numbering, and the contradictions it refuses."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract import sample
from zerosum.domain.identity import OrderId, Tenant, slot_of
from zerosum.domain.message import RiskAssessed, Verdict
from zerosum.errors import Bug, RowsRefused
from zerosum.ports import Batch, SlotHead
from zerosum.store import mapping
from zerosum.store.ledger import LEDGER
from zerosum.store.payment import PAYMENT
from zerosum.store.plan import Verb, clash, plan
from zerosum.store.wallet import WALLET

TENANT = Tenant("shop")
HEADS = [SlotHead(slot, 3, 10, bytes([slot]) * 32) for slot in range(64)]


def submitted(*checkout_ids: str) -> Batch[Any]:
    draft = sample.checkouts()
    for checkout_id in checkout_ids:
        sample.submitted(draft, sample.submit(TENANT, checkout_id))
    return draft.batch(HEADS)


def test_steps_come_in_the_order_of_the_design() -> None:
    """Commands, roots, then table by table; a table's updates before its inserts; rows in key order."""
    draft = sample.checkouts()
    states = {name: sample.submitted(draft, sample.submit(TENANT, name)) for name in ("c1", "c2", "c3", "c4")}
    plan(PAYMENT, draft.batch(HEADS))
    later = sample.checkouts()
    for name in ("c3", "c1", "c2"):
        sample.executing(later, states[name], f"{name}_o1")
    sample.submitted(later, sample.submit(TENANT, "c9"))

    made = plan(PAYMENT, later.batch(HEADS))

    assert [(step.table.name, step.verb) for step in made.steps] == [
        ("commands", Verb.INSERT),
        ("payment_events", Verb.INSERT),
        ("payment_events", Verb.SWAP),
        ("buyers", Verb.INSERT),
        ("payment_orders", Verb.UPDATE),
        ("payment_orders", Verb.INSERT),
        ("attempts", Verb.INSERT),
        ("operations", Verb.INSERT),
        ("todos", Verb.UPDATE),
        ("todos", Verb.INSERT),
        ("history", Verb.INSERT),
    ]
    for step in made.steps:
        keys = [tuple(row[column.name] for column in step.table.primary_key.columns) for row in step.rows]
        assert keys == sorted(keys)


def test_the_fast_encoder_takes_all_that_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take, Python's encoder writes as well, at ten times the cost, and nobody would notice."""
    monkeypatch.setattr(mapping, "_PYTHON_JSON", lambda value: pytest.fail(f"not taken: {value}"))

    made = plan(PAYMENT, submitted("c1", "c2"))

    assert [len(step.rows) for step in made.steps if step.table.name == "history"] == [2]


def test_only_what_changed_is_written() -> None:
    """A turn that closes one to-do writes the root, that to-do and its history: no order, no buyer."""
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(TENANT, "c1"))
    later = sample.checkouts()
    (todo,) = state.todos.values()
    later.turn(
        state.key, state, [RiskAssessed(Verdict.ALLOW, "")], then=lambda now: now.with_todos([sample.done(todo)])
    )

    made = plan(PAYMENT, later.batch(HEADS))

    assert [(step.table.name, step.verb) for step in made.steps] == [
        ("payment_events", Verb.SWAP), ("todos", Verb.UPDATE), ("history", Verb.INSERT),
    ]  # fmt: skip


def test_rows_for_ever_are_numbered_by_slot_in_the_order_of_turns() -> None:
    """seq is one for the whole commit, ord counts within slot and table, entries share their journal's."""
    draft = sample.owners()
    for number in range(4):
        sample.post(draft, None, sample.capture(TENANT, f"j{number}", owner=f"seller_{number % 2}"))

    made = plan(LEDGER, draft.batch(HEADS))

    journals = next(step for step in made.steps if step.table.name == "journals")
    entries = next(step for step in made.steps if step.table.name == "entries")
    assert {row["seq"] for row in journals.rows} == {11}
    for owner in ("seller_0", "seller_1"):
        mine = [row for row in journals.rows if row["owner"] == owner]
        if slot_of(TENANT, "seller_0") != slot_of(TENANT, "seller_1"):
            assert [row["ord"] for row in mine] == [0, 1]
        for journal in mine:
            lines = [row for row in entries.rows if row["journal_id"] == journal["journal_id"]]
            assert [(row["ord"], row["line"]) for row in lines] == [(journal["ord"], line) for line in range(4)]


def test_each_touched_slot_moves_by_one_and_no_other() -> None:
    """A command's own slot is not touched by it."""
    batch = submitted("c1", "c2")

    made = plan(PAYMENT, batch)

    assert {head.slot for head in made.heads} == {slot_of(TENANT, "c1"), slot_of(TENANT, "c2")}
    assert {(head.seq, head.epoch) for head in made.heads} == {(11, 3)}
    assert len({head.hash for head in made.heads}) == len(made.heads)


def test_the_same_batch_after_other_heads_has_another_hash() -> None:
    """The chain covers all that came before."""
    batch = submitted("c1")
    other = replace(batch, heads=[replace(head, hash=bytes(32)) for head in batch.heads])

    assert plan(PAYMENT, batch).heads[0].hash != plan(PAYMENT, other).heads[0].hash
    assert plan(PAYMENT, batch) == plan(PAYMENT, batch)


def test_a_clash_names_the_turn_of_a_command_and_all_turns_of_an_entity() -> None:
    """A row of one turn names it; a row of an entity names all its turns."""
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(TENANT, "c1"))
    sample.submitted(draft, sample.submit(TENANT, "c2"))
    draft.turn(state.key, None, [RiskAssessed(Verdict.ALLOW, "")])
    batch = draft.batch(HEADS)
    made = plan(PAYMENT, batch)
    commands, roots = made.steps[0], made.steps[1]

    of_command = clash(
        commands, [tuple(commands.rows[1][name] for name in ("slot", "tenant", "method", "key"))], batch.turns
    )
    of_root = clash(roots, [], batch.turns)

    assert of_command.turns == {commands.origins[0].turn}
    assert of_command.entities == frozenset()
    assert (of_root.turns, len(of_root.entities)) == (frozenset({0, 1, 2}), 2)


# ---- contradictions ------------------------------------------------------------------------------------------------


def test_a_slot_without_its_head_is_a_bug() -> None:
    """Nothing is written in a slot that is not fenced."""
    with pytest.raises(Bug, match="without its head"):
        plan(PAYMENT, replace(submitted("c1"), heads=[]))


@pytest.mark.parametrize("first_version", [0, 2, 7])
def test_a_version_that_does_not_follow_is_a_bug(first_version: int) -> None:
    """History has no gap and no twin (I7)."""
    batch = submitted("c1")

    with pytest.raises(Bug, match="does not follow"):
        plan(PAYMENT, replace(batch, turns=[replace(batch.turns[0], first_version=first_version)]))


def test_a_state_that_is_not_the_fold_of_its_events_is_a_bug() -> None:
    """As many events as versions."""
    batch = submitted("c1")
    (change,) = batch.changes

    with pytest.raises(Bug, match="its state is 2"):
        plan(PAYMENT, replace(batch, changes=[replace(change, after=replace(change.after, version=2))]))
    with pytest.raises(Bug, match="its state is"):
        plan(PAYMENT, replace(batch, changes=[]))


def test_a_column_that_is_written_once_does_not_change() -> None:
    """An order's amount, an operation's request: what was stored first stands."""
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(TENANT, "c1", "o1"))
    order = state.orders[OrderId("o1")]
    later = sample.checkouts()
    later.turn(
        state.key, state, [RiskAssessed(Verdict.ALLOW, "")],
        then=lambda now: now.with_order(replace(order, amount="99.99")),
    )  # fmt: skip

    with pytest.raises(Bug, match=r"payment_orders\.amount"):
        plan(PAYMENT, later.batch(HEADS))


def test_an_answer_without_a_reply_is_a_bug() -> None:
    """The reply is fixed in the commit that answers."""
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(TENANT, "c1"))
    later = sample.checkouts()
    later.turn(state.key, state, [RiskAssessed(Verdict.ALLOW, "")], then=lambda now: replace(now, is_answered=True))

    with pytest.raises(Bug, match="answered"):
        plan(PAYMENT, later.batch(HEADS))


def test_events_of_another_service_are_a_bug() -> None:
    """A wallet is not written by a checkout's turn."""
    draft = sample.wallets()
    sample.credit(draft, None, sample.transfer(TENANT, "t1"))
    batch = draft.batch(HEADS)

    with pytest.raises(Bug):
        plan(WALLET, replace(batch, turns=[replace(batch.turns[0], events=[RiskAssessed(Verdict.ALLOW, "")])]))


def test_a_text_that_is_not_unicode_is_a_row_that_cannot_be_stored() -> None:
    """A PSP may answer half a surrogate pair: that turn alone is refused."""
    draft = sample.checkouts()
    state = sample.submitted(draft, sample.submit(TENANT, "c1"))
    draft.turn(state.key, None, [RiskAssessed(Verdict.BLOCK, "\ud83d")])

    with pytest.raises(RowsRefused):
        plan(PAYMENT, draft.batch(HEADS))


@pytest.mark.parametrize(
    "slip", [KeyError("o1"), AttributeError("value"), TypeError("int")], ids=lambda slip: type(slip).__name__
)
def test_a_mapping_that_stumbles_is_a_bug_so_that_the_batch_is_divided(slip: Exception) -> None:
    """A4: any other exception would end the shard, and the same command its successor."""

    def stumble(*_: Any) -> Any:
        raise slip

    with pytest.raises(Bug, match=type(slip).__name__):
        plan(replace(PAYMENT, log_rows=stumble), submitted("c1"))
