"""Wallet and ledger lose what they had confirmed, once all is at rest: the newest postings of some accounts, as a database that
was restored from a backup lacks them. Inside reconciliation must name exactly these, and its fixes make the books whole again.

The rules and the road are the product's own: its comparison, its automatic fix as the outbox keeps it, its sender and its two
services. Only the hour's SQL is not here. A fix may be sent twice, as by an outbox that died before it wrote the answer down.

Invariant: what is taken out leaves its account as it stood before that posting; what came of it is judged without the product's
rules, by the books as they stood before.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from actors.posting import APPLY_TRANSFERS, POST_JOURNALS
from simulator.world.database import at_once
from simulator.world.house import House
from simulator.world.loop import Party
from simulator.world.process import Peer
from zerosum.domain.discrepancy import Action, Class, Discrepancy, Kind
from zerosum.domain.identity import CommandKey, EntityKey, Tenant, slot_of
from zerosum.domain.reconcile_inside import Posted, Promise, Side, compare, promises_of
from zerosum.domain.refusal import Refusal
from zerosum.errors import Bug, PspTrouble
from zerosum.ports import Done, ItemOutcome, TryLater, Wanted
from zerosum.store.mapping import Row
from zerosum.store.memory import MemoryStore
from zerosum.store.reconciliation.inside import found_of
from zerosum.store.reconciliation.outbox import BEHIND, SENDERS, Peers
from zerosum.store.reconciliation.posted import posted_journals, posted_transfer
from zerosum.store.reconciliation.record import Found

SHARE: Final = 0.2
"""Of the stories, those that end with a loss; one costs some hundredths of a story."""
_STRUCK: Final = ((Side.WALLET,), (Side.LEDGER,), (Side.WALLET, Side.LEDGER))
_ACCOUNTS_MAX: Final = 2
_DEPTH_MAX: Final = 6
"""Deep enough for a refund and the sale it gives back."""
_TWICE: Final = 0.5
_TRIES_MAX: Final = 10
_PAUSE_S: Final = 1.0

_Books = dict[tuple[Side, str], Posted]


class Damage:
    """What befalls the books of one story. `first`: the number of its first checkout."""

    def __init__(self, house: House, first: int) -> None:
        self._house = house
        self._chance = Random(f"damage {house.weather.seed} {first}")
        self.strikes = self._chance.random() < SHARE
        self._party = Party("hour")

    async def strike(self) -> list[str]:
        """Some postings are gone, and come back. Returns what was wrong with what the product made of it."""
        whole = self._books()
        wrong = [f"I12: at rest {_told(each.case)}" for each in self._look()]
        lost = {key for side in self._chance.choice(_STRUCK) for key in self._lose(side)}
        if not lost:
            return wrong
        await self._start_anew({side for side, _ in lost})
        found = self._look()
        wrong += _unlike(found, lost)
        for each in sorted(found, key=lambda each: each.fix is not None and each.fix[0] in BEHIND):
            self._house.trace.met[f"found {each.case.kind}"] += 1
            wrong += await self._house.loop.start(self._party, self._mend(each))
        wrong += [f"I12: after its fix {_told(each.case)}" for each in self._look()]
        return [*wrong, *_changes(whole, self._books())]

    # ---- the loss --------------------------------------------------------------------------------------------

    def _lose(self, side: Side) -> Iterator[tuple[Side, str]]:
        """Takes the newest postings out of some accounts."""
        store, chance = self._house.database.stores[side], self._chance
        accounts = sorted({row[_ACCOUNT[side]] for row in _newest(store, side)})
        for account in chance.sample(accounts, min(len(accounts), chance.randint(1, _ACCOUNTS_MAX))):
            for _ in range(chance.randint(1, _DEPTH_MAX)):
                row = next((row for row in _newest(store, side) if row[_ACCOUNT[side]] == account), None)
                if row is None:
                    break
                name = row[_ID[side]]
                self._house.trace.fault(f"lost {side}", name, "database")
                _forget_command(store, row["tenant"], _METHOD[side], name)
                _TAKE_OUT[side](store, row)
                yield side, name
        self._house.safety.look(side)  # there are fewer rows than it has seen

    async def _start_anew(self, services: set[Side]) -> None:
        """The processes of a service that was restored start with nothing in memory."""
        for address in self._house.shards:
            if address.partition("-")[0] in services:
                self._house.kill(address, "restored")
                await self._house.boot(address)

    # ---- the hour --------------------------------------------------------------------------------------------

    def _look(self) -> list[Found]:
        """As `store.reconciliation.inside` judges an hour, over all there is."""
        promises = [promise for checkout in self._checkouts() for promise in promises_of(checkout)]
        by_id: dict[tuple[Side, Any], Promise] = {(promise.side, promise.id): promise for promise in promises}
        return found_of(compare(promises, self._books().values()), by_id)

    def _checkouts(self) -> Sequence[Any]:
        rows = self._house.database.rows("payment", "payment_events")
        keys = [EntityKey(Tenant(row["tenant"]), row["checkout_id"]) for row in rows]
        loaded = at_once(self._house.database.stores["payment"].load(Wanted(entities=keys)))
        return list(loaded.entities.values())

    def _books(self) -> _Books:
        """All that is posted."""
        database = self._house.database
        heads = {row["journal_id"]: row for row in database.rows("ledger", "journals")}
        entries = [{**heads[row["journal_id"]], **row} for row in database.rows("ledger", "entries")]
        posted = [posted_transfer(row) for row in database.rows("wallet", "entries")] + posted_journals(entries)
        return {(each.side, each.id): each for each in posted}

    async def _mend(self, found: Found) -> list[str]:
        """Sends the fix as the outbox does, until it is taken; perhaps once more."""
        if found.fix is None:
            return []
        kind, body = found.fix[0], json.dumps(found.fix[1])
        peers = Peers(
            ledger=Peer(self._house.network, "ledger-server"), wallet=Peer(self._house.network, "wallet-server"),
            payment=_Nobody(),
        )  # fmt: skip
        times = 1 + (self._chance.random() < _TWICE)
        self._house.trace.met["fix_sent_twice"] += times > 1
        outcomes = [await _sent(peers, kind, json.loads(body)) for _ in range(times)]
        return [f"D10: the fix of {_told(found.case)} ended {each}" for each in outcomes if not isinstance(each, Done)]


class _Nobody:
    """The payment service, which no fix of postings is for."""

    async def report_settlement(self, report: object) -> ItemOutcome:
        raise Bug(f"a posting was mended by {type(report).__name__}")


async def _sent(peers: Peers, kind: str, body: Mapping[str, Any]) -> ItemOutcome | PspTrouble:
    outcome: ItemOutcome | PspTrouble = TryLater(0)
    for _ in range(_TRIES_MAX):
        try:
            outcome = await SENDERS[kind](peers, body)
        except PspTrouble as trouble:
            outcome = trouble
        if isinstance(outcome, Done | Refusal):
            break
        await asyncio.sleep(_PAUSE_S)
    return outcome


# ---- judging -------------------------------------------------------------------------------------------------------

_MISSING: Final = {Side.WALLET: Kind.MISSING_TRANSFER, Side.LEDGER: Kind.MISSING_JOURNAL}


def _unlike(found: Sequence[Found], lost: set[tuple[Side, str]]) -> list[str]:
    """What was lost and not named as such with its automatic fix, and what was named and not lost."""
    wanted = {(_MISSING[side], Class.AUTOMATIC, Action.REPLAY_TODO, name, True) for side, name in lost}
    told = {
        (
            each.case.kind,
            each.case.group,
            each.case.proposal.action,
            each.case.proposal.command,
            each.fix is not None,
        ): each
        for each in found
    }
    unseen = [f"I12: the lost {kind} {name} was not found" for kind, _, _, name, _ in sorted(wanted - set(told))]
    return unseen + [f"I12: nobody lost this: {_told(told[each].case)}" for each in told if each not in wanted]


def _changes(whole: _Books, mended: _Books) -> list[str]:
    """I24: what was confirmed is there again under the id it had, to the last unit, and nothing else is."""
    return [
        f"I24: {side} had {whole.get((side, name))} and has {mended.get((side, name))}"
        for side, name in dict.fromkeys([*whole, *mended])
        if whole.get((side, name)) != mended.get((side, name))
    ]


def _told(case: Discrepancy) -> str:
    return f"{case.kind} of order {case.order_id or '-'}: {case.field} ours {case.ours!r}, theirs {case.theirs!r}"


# ---- rows ----------------------------------------------------------------------------------------------------------

_ID: Final = {Side.WALLET: "transfer_id", Side.LEDGER: "journal_id"}
_ACCOUNT: Final = {Side.WALLET: "wallet_id", Side.LEDGER: "owner"}
_METHOD: Final = {Side.WALLET: APPLY_TRANSFERS, Side.LEDGER: POST_JOURNALS}


_ROOTS: Final = {Side.WALLET: ("wallets", "entries"), Side.LEDGER: ("owners", "journals")}


def _newest(store: MemoryStore[Any], side: Side) -> list[Row]:
    """The last thing that befell each account, where that was a posting: what a closing came after cannot be taken out."""
    roots, postings = (store.tables[name].rows.values() for name in _ROOTS[side])
    name = _ACCOUNT[side]
    versions = {(row["tenant"], row[name]): row["version"] for row in roots}
    return [row for row in postings if row["version"] == versions.get((row["tenant"], row[name]))]


def _take_out_transfer(store: MemoryStore[Any], row: Row) -> None:
    entries, wallets = store.tables["entries"], store.tables["wallets"]
    entries.remove(entries.key(row))
    wallet = wallets.rows[key := (row["slot"], row["tenant"], row["wallet_id"])]
    bucket = f"{row['bucket']}_minor"
    earlier = {**wallet, "version": wallet["version"] - 1, bucket: wallet[bucket] - row["amount_minor"]}
    _go_back(store, "wallets", key, earlier, is_new=row["version"] == 1)


def _take_out_journal(store: MemoryStore[Any], row: Row) -> None:
    journals, entries = store.tables["journals"], store.tables["entries"]
    journals.remove(place := journals.key(row))
    owned = (row["slot"], row["tenant"], row["owner"])
    changes, counts = defaultdict[str, int](int), defaultdict[str, int](int)
    for key in [key for key in entries.rows if key[: len(place)] == place]:
        changes[entries.rows[key]["account"]] += entries.rows[key]["amount_minor"]
        counts[entries.rows[key]["account"]] += 1
        entries.remove(key)
    accounts = store.tables["accounts"]
    for name in [name for name in changes if (*owned, name) in accounts.rows]:
        account = accounts.rows[*owned, name]
        count, balance_minor = account["entry_count"] - counts[name], account["balance_minor"] - changes[name]
        earlier = {**account, "entry_count": count, "balance_minor": balance_minor}
        _go_back(store, "accounts", (*owned, name), earlier, is_new=count == 0)
    owner = store.tables["owners"].rows[owned]
    _go_back(store, "owners", owned, {**owner, "version": owner["version"] - 1}, is_new=row["version"] == 1)


_TAKE_OUT: Final = {Side.WALLET: _take_out_transfer, Side.LEDGER: _take_out_journal}


def _go_back(store: MemoryStore[Any], table: str, key: tuple[Any, ...], earlier: Row, *, is_new: bool) -> None:
    """The row as it was before; none where the posting had made it."""
    if is_new:
        store.tables[table].remove(key)
    else:
        store.tables[table].put_back(key, earlier)


def _forget_command(store: MemoryStore[Any], tenant: str, method: str, name: str) -> None:
    key = CommandKey(Tenant(tenant), method, name)
    store.tables["commands"].remove((slot_of(*key), *key))
