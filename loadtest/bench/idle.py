"""What entities cost that nobody asks for: so many of each kind, settled, in a shard's own memory, and how the process
grew by them.

Every command comes as a shard's process gets it, out of bytes, so that no two entities share a text that they would not
share there; and the shards' own bindings take the turns.

Invariant: what is measured is an `actors.memory.Memory` as a shard fills it: its table, keys and stamps are part of it.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from actors.memory import Memory
from actors.packing import pack, unpack
from actors.payment import PaymentBinding
from actors.posting import ledger_binding, wallet_binding
from actors.turn import Known
from servers.reply import encode_reply
from zerosum.domain import message as m
from zerosum.domain.draft import Policy
from zerosum.domain.identity import CheckoutId, EntityKey, Key, OrderId, Tenant
from zerosum.domain.journal import Journal, Movement, entries_of, journal
from zerosum.domain.money import Money
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.errors import Bug
from zerosum.ports import RiskAnswer

SAMPLE: Final = 10_000
_NOW_MS: Final = 1_790_000_000_000
_TENANT: Final = Tenant("bench")
_POLICY: Final = Policy(
    psp="stripe", answer_after_ms=10_000, lease_ms=15_000, backoff_base_ms=100, backoff_cap_ms=2_000, horizon_ms=86_400_000
)  # fmt: skip


def idle_bytes(count: int = SAMPLE) -> dict[str, float]:
    """Memory of one idle entity by kind, the mean over so many: a settled checkout of one order, a wallet, a ledger owner.

    A wallet and an owner as one credit and one journal leave them. Blocking: some seconds of CPU for 10,000 of each.
    """
    return {kind: _growth(binding, story, count) / count for kind, (binding, story) in _kinds().items()}


def _kinds() -> Mapping[str, tuple[Any, Callable[[int], Iterator[Any]]]]:
    """How an entity of each kind takes its turns, and the commands that the n-th of them has met."""
    checkouts = PaymentBinding(_POLICY, encode_reply, lambda _: RiskAnswer(m.Verdict.ALLOW, ""))
    return {
        "settled checkouts": (checkouts, _checkout),
        "wallets": (wallet_binding(), _wallet),
        "ledger owners": (ledger_binding(), _owner),
    }


def _growth(binding: Any, story: Callable[[int], Iterator[Any]], count: int) -> int:
    """Bytes by which this process grew while a memory was filled with so many."""
    _fill(Memory(), binding, story, 1)  # what is made once for all stands before
    memory: Memory[Any] = Memory()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        _fill(memory, binding, story, count)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if len(memory) != count:
        raise Bug(f"{len(memory)} entities are in memory, and {count} were put there")
    return after - before


def _fill(memory: Memory[Any], binding: Any, story: Callable[[int], Iterator[Any]], count: int) -> None:
    for number in range(count):
        state: Any = None
        for sent in story(number):
            command = unpack(pack(sent))
            memory.tick(_NOW_MS + number)
            state = binding.take(state, command, Known(), _NOW_MS + number).after
            memory.put(binding.entity(command), state)


# ---- what each has met -----------------------------------------------------------------------------------------------


def _checkout(number: int) -> Iterator[m.CheckoutCommand]:
    """Submitted, prepared, charged, credited and posted: nothing is owed for it any more."""
    name = f"c-{number:06}"
    key, order, money = EntityKey(_TENANT, name), OrderId(f"{name}-o1"), _money(number)
    line = m.OrderLine(order, f"seller-{number:06}", f"{money.amount_minor / 100:.2f}", money)
    buyer = m.Buyer(f"buyer-{number:06}", "Ada", f"ada-{number}@example.com", "GB")
    yield m.CheckoutCommand(
        key, m.SubmitCheckout(_TENANT, CheckoutId(name), Key(name), buyer, f"pm_card_{number:06}", (line,))
    )
    for status in (m.ObjectStatus.UNCONFIRMED, m.ObjectStatus.CHARGED):
        fact = m.Report(m.ReportSource.ANSWER, order, "stripe", f"pi_{name}", status, money, order, "")
        yield m.CheckoutCommand(key, fact)
    for kind in ("credit_wallet", "post_journal"):
        yield m.CheckoutCommand(key, m.RecordDelivery(f"{kind}/1/{order}"))


def _wallet(number: int) -> Iterator[Transfer]:
    order = OrderId(f"c-{number:06}-o1")
    yield Transfer(
        _TENANT, Key(f"t-{number:06}"), f"seller-{number:06}", TransferKind.CREDIT_PENDING, _money(number), order
    )


def _owner(number: int) -> Iterator[Journal]:
    seller, gross = f"seller-{number:06}", _money(number)
    entries = entries_of(
        Movement.CAPTURE, gross=gross, fee=Money(0, gross.currency), buyer=f"buyer-{number:06}", seller=seller, psp="stripe"
    )  # fmt: skip
    made = journal(
        tenant=_TENANT, journal_id=Key(f"j-{number:06}"), owner=seller, movement=Movement.CAPTURE,
        entries=entries, order_id=OrderId(f"c-{number:06}-o1"),
    )  # fmt: skip
    if not isinstance(made, Journal):
        raise Bug(f"a journal of ours is refused: {made}")
    yield made


def _money(number: int) -> Money:
    return Money(100_000 + number, "USD")
