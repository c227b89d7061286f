"""The seams: what the shards need of the world, as protocols and plain data. Adapters implement them; nothing here acts.

    Store        keeps entities, commands, history; commits a batch of turns or nothing
    PspGateway   carries one operation to a PSP and brings back what it learned
    RiskCheck    judges a checkout
    WalletPeer, LedgerPeer   our own services, as the payment service sees them
    Dialect      how a PSP's settlement files are read

Invariant: an implementation either brings an answer that may be believed, or raises the error of `errors.py` that says
what may have happened.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

from zerosum.domain.identity import CommandKey, EntityKey
from zerosum.domain.journal import Journal
from zerosum.domain.message import Delivery, Report, Verdict
from zerosum.domain.refusal import Refusal
from zerosum.domain.request import AssessRisk, PspRequest
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_control import Controls, Manifest
from zerosum.domain.wallet import Transfer

S = TypeVar("S")
"""The state of an entity: a Checkout, a Wallet or an Owner; each has `key` and `version`."""

# ---- the store -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotHead:
    """The head of one slot's log as this copy of the shard knows it. `hash` chains everything ever written in it."""

    slot: int
    epoch: int
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command that is committed. `refusal` is set where it was refused; the rest of its outcome is its entity's."""

    key: CommandKey
    fingerprint: str
    entity: EntityKey
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """What a batch needs and memory has not. `now_ms`: the database's clock. Keys that are not stored are left out.

    `claims`: payment_order_id -> checkout that holds it, among those asked for.
    `deliveries`: webhook event ids, as (psp, event_id), that are in the inbox already -> their body's SHA-256.
    """

    now_ms: int
    entities: Mapping[EntityKey, S]
    commands: Mapping[CommandKey, StoredCommand]
    claims: Mapping[EntityKey, EntityKey]
    deliveries: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to load. `claims`: (tenant, payment_order_id) pairs as EntityKey; `deliveries`: (psp, event_id)."""

    entities: Sequence[EntityKey] = ()
    commands: Sequence[CommandKey] = ()
    claims: Sequence[EntityKey] = ()
    deliveries: Sequence[tuple[str, str]] = ()


NOTHING = Wanted()
"""Nothing but the time."""


@dataclass(frozen=True, slots=True)
class InboxRecord:
    """A webhook to be recorded once. `outcome`: APPLIED, IGNORED or UNMATCHED."""

    delivery: Delivery
    object_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class KeyReuse:
    """An audit row: a key was used again for another request, and nothing was executed."""

    key: CommandKey
    fingerprint: str
    reason: str


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What one turn writes beside the entity's new state.

    `events`: of this entity, in order; the first has version `first_version`, each next one more.
    """

    entity: EntityKey
    first_version: int
    events: Sequence[Any]
    command: StoredCommand | None = None
    inbox: InboxRecord | None = None
    key_reuse: KeyReuse | None = None


@dataclass(frozen=True, slots=True)
class Change(Generic[S]):
    """An entity's state before (None = it is new) and after the batch; compare-and-swap on before's version."""

    key: EntityKey
    before: S | None
    after: S


@dataclass(frozen=True, slots=True)
class Batch(Generic[S]):
    """Turns to be committed together. `heads`: those of every slot of every entity named, as last known."""

    now_ms: int
    heads: Sequence[SlotHead]
    turns: Sequence[TurnRecord]
    changes: Sequence[Change[S]]


@dataclass(frozen=True, slots=True)
class Committed:
    """The batch is durable; these are the new heads."""

    heads: Sequence[SlotHead]


@dataclass(frozen=True, slots=True)
class Clash:
    """Nothing was committed: these turns (positions in `Batch.turns`) and entities met a row that was there before.

    `table` names where. They must be decided again, with every later turn of the same entities.
    """

    table: str
    turns: frozenset[int]
    entities: frozenset[EntityKey]


@dataclass(frozen=True, slots=True)
class DueTodo:
    """A hint of the sweep: this entity has a to-do whose time came then. The claim is a turn."""

    entity: EntityKey
    todo_id: str
    due_at_ms: int


