"""Histories for the differential test: what several copies of one shard do to one store, as data drawn from a seed.

    history   a list of moments
    moment    the steps that copies begin at the same time; mostly there is one
    step      one copy takes slots, loads, sweeps, commits a batch of turns, or sends one whose end it never hears
    turn      what one entity does in a batch, decided from what the copy believes, which may be long past

Names are few on purpose, so that copies meet: four entities in three slots, three keys, three webhooks, two shared orders.

Invariant: the same seed gives the same history, and every part of a history is a history: it is shrunk by leaving steps out.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tests.contract import sample
from zerosum.domain import wallet
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.identity import CommandKey, EntityKey, Key, OrderId, Tenant, slot_of
from zerosum.domain.message import (
    Delivery,
    LedgerUpdated,
    Mismatch,
    MismatchKind,
    MismatchOpened,
    RiskAssessed,
    Verdict,
    WalletUpdated,
)
from zerosum.domain.money import Money
from zerosum.domain.order import Attempt, AttemptState, Order, OrderStatus
from zerosum.domain.refusal import Reason, Refusal
from zerosum.ports import Batch, Committed, InboxRecord, KeyReuse, Loaded, SlotHead, StoredCommand, Wanted


class Verb(StrEnum):
    """What a step does. LOST, APPLIED and LATE are commits in doubt, by what became of them; LAND lets late ones land."""

    TAKE = "take"
    RETAKE = "retake"
    RESTART = "restart"
    LOAD = "load"
    SWEEP = "sweep"
    COMMIT = "commit"
    LOST = "lost"
    APPLIED = "applied"
    LATE = "late"
    LAND = "land"


COMMITS = frozenset({Verb.COMMIT, Verb.LOST, Verb.APPLIED, Verb.LATE})


class Does(StrEnum):
    """What a turn does. FIRST of a known checkout is a key reuse; TWICE breaks what may be once, BROKEN cannot be stored."""

    FIRST = "first"
    NEXT = "next"
    NOTHING = "nothing"
    TWICE = "twice"
    FAILOVER = "failover"
    BROKEN = "broken"


class Beside(StrEnum):
    """What comes with a turn: a command or a webhook of the turn's `name`."""

    ALONE = "alone"
    COMMAND = "command"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the entity of this number. `variant` chooses among orders, ids and amounts; `name` among shared names."""

    does: Does
    entity: int
    variant: int = 0
    beside: Beside = Beside.ALONE
    name: int = 0

    def __str__(self) -> str:
        beside = "" if self.beside is Beside.ALONE else f" with {self.beside} {self.name}"
        return f"{self.does} {self.entity} variant {self.variant}{beside}"


@dataclass(frozen=True, slots=True)
class Step:
    """What one copy does. `entities`: whose slots are taken or retaken, by number."""

    copy: int
    verb: Verb
    entities: tuple[int, ...] = ()
    turns: tuple[Turn, ...] = ()

    def __str__(self) -> str:
        return f"copy {self.copy}: {self.verb} {'; '.join(map(str, self.turns or self.entities))}".rstrip()


Moment = tuple[Step, ...]
History = tuple[Moment, ...]

# ---- drawn from a seed ---------------------------------------------------------------------------------------------

SLOTS = (3, 3, 17, 40)
"""The slot of each entity, by number: two share one."""

NAMES = 3
MOMENTS = 36
AT_ONCE = 0.2
CHANGE_OF_HANDS = 0.2
"""The share of moments at which several copies act; and of those before which another copy takes over."""

_VERBS: Mapping[Verb, int] = {
    Verb.COMMIT: 70, Verb.LOAD: 12, Verb.TAKE: 2, Verb.RETAKE: 5, Verb.RESTART: 3, Verb.SWEEP: 4,
    Verb.LOST: 2, Verb.APPLIED: 3, Verb.LATE: 4, Verb.LAND: 4,
}  # fmt: skip
_VERBS_AT_ONCE: Mapping[Verb, int] = {Verb.COMMIT: 18, Verb.TAKE: 1, Verb.RETAKE: 2, Verb.LOAD: 1, Verb.SWEEP: 1}
_DOES: Mapping[Does, int] = {
    Does.FIRST: 7, Does.NEXT: 9, Does.NOTHING: 2, Does.TWICE: 2, Does.FAILOVER: 2, Does.BROKEN: 1,
}  # fmt: skip
_BESIDE: Mapping[Beside, int] = {Beside.ALONE: 6, Beside.COMMAND: 2, Beside.WEBHOOK: 2}


def service_of(seed: int) -> str:
    """Three histories in five are of checkouts, where most constraints are."""
    return ("payment", "payment", "payment", "wallet", "ledger")[seed % 5]


def history_of(seed: int) -> History:
    """The history of a seed."""
    chance = random.Random(seed)
    copies = chance.choice((2, 2, 3))
    copy = 0
    moments: list[Moment] = []
    while len(moments) < MOMENTS:
        if chance.random() < AT_ONCE:
            at_once = chance.sample(range(copies), chance.randint(2, copies))
            moments.append(tuple(_step(chance, one, _VERBS_AT_ONCE) for one in at_once))
            continue
        if chance.random() < CHANGE_OF_HANDS:
            copy = chance.randrange(copies)
            # One that takes over without forgetting believes in old versions, which is what the second fence is for.
            moments.append((Step(copy, chance.choice((Verb.RESTART, Verb.TAKE, Verb.TAKE, Verb.TAKE))),))
        step = _step(chance, copy if chance.random() < 0.9 else chance.randrange(copies), _VERBS)
        if step.verb is Verb.LOAD:
            step = replace(step, copy=chance.randrange(copies))  # whoever reads now believes it when its turn comes
        moments.append((step,))
        if step.verb in {Verb.RETAKE, Verb.RESTART} and chance.random() < 0.7:
            moments.append((Step(step.copy, Verb.LOAD),))  # as a shard does; not always, to keep beliefs old
        if step.verb is Verb.LATE and chance.random() < 0.5:
            moments.append((Step(step.copy, Verb.LAND),))
    return tuple(moments)


def _step(chance: random.Random, copy: int, weights: Mapping[Verb, int]) -> Step:
    verb = _drawn(chance, weights)
    if verb in COMMITS:
        turns = [_turn(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        if verb is not Verb.COMMIT:  # what cannot be stored never comes as far as to a doubtful end
            turns = [turn for turn in turns if turn.does is not Does.BROKEN] or [Turn(Does.NOTHING, 0)]
        return Step(copy, verb, turns=tuple(turns))
    if verb in {Verb.TAKE, Verb.RETAKE}:
        every = range(len(SLOTS))
        return Step(copy, verb, tuple(every) if chance.random() < 0.3 else (chance.choice(every),))
    return Step(copy, verb)


def _turn(chance: random.Random) -> Turn:
    does, beside = _drawn(chance, _DOES), _drawn(chance, _BESIDE)
    return Turn(does, chance.randrange(len(SLOTS)), chance.randrange(8), beside, chance.randrange(NAMES))


def _drawn(chance: random.Random, weights: Mapping[Any, int]) -> Any:
    return chance.choices(list(weights), list(weights.values()))[0]


# ---- what a copy believes ------------------------------------------------------------------------------------------


class Cast:
    """Who takes part, under one tenant: the same roles for every tenant, whatever its name hashes to."""

    def __init__(self, service: str, tenant: Tenant) -> None:
        self.service = service
        self.tenant = tenant
        self.kind = KINDS[service]
        self.entities = tuple(self._entity(number, slot) for number, slot in enumerate(SLOTS))

    def _entity(self, number: int, slot: int) -> EntityKey:
        keys = (self.kind.key(self.tenant, f"e{number}_{tried}") for tried in range(10_000))
        return next(key for key in keys if slot_of(*key) == slot)

    @property
    def wanted(self) -> Wanted:
        """Everything a history of this cast can have stored."""
        commands = [_key(self.tenant, self.kind.method, name) for name in range(NAMES)]
        if self.service != "payment":
            return Wanted(self.entities, commands)
        orders = [EntityKey(self.tenant, name) for name in ("shared_0", "shared_1", f"{self.entities[0].id}_o1")]
        webhooks = [("stripe", _webhook(self.tenant, name).event_id) for name in range(NAMES)]
        return Wanted(self.entities, commands, orders, webhooks)


@dataclass(slots=True)
class Copy:
    """One copy of the shard: the heads and states it last heard of. Both grow old when another copy writes."""

    cast: Cast
    heads: dict[int, SlotHead]
    states: dict[EntityKey, Any] = field(default_factory=dict)

    def batch(self, turns: Sequence[Turn], now_ms: int) -> Batch[Any]:
        """These turns, as decided from what the copy believes."""
        draft = self.cast.kind.draft(now_ms)
        states = dict(self.states)
        for turn in turns:
            key = self.cast.entities[turn.entity]
            states[key] = self.cast.kind.take(draft, key, states.get(key), turn)
            draft.turns[-1] = _with_company(draft.turns[-1], turn, self.cast.kind.method)
        batch: Batch[Any] = draft.batch(self.heads.values())
        return batch

    def learn(self, step: Step, batch: Batch[Any] | None, result: Any) -> None:
        """What the copy believes after it heard how its step ended."""
        if step.verb is Verb.RESTART:
            self.states = {}
        match result:
            case Committed() if batch is not None:
                self.heads.update({head.slot: head for head in result.heads})
                self.states.update({change.key: change.after for change in batch.changes})
            case Loaded():
                self.states = dict(result.entities)
            case tuple() if step.verb in {Verb.TAKE, Verb.RETAKE, Verb.RESTART}:
                self.heads.update({head.slot: head for head in result})


def _with_company(record: Any, turn: Turn, method: str) -> Any:
    tenant = record.entity.tenant
    if turn.beside is Beside.COMMAND and record.command is None:
        refusal = None if record.events else Refusal(Reason.ILLEGAL_TRANSITION, "", "not now")
        command = StoredCommand(_key(tenant, method, turn.name), f"1:{turn.variant}", record.entity, refusal)
        return replace(record, command=command)
    if turn.beside is Beside.WEBHOOK and method == sample.METHOD:
        return replace(record, inbox=InboxRecord(_webhook(tenant, turn.name), "pi", "APPLIED"))
    return record


def _key(tenant: Tenant, method: str, name: int) -> CommandKey:
    return CommandKey(tenant, method, f"k{name}")


def _webhook(tenant: Tenant, name: int) -> Delivery:
    return Delivery("stripe", f"evt-{tenant}-{name}", "t", "ab", "current")


# ---- turns of each kind of entity ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """How entities of one service are named and take turns."""

    method: str
    draft: Callable[[int], sample.Draft[Any]]
    key: Callable[[Tenant, str], EntityKey]
    take: Callable[[sample.Draft[Any], EntityKey, Any, Turn], Any]


_UNSTORABLE: Sequence[Mapping[str, Any]] = ({"minor": 0}, {"minor": 2**63}, {"seller": "nul \0"}, {"name": "nul \0"})


def _checkout_turn(draft: sample.Draft[Checkout], key: EntityKey, state: Checkout | None, turn: Turn) -> Any:
    if turn.does is Does.NOTHING:
        return draft.turn(key, state, []) if turn.variant else draft.turn(key, state, [], key_reuse=_reuse(key, turn))
    if state is None:
        return _submit(draft, key, turn)
    if turn.does is Does.FIRST:
        return draft.turn(key, state, [], key_reuse=_reuse(key, turn))
    if turn.does is Does.BROKEN:
        return draft.turn(key, state, [RiskAssessed(Verdict.BLOCK, ("nul \0", "\ud83d")[turn.variant % 2])])
    orders = list(state.orders.values())
    if turn.does in {Does.TWICE, Does.FAILOVER}:
        orders = [order for order in orders if order.status is OrderStatus.EXECUTING] or orders
    order = orders[turn.variant % len(orders)]
    if order.status is OrderStatus.NOT_STARTED:
        return sample.executing(draft, state, order.id)
    if order.status is OrderStatus.EXECUTING and turn.does in {Does.TWICE, Does.FAILOVER}:
        reopened = _reopened(order, draft.now_ms, is_first_over=turn.does is Does.FAILOVER)
        return draft.turn(key, state, [], then=lambda now: now.with_order(reopened))
    if order.status is OrderStatus.EXECUTING:
        reply = b"the reply" if turn.variant % 2 and not state.is_answered else None
        return sample.charged(draft, state, order.id, reply=reply)
    return draft.turn(key, state, [_afterwards(state, order, draft.now_ms)])


def _submit(draft: sample.Draft[Checkout], key: EntityKey, turn: Turn) -> Checkout:
    own = (f"{key.id}_o1", f"{key.id}_o2")
    orders = (own[:1], own, (own[0], "shared_0"), ("shared_0", "shared_1"))[turn.variant % 4]
    broken = _UNSTORABLE[turn.variant % 4] if turn.does is Does.BROKEN else {}
    shared_key = f"k{turn.name}" if turn.beside is Beside.COMMAND else ""
    command = sample.submit(key.tenant, key.id, *orders, key=shared_key, **broken)
    return sample.submitted(draft, command, with_command=turn.variant < 6)


def _reuse(key: EntityKey, turn: Turn) -> KeyReuse:
    return KeyReuse(_key(key.tenant, sample.METHOD, turn.name), f"1:{turn.variant}", "KEY_REUSED")


def _reopened(order: Order, now_ms: int, *, is_first_over: bool) -> Order:
    """The order with one attempt more; the one before is proven to be without charge, or not."""
    last = order.attempts[-1]
    over = replace(last, state=AttemptState.NO_CHARGE) if is_first_over else last
    another = Attempt(last.number + 1, "stripe", AttemptState.UNKNOWN, "", now_ms)
    return order.with_attempt(over, now_ms).with_attempt(another, now_ms)


def _afterwards(state: Checkout, order: Order, now_ms: int) -> Any:
    if not order.wallet_updated:
        return WalletUpdated(order.id)
    if not order.ledger_updated:
        return LedgerUpdated(order.id)
    number = len(state.mismatches) + 1
    money = Money(-number, "USD")
    kind = MismatchKind.UNKNOWN_ORDER
    return MismatchOpened(Mismatch(f"m{number}", number, order.id, kind, "stripe", "pi", money, "", False, now_ms))


def _wallet_turn(draft: sample.Draft[Any], key: EntityKey, state: Any, turn: Turn) -> Any:
    if turn.does is Does.NOTHING:
        return draft.turn(key, state, [])
    minor = (0, -(2**40), 2**63)[turn.variant % 3] if turn.does is Does.BROKEN else 100 + turn.variant
    asked = sample.transfer(key.tenant, _item(key, turn), key.id.partition(":")[0], minor)
    after = sample.credit(draft, state, replace(asked, order_id=OrderId("o")))
    return _unkeyed(draft, after, turn)


def _owner_turn(draft: sample.Draft[Any], key: EntityKey, state: Any, turn: Turn) -> Any:
    if turn.does is Does.NOTHING:
        return draft.turn(key, state, [])
    journal_id = "nul \0" if turn.does is Does.BROKEN else _item(key, turn)
    after = sample.post(draft, state, sample.capture(key.tenant, journal_id, key.id, 100 + turn.variant))
    return _unkeyed(draft, after, turn)


def _item(key: EntityKey, turn: Turn) -> Key:
    """A transfer's or journal's id: one of a few that all owners share, or one of the owner's own, seldom met again."""
    is_shared = turn.beside is Beside.COMMAND or turn.does is Does.TWICE
    return Key(f"k{turn.name}" if is_shared else f"{key.id}_{turn.variant}_{turn.name}")


def _unkeyed(draft: sample.Draft[Any], after: Any, turn: Turn) -> Any:
    """TWICE comes without its command row, so that the item's own id must tell."""
    if turn.does is Does.TWICE:
        draft.turns[-1] = replace(draft.turns[-1], command=None)
    return after


KINDS: Mapping[str, Kind] = {
    "payment": Kind(sample.METHOD, sample.checkouts, EntityKey, _checkout_turn),
    "wallet": Kind(
        "ApplyTransfer", sample.wallets, lambda tenant, name: wallet.wallet_key(tenant, name, "USD"), _wallet_turn
    ),
    "ledger": Kind("PostJournal", sample.owners, EntityKey, _owner_turn),
}
