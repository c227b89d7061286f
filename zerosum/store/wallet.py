"""How a wallet is kept: one row of balances, an entry for every movement, and that it is closed, for ever.

The wallet service keeps no table of refused key reuses: its one caller is the payment service, which derives every key.

Invariant: a bucket's balance is the sum of its entries; both are written in one commit.
"""

from collections.abc import Iterator, Mapping, Sequence

from zerosum.domain.account import AccountClosed, Closure
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.domain.wallet import TransferApplied, Wallet
from zerosum.errors import Bug
from zerosum.ports import Change, TurnRecord
from zerosum.store import table as t
from zerosum.store.mapping import Aggregate, LogRow, Row, RowPair


def pairs(slot: int, before: Wallet | None, after: Wallet) -> Iterator[RowPair]:
    """The wallet's one mutable row, and its closure when it comes."""
    yield t.WALLETS, _wallet_row(slot, before) if before else None, _wallet_row(slot, after)
    if after.closure is not None and (before is None or before.closure is None):
        yield t.WALLET_CLOSURES, None, _closure_row(slot, after, after.closure)


def _wallet_row(slot: int, wallet: Wallet) -> Row:
    return {
        "slot": slot, "tenant": wallet.key.tenant, "wallet_id": wallet.key.id, "version": wallet.version,
        "owner": wallet.owner, "currency": wallet.currency, "pending_minor": wallet.pending_minor,
        "available_minor": wallet.available_minor, "in_payout_minor": wallet.in_payout_minor,
        "receivable_minor": wallet.receivable_minor, "created_at_ms": wallet.created_at_ms,
        "updated_at_ms": wallet.updated_at_ms,
    }  # fmt: skip


def _closure_row(slot: int, wallet: Wallet, closure: Closure) -> Row:
    return {
        "slot": slot, "tenant": wallet.key.tenant, "wallet_id": wallet.key.id, "version": closure.version,
        "closed_by": closure.closed_by, "reason": closure.reason, "closed_at_ms": closure.at_ms,
    }  # fmt: skip


def closure_of(row: Row) -> Closure:
    """The closing a row stands for."""
    return Closure(row["version"], row["closed_by"], row["reason"], row["closed_at_ms"])


def log_rows(change: Change[Wallet] | None, turns: Sequence[tuple[int, TurnRecord]], now_ms: int) -> Iterator[LogRow]:
    """One entry a transfer applied; a closing has a row of its own beside the wallet's."""
    for index, turn in turns:
        for offset, event in enumerate(turn.events):
            if isinstance(event, AccountClosed):
                continue
            if change is None or not isinstance(event, TransferApplied):
                raise Bug(f"wallet {turn.entity.id}: {type(event).__name__} without a change of the wallet")
            row: Row = {
                "tenant": turn.entity.tenant, "wallet_id": turn.entity.id, "version": turn.first_version + offset,
                "transfer_id": event.transfer_id, "bucket": event.bucket, "amount_minor": event.amount_minor,
                "currency": change.after.currency, "payment_order_id": event.order_id, "at_ms": now_ms,
            }  # fmt: skip
            yield index, t.WALLET_ENTRIES, row


def state_of(root: Row, children: Mapping[str, Sequence[Row]]) -> Wallet:
    """The wallet these rows stand for."""
    closures = children.get("closures", ())
    return Wallet(
        key=EntityKey(Tenant(root["tenant"]), root["wallet_id"]), owner=root["owner"], currency=root["currency"],
        version=root["version"], pending_minor=root["pending_minor"], available_minor=root["available_minor"],
        in_payout_minor=root["in_payout_minor"], receivable_minor=root["receivable_minor"],
        created_at_ms=root["created_at_ms"], updated_at_ms=root["updated_at_ms"],
        closure=closure_of(closures[0]) if closures else None,
    )  # fmt: skip


WALLET: Aggregate[Wallet] = Aggregate(
    service="wallet",
    slots=t.WALLET_SLOTS,
    slot_log=t.WALLET_SLOT_LOG,
    commands=t.WALLET_COMMANDS,
    root=t.WALLETS,
    children=(t.WALLET_CLOSURES,),
    fixed={"wallets": frozenset({"owner", "currency", "created_at_ms"})},
    pairs=pairs,
    log_rows=log_rows,
    state_of=state_of,
)
"""The wallet service's mapping."""