class Store(Protocol[S]):
    """Keeps one service's entities. The memory store and the SQL store pass one contract suite."""

    async def take_slots(self, slots: Sequence[int], deployment: str) -> Sequence[SlotHead]:
        """Raises the epoch of each slot by one and returns the heads: every older copy is fenced from now on.

        Raises Unavailable, Misconfigured (the slots belong to another deployment that is alive is told by the fence).
        """
        ...

    async def retake_slots(self, heads: Sequence[SlotHead]) -> Sequence[SlotHead]:
        """Raises the epoch of slots this copy still owns, and returns their true heads.

        What this copy sent earlier and has not seen the end of is fenced from now on: so an ambiguous commit becomes a
        fact. Raises Superseded when any of them has another epoch (nothing is changed), Unavailable.
        """
        ...

    async def load(self, wanted: Wanted) -> Loaded[S]:
        """Reads what is stored, with the database's clock, in one SERIALIZABLE snapshot. Raises Unavailable."""
        ...

    async def commit(self, batch: Batch[S]) -> Committed | Clash:
        """Commits all of it or nothing.

        Raises Superseded (a newer copy owns a slot), SerializationConflict (40001, 40P01), RowsRefused (SQLSTATE class
        22 or 23, or a lock timeout: bisect), CommitAmbiguous (run the same commands again), Unavailable (not begun).
        """
        ...

    async def due_todos(
        self, slots: Sequence[int], overdue_ms: int, rows_max: int, after: DueTodo | None = None
    ) -> Sequence[DueTodo]:
        """To-dos of these slots that are OPEN and were due at least `overdue_ms` ago by the database's clock, oldest first.

        `after`: only those behind this one, which need not be due any more; None: from the oldest. A read-committed hint.
        Raises Unavailable. Empty for services without to-dos.
        """
        ...


# ---- the world -----------------------------------------------------------------------------------------------------


class PspGateway(Protocol):
    """Carries operations to PSPs."""

    async def call(self, request: PspRequest) -> Report:
        """Sends one operation or asks about one; the report says what the PSP's object is now.

        Raises NotSent (no money moved by this call: breaker open, connection refused, 429) or OutcomeUnknown (timeout,
        connection lost, 5xx, 409, idempotency_error: money may have moved).
        """
        ...


@dataclass(frozen=True, slots=True)
class RiskAnswer:
    """What the risk check says. `reason` for a BLOCK."""

    verdict: Verdict
    reason: str


class RiskCheck(Protocol):
    """Judges a checkout before any PSP is called."""

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        """The verdict. Raises NotSent or OutcomeUnknown: asked again, the checkout waits (fail closed)."""
        ...


Judge = Callable[[AssessRisk], RiskAnswer | None]
"""A risk check that needs nobody else: its verdict at once, or None: it must be asked as an effect."""


@dataclass(frozen=True, slots=True)
class Done:
    """A peer has recorded the item, now or earlier."""


@dataclass(frozen=True, slots=True)
class TryLater:
    """A peer knows of nothing recorded: send the same item again."""

    retry_after_ms: int


ItemOutcome = Done | Refusal | TryLater


class WalletPeer(Protocol):
    """The wallet service."""

    async def apply(self, transfer: Transfer) -> ItemOutcome:
        """Applies a transfer, once for ever under its id. Raises OutcomeUnknown, NotSent."""
        ...


class LedgerPeer(Protocol):
    """The ledger service."""

    async def post(self, journal: Journal) -> ItemOutcome:
        """Posts a journal, once for ever under its id. Raises OutcomeUnknown, NotSent."""
        ...


# ---- settlement files ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a PSP's settlement files and their manifests are read.

    `read_lines(file, controls)` yields lines until the file ends or something is wrong: then one Refusal, and nothing after
    it. It feeds the controls as it goes; its memory does not grow with the file. It raises what the file raises (OSError).
    """

    read_lines: Callable[[BinaryIO, Controls], Iterator[Line | Refusal]]
    read_manifest: Callable[[bytes], Manifest | Refusal]
