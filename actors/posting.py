"""Wallets and ledger owners as entities of a shard: each item of a batch is a command that works once, for ever.

Both services take the same turn: known by its id, or decided and recorded, a refusal too. They have no effects and no to-dos.

Invariant: an id that is known changes nothing; the same id with other content is refused.
"""

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from actors.answer import Applied, Refused
from actors.turn import Known, Run, Turn
from zerosum.domain import journal as ledger
from zerosum.domain import wallet as wallets
from zerosum.domain.account import CloseAccount
from zerosum.domain.identity import CommandKey, EntityKey
from zerosum.domain.refusal import Reason, Refusal
from zerosum.errors import Bug
from zerosum.ports import StoredCommand, TurnRecord, Wanted

APPLY_TRANSFERS = "ApplyTransfers"
POST_JOURNALS = "PostJournals"
CLOSE_ACCOUNT = "CloseAccount"


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


class _Item(Protocol):
    def fingerprint(self) -> str: ...


S = TypeVar("S", bound=_Versioned)
I = TypeVar("I", bound=_Item)  # noqa: E741 - an item, as in "batch of items"

_REUSED = Refusal(Reason.KEY_REUSED, "", "the id was used for another item")


class PostingBinding(Generic[S, I]):
    """Takes the turns of entities that only post: `key_of` and `entity_of` name an item, `post` decides it.

    `post` brings the state after and the event, the state and None where nothing follows, or a refusal.
    """

    def __init__(
        self,
        key_of: Callable[[I], CommandKey],
        entity_of: Callable[[I], EntityKey],
        post: Callable[[S | None, I, int], tuple[S | None, object] | Refusal],
    ) -> None:
        self._key_of = key_of
        self._entity_of = entity_of
        self._post = post

    def entity(self, command: I) -> EntityKey:
        """The wallet or owner."""
        return self._entity_of(command)

    def wants(self, command: I) -> Wanted:
        """The item's own id."""
        return Wanted(commands=(self._key_of(command),))

    def weight_bytes(self, command: I) -> int:
        """Command, entry and version: about 1 KB."""
        return 1_000

    def take(self, state: S | None, command: I, known: Known, now_ms: int) -> Turn[S]:
        """Applies an item whose id is new; answers one that is known from what is stored."""
        key, fingerprint = self._key_of(command), command.fingerprint()
        stored = known.commands.get(key)
        if stored is not None and stored.fingerprint != fingerprint:
            return Turn(state, None, Refused(_REUSED, is_replay=False))
        if stored is not None:
            return Turn(state, None, Refused(stored.refusal, True) if stored.refusal else Applied(is_replay=True))
        entity = self._entity_of(command)
        posted = self._post(state, command, now_ms)
        refusal = posted if isinstance(posted, Refusal) else None
        accepted = known.commands[key] = StoredCommand(key, fingerprint, entity, refusal)
        after, event = (state, None) if isinstance(posted, Refusal) else posted
        events = () if event is None else (event,)
        record = TurnRecord(entity, (state.version if state is not None else 0) + 1, events, accepted)
        answer = Refused(refusal, is_replay=False) if refusal else Applied(is_replay=event is None)
        return Turn(after, record, answer)

    def run_of(self, state: S, todo_id: str, now_ms: int) -> Run | None:
        """Postings have no effects."""
        return None

    def timers(self, state: S) -> Mapping[str, int]:
        """Postings have no to-dos."""
        return {}

    def claim(self, entity: EntityKey, todo_id: str) -> I:
        """Postings have no to-dos."""
        raise Bug("nothing to claim here")

    def outcome(self, state: S) -> bytes | None:
        """Postings are final when they are committed."""
        return None


def wallet_binding() -> PostingBinding[wallets.Wallet, wallets.Transfer | CloseAccount]:
    """Wallets: one an owner and currency."""

    def post(
        state: wallets.Wallet | None, command: wallets.Transfer | CloseAccount, now_ms: int
    ) -> tuple[wallets.Wallet | None, object] | Refusal:
        before = state or wallets.empty(command, now_ms)
        event = wallets.decide(before, command)
        if event is None or isinstance(event, Refusal):
            return event or (state, None)
        return wallets.evolve(before, event, now_ms), event

    def key_of(command: wallets.Transfer | CloseAccount) -> CommandKey:
        if isinstance(command, CloseAccount):
            return CommandKey(command.tenant, CLOSE_ACCOUNT, command.key)
        return CommandKey(command.tenant, APPLY_TRANSFERS, command.transfer_id)

    return PostingBinding(
        key_of=key_of,
        entity_of=lambda command: wallets.wallet_key(command.tenant, command.owner, command.currency),
        post=post,
    )


def ledger_binding() -> PostingBinding[ledger.Owner, ledger.Journal | CloseAccount]:
    """Ledger owners: each writes the journals that are about it."""

    def post(
        state: ledger.Owner | None, command: ledger.Journal | CloseAccount, now_ms: int
    ) -> tuple[ledger.Owner | None, object] | Refusal:
        before = state or ledger.new_owner(EntityKey(command.tenant, command.owner), now_ms)
        event = ledger.decide(before, command)
        if event is None or isinstance(event, Refusal):
            return event or (state, None)
        return ledger.evolve(before, event, now_ms), event

    def key_of(command: ledger.Journal | CloseAccount) -> CommandKey:
        if isinstance(command, CloseAccount):
            return CommandKey(command.tenant, CLOSE_ACCOUNT, command.key)
        return CommandKey(command.tenant, POST_JOURNALS, command.journal_id)

    return PostingBinding(
        key_of=key_of,
        entity_of=lambda command: EntityKey(command.tenant, command.owner),
        post=post,
    )
