"""Every table there is, on one page: the same definitions make PostgreSQL's, CockroachDB's and the memory store's.

Kinds of table, in `info["kind"]`, are what the commit and the memory store go by:

    slot     one row a slot: epoch, seq, hash. Moved by compare-and-swap, first in every commit.
    log      append-only; its key begins with (slot, seq, ord). Rows are never changed or removed.
    once     append-only; unique for ever by an id: commands, inbox.
    root     one row an entity, with `version`: inserted once, then compare-and-swap.
    child    rows below a root, written only in a commit that moves their root.
    fact     rows below a root, written in a commit that moves it, and never changed or removed.
    private  one erasable row: the only place of buyer data.

Invariant: `slot` is the first column of every growing key, so that a shard reads and writes one key range.
Money is BIGINT minor units beside a currency; time is BIGINT milliseconds of the database's clock (UTC).
Text holds canonical JSON where a column says "JSON", so that hashes and replies repeat byte for byte.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData()
SERVICES = ("payment", "wallet", "ledger")


def _text(name: str, *, optional: bool = False) -> Column[str]:
    return Column(name, Text, nullable=optional)


def _long(name: str, *, optional: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=optional)


def _small(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _bytes(name: str, *, optional: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=optional)


def _table(service: str, name: str, kind: str, *parts: Any, key: tuple[str, ...]) -> Table:
    return Table(name, METADATA, *parts, PrimaryKeyConstraint(*key), schema=service, info={"kind": kind})


def _logs_of(service: str) -> tuple[Table, Table, Table]:
    """What every service has: its slots, the log of each slot, its commands."""
    slot = _table(
        service, "slots", "slot",
        _small("slot"), _long("epoch"), _long("seq"), _bytes("hash"), _text("deployment"),
        key=("slot",),
    )  # fmt: skip
    slot_log = _table(
        service, "slot_log", "log",
        _small("slot"), _long("seq"), _long("epoch"), _bytes("hash"), _long("at_ms"),
        key=("slot", "seq"),
    )  # fmt: skip
    # slot = slot_of(tenant, method, key): uniqueness needs no look at the entity. outcome: JSON of the refusal; NULL where it
    # was taken, as what came of it is its entity's to tell.
    command = _table(
        service, "commands", "once",
        _small("slot"), _text("tenant"), _text("method"), _text("key"), _text("fingerprint"), _text("entity_id"),
        _text("outcome", optional=True), _long("at_ms"),
        key=("slot", "tenant", "method", "key"),
    )  # fmt: skip
    return slot, slot_log, command


# ---- payment -------------------------------------------------------------------------------------------------------

PAYMENT_SLOTS, PAYMENT_SLOT_LOG, PAYMENT_COMMANDS = _logs_of("payment")

# Specification: payment_event. credit_card_info is the PSP's token; seller_info is kept per order (seller_account).
# `reply` is the fixed reply (protobuf bytes); NULL until answered. on_partial: KEEP or REVERSE the paid orders of a partly
# failed checkout; it has a default because revision 0001 wrote rows without it.
PAYMENT_EVENTS = _table(
    "payment", "payment_events", "root",
    _small("slot"), _text("tenant"), _text("checkout_id"), _long("version"), _text("fingerprint"),
    _text("buyer_account"), _text("credit_card_info"), _text("risk_verdict"), _text("risk_reason"),
    _text("status"), _flag("is_payment_done"), _bytes("reply", optional=True),
    _long("created_at_ms"), _long("updated_at_ms"), Column("on_partial", Text, nullable=False, server_default="KEEP"),
    # The condition always holds; only lists state it. Else the planner, where statistics are young, takes this index for a
    # second primary key and reads a whole tenant for one checkout. Its column never changes: an update need not touch an index.
    Index(
        "payment_events_by_time", "slot", "tenant", "created_at_ms", "checkout_id",
        postgresql_where=text("created_at_ms > 0"),
    ),
    key=("slot", "tenant", "checkout_id"),
)  # fmt: skip

# buyer_info: JSON of name, email, country. Erasing it touches nothing else.
BUYERS = _table(
    "payment", "buyers", "private",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("buyer_info"),
    key=("slot", "tenant", "checkout_id"),
)  # fmt: skip

PAYMENT_ORDERS = _table(
    "payment", "payment_orders", "child",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("payment_order_id"), _small("position"),
    _text("buyer_account"), _text("seller_account"), _text("amount"), _long("amount_minor"), _text("currency"),
    _text("payment_order_status"), _text("reason"), _flag("ledger_updated"), _flag("wallet_updated"),
    _text("psp_reference"), _long("created_at_ms"), _long("updated_at_ms"),
    CheckConstraint("amount_minor > 0", name="payment_orders_amount_positive"),
    UniqueConstraint("payment_order_id", "tenant", name="payment_orders_id_once"),  # the id first: see payment_orders_by_seller
    # The seller first: an index that begins as the primary key's columns do tempts the planner while statistics are young.
    Index("payment_orders_by_seller", "seller_account", "tenant", "slot", "checkout_id"),
    Index(
        "payment_orders_in_flight", "slot", "created_at_ms",
        postgresql_where=text("payment_order_status IN ('NOT_STARTED', 'EXECUTING', 'PENDING', 'AUTHORIZED')"),
    ),
    key=("slot", "tenant", "checkout_id", "payment_order_id"),
)  # fmt: skip

# state: UNKNOWN (born so), CHARGED, NO_CHARGE (only on a definitive answer). One attempt that is not NO_CHARGE per order.
ATTEMPTS = _table(
    "payment", "attempts", "child",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("payment_order_id"), _small("number"),
    _text("psp"), _text("state"), _text("psp_object_id"), _long("opened_at_ms"),
    Index("attempts_one_live", "tenant", "payment_order_id", unique=True, postgresql_where=text("state <> 'NO_CHARGE'")),
    key=("slot", "tenant", "checkout_id", "payment_order_id", "number"),
)  # fmt: skip

# request: JSON, the exact request every re-send is built from. state: see OperationState.
OPERATIONS = _table(
    "payment", "operations", "child",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("payment_order_id"), _text("kind"), _small("number"),
    _small("attempt"), _text("key"), _text("request"), _text("state"), _text("answer"), _long("started_at_ms"),
    UniqueConstraint("key", "tenant", name="operations_key_once"),  # the key first: likewise
    # Only the reconciler states the condition: what a night has not met yet of orders it has.
    Index(
        "refunds_by_time", "slot", "started_at_ms", "checkout_id",
        postgresql_where=text("kind = 'refund' AND started_at_ms > 0"),
    ),
    key=("slot", "tenant", "checkout_id", "payment_order_id", "kind", "number"),
)  # fmt: skip

# Money that goes back to the buyer: a reversal of ours, or asked for by a caller. cause, status: see RefundCause, RefundStatus.
# One refund that has not FAILED per order. reason: why, in the caller's or a peer's word; outcome: why it FAILED.
REFUNDS = _table(
    "payment", "refunds", "child",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("payment_order_id"), _small("number"),
    _text("cause"), _text("status"), _long("amount_minor"), _text("currency"), _text("reason"), _text("requested_by"),
    _text("outcome"), _long("opened_at_ms"), _long("ended_at_ms"),
    CheckConstraint("amount_minor > 0", name="refunds_amount_positive"),
    Index("refunds_one_live", "payment_order_id", "tenant", unique=True, postgresql_where=text("status <> 'FAILED'")),
    key=("slot", "tenant", "checkout_id", "payment_order_id", "number"),
)  # fmt: skip

# The outbox, the retry queue and the dead letters. state: OPEN, DONE, DEAD. due_at_ms is the lease while it runs.
TODOS = _table(
    "payment", "todos", "child",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("todo_id"), _text("payment_order_id"), _text("kind"),
    _small("number"), _small("tries"), _long("due_at_ms"), _text("state"), _text("reason"), _long("created_at_ms"),
    Index("todos_due", "slot", "due_at_ms", postgresql_where=text("state = 'OPEN'")),
    Index("todos_dead", "slot", "created_at_ms", postgresql_where=text("state = 'DEAD'")),
    key=("slot", "tenant", "checkout_id", "todo_id"),
)  # fmt: skip

# kind: late_charge, second_charge, wrong_money, ... What finance must look at. state: OPEN, RESOLVED.
MISMATCHES = _table(
    "payment", "mismatches", "child",
    _small("slot"), _text("tenant"), _text("checkout_id"), _text("mismatch_id"), _small("number"),
    _text("payment_order_id"), _text("kind"), _text("psp"), _text("psp_object_id"), _long("amount_minor"),
    _text("currency"), _text("detail"), _text("state"), _long("opened_at_ms"),
    # The condition always holds; only the reconciler states it: as that of payment_events_by_time.
    Index("mismatches_by_time", "slot", "opened_at_ms", "checkout_id", postgresql_where=text("opened_at_ms > 0")),
    key=("slot", "tenant", "checkout_id", "mismatch_id"),
)  # fmt: skip

# Every event of every checkout. detail: JSON without card data, tokens or buyer details.
HISTORY = _table(
    "payment", "history", "log",
    _small("slot"), _long("seq"), _small("ord"), _text("tenant"), _text("checkout_id"), _long("version"),
    _text("type"), _text("payment_order_id"), _text("status"), _text("detail"), _long("at_ms"),
    UniqueConstraint("slot", "tenant", "checkout_id", "version", name="history_version_once"),
    key=("slot", "seq", "ord"),
)  # fmt: skip

# Requests refused because their key was used for another one: nothing was executed.
REFUSALS = _table(
    "payment", "refusals", "log",
    _small("slot"), _long("seq"), _small("ord"), _text("tenant"), _text("method"), _text("key"), _text("fingerprint"),
    _text("reason"), _long("at_ms"),
    key=("slot", "seq", "ord"),
)  # fmt: skip

# Webhooks, each once. outcome: APPLIED, IGNORED, UNMATCHED. verified_with: which secret's signature held.
INBOX = _table(
    "payment", "inbox", "once",
    _small("slot"), _text("psp"), _text("event_id"), _text("tenant"), _text("checkout_id"), _text("type"),
    _text("psp_object_id"), _text("body_sha256"), _text("verified_with"), _text("outcome"), _long("received_at_ms"),
    UniqueConstraint("psp", "event_id", name="inbox_event_once"),
    key=("slot", "psp", "event_id"),
)  # fmt: skip

# ---- wallet --------------------------------------------------------------------------------------------------------

WALLET_SLOTS, WALLET_SLOT_LOG, WALLET_COMMANDS = _logs_of("wallet")

WALLETS = _table(
    "wallet", "wallets", "root",
    _small("slot"), _text("tenant"), _text("wallet_id"), _long("version"), _text("owner"), _text("currency"),
    _long("pending_minor"), _long("available_minor"), _long("in_payout_minor"), _long("receivable_minor"),
    _long("created_at_ms"), _long("updated_at_ms"),
    CheckConstraint("pending_minor >= 0", name="wallets_pending_not_negative"),
    CheckConstraint("available_minor >= 0", name="wallets_available_not_negative"),
    CheckConstraint("in_payout_minor >= 0", name="wallets_in_payout_not_negative"),
    key=("slot", "tenant", "wallet_id"),
)  # fmt: skip

# A wallet that takes no new money any more. version: of the wallet, by its closing.
WALLET_CLOSURES = _table(
    "wallet", "closures", "fact",
    _small("slot"), _text("tenant"), _text("wallet_id"), _long("version"), _text("closed_by"), _text("reason"),
    _long("closed_at_ms"),
    key=("slot", "tenant", "wallet_id"),
)  # fmt: skip

WALLET_ENTRIES = _table(
    "wallet", "entries", "log",
    _small("slot"), _long("seq"), _small("ord"), _text("tenant"), _text("wallet_id"), _long("version"),
    _text("transfer_id"), _text("bucket"), _long("amount_minor"), _text("currency"), _text("payment_order_id"),
    _long("at_ms"),
    CheckConstraint("amount_minor <> 0", name="wallet_entries_amount_not_zero"),
    UniqueConstraint("tenant", "transfer_id", "bucket", name="wallet_entries_transfer_once"),
    Index("wallet_entries_by_wallet", "slot", "tenant", "wallet_id", "version"),
    key=("slot", "seq", "ord"),
)  # fmt: skip

# ---- ledger --------------------------------------------------------------------------------------------------------

LEDGER_SLOTS, LEDGER_SLOT_LOG, LEDGER_COMMANDS = _logs_of("ledger")

# The entity that writes journals: a seller or user; "psp:<psp>" those of settlement and of what people approve.
OWNERS = _table(
    "ledger", "owners", "root",
    _small("slot"), _text("tenant"), _text("owner"), _long("version"), _long("created_at_ms"), _long("updated_at_ms"),
    key=("slot", "tenant", "owner"),
)  # fmt: skip

# Balances of the owner's own accounts; all other accounts are entries and checkpoints only.
ACCOUNTS = _table(
    "ledger", "accounts", "child",
    _small("slot"), _text("tenant"), _text("owner"), _text("account"), _text("currency"), _long("balance_minor"),
    _long("entry_count"),
    key=("slot", "tenant", "owner", "account"),
)  # fmt: skip

# An owner's accounts of one currency that take no new money any more. version: of the owner, by their closing.
OWNER_CLOSURES = _table(
    "ledger", "closures", "fact",
    _small("slot"), _text("tenant"), _text("owner"), _text("currency"), _long("version"), _text("closed_by"),
    _text("reason"), _long("closed_at_ms"),
    key=("slot", "tenant", "owner", "currency"),
)  # fmt: skip

JOURNALS = _table(
    "ledger", "journals", "log",
    _small("slot"), _long("seq"), _small("ord"), _text("tenant"), _text("owner"), _long("version"),
    _text("journal_id"), _text("movement"), _text("payment_order_id"), _long("at_ms"),
    UniqueConstraint("tenant", "journal_id", name="journals_id_once"),
    UniqueConstraint("slot", "tenant", "owner", "version", name="journals_version_once"),
    key=("slot", "seq", "ord"),
)  # fmt: skip

LEDGER_ENTRIES = _table(
    "ledger", "entries", "log",
    _small("slot"), _long("seq"), _small("ord"), _small("line"), _text("tenant"), _text("journal_id"),
    _text("account"), _text("currency"), _long("amount_minor"), _long("at_ms"),
    CheckConstraint("amount_minor <> 0", name="ledger_entries_amount_not_zero"),
    Index("ledger_entries_by_account", "tenant", "account", "slot", "seq", "ord", "line"),
    key=("slot", "seq", "ord", "line"),
)  # fmt: skip

# The sum of an account's entries in one slot up to and with `seq`. The newest row counts; older ones stay.
CHECKPOINTS = _table(
    "ledger", "checkpoints", "log",
    _small("slot"), _text("tenant"), _text("account"), _long("seq"), _long("balance_minor"), _long("entry_count"),
    key=("slot", "tenant", "account", "seq"),
)  # fmt: skip

APPEND_ONLY_KINDS = ("log", "once", "fact")
"""Kinds whose rows nobody changes: roles may INSERT and SELECT, triggers refuse the rest."""
