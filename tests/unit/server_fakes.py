"""Hand-written fakes for the doors: shards with scripted answers, readers over plain lists, keys made once, checkouts.

Nothing here sleeps or reads a clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.answer import Accepted, Answer
from servers.auth import Issuer, Verifier
from servers.call import HOUSE, Call, Caller, Role, enter_call
from zerosum.domain.checkout_state import Checkout, submitted
from zerosum.domain.identity import CheckoutId, EntityKey, Key, OrderId, Tenant
from zerosum.domain.journal import Balance, Journal
from zerosum.domain.message import Buyer, CheckoutSubmitted, OrderLine, SubmitCheckout
from zerosum.domain.money import Money
from zerosum.domain.order import Attempt, AttemptState, OrderStatus
from zerosum.domain.todo import Todo, TodoState
from zerosum.domain.wallet import Wallet
from zerosum.readers import (
    AccountRow,
    DeadLetters,
    HistoryRow,
    LedgerEntryRow,
    ListFilter,
    OrderView,
    Page,
    PaymentView,
    TodoRow,
    WalletEntryRow,
    view_of,
)
from zerosum.v1 import payment_pb2 as pb

TENANT = Tenant("acme")
NOW_S = 1_700_000_000
CARD = "4242 4242 4242 4242"
PRIVATE_KEY = Ed25519PrivateKey.generate()
PRIVATE_PEM = PRIVATE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
ISSUER = Issuer(PRIVATE_PEM, "dev")


def verifier(now_s: float = NOW_S) -> Verifier:
    """Verifies what ISSUER signs, at a standing clock."""
    return Verifier({"dev": PRIVATE_KEY.public_key()}, now=lambda: now_s)


def token(role: Role = Role.SERVICE, tenant: Tenant = TENANT, subject: str = "shop") -> str:
    """A token valid for an hour."""
    return ISSUER.token(Caller(tenant, role, subject), expires_at_s=NOW_S + 3_600)


def bearer(role: Role = Role.SERVICE, tenant: Tenant = TENANT, subject: str = "shop") -> tuple[tuple[str, str], ...]:
    """Metadata with such a token."""
    return (("authorization", f"Bearer {token(role, tenant, subject)}"),)


PAYMENT_PROCESS = bearer(tenant=HOUSE, subject="payment")
EDGE_PROCESS = bearer(tenant=HOUSE, subject="edge")


def enter(role: Role = Role.SERVICE, tenant: Tenant = TENANT, subject: str = "shop") -> Call:
    """Makes a call current, for servicers called without a frame."""
    call = Call(Caller(tenant, role, subject), "/test", "request-1")
    enter_call(call)
    return call


def create_request(orders: int = 2, **changed: Any) -> pb.CreatePaymentRequest:
    """A good request; `changed` replaces top-level fields."""
    request = pb.CreatePaymentRequest(
        checkout_id="co-1",
        buyer_info=pb.BuyerInfo(buyer_account="buyer-1", name="Jo Doe", email="jo@example.com", country="DE"),
        payment_method=pb.PaymentMethod(token="pm_card_visa"),
        payment_orders=[
            pb.PaymentOrderRequest(
                payment_order_id=f"po-{at}", seller_account=f"seller-{at}", amount="12.50", currency="USD"
            )
            for at in range(orders)
        ],
    )
    for name, value in changed.items():
        setattr(request, name, value)
    return request


def checkout(checkout_id: str = "co-1", tenant: Tenant = TENANT, orders: int = 2) -> Checkout:
    """A checkout as it is when just submitted."""
    lines = tuple(OrderLine(OrderId(f"po-{at}"), f"seller-{at}", "12.50", Money(1_250, "USD")) for at in range(orders))
    command = SubmitCheckout(
        tenant, CheckoutId(checkout_id), Key(checkout_id), Buyer("buyer-1", "Jo Doe", "jo@example.com", "DE"),
        "pm_card_visa", lines,
    )  # fmt: skip
    return submitted(CheckoutSubmitted(command, command.fingerprint()), 1_700_000_000_123)


def with_status(before: Checkout, status: OrderStatus, *, is_booked: bool = False) -> Checkout:
    """The checkout with every order in that status, one version later."""
    state = AttemptState.CHARGED if status is OrderStatus.SUCCESS else AttemptState.UNKNOWN
    attempt = Attempt(1, "stripe", state, "pi_1", 0)
    orders = {
        order_id: replace(order, status=status, wallet_updated=is_booked, ledger_updated=is_booked, attempts=(attempt,))
        for order_id, order in before.orders.items()
    }
    return replace(before, orders=orders, version=before.version + 1)


class FakeShards:
    """Shards that answer what they are told to, in order, and keep what was submitted. None left: Accepted."""

    def __init__(self, *answers: Answer, reply: bytes | None = None) -> None:
        self.answers = list(answers)
        self.reply = reply
        self.submitted: list[Any] = []
        self.waited: list[tuple[EntityKey, int]] = []

    async def submit(self, commands: Sequence[Any]) -> Sequence[Answer]:
        """The next answers of the script."""
        self.submitted.extend(commands)
        return [self.answers.pop(0) if self.answers else Accepted() for _ in commands]

    async def outcome(self, entity: EntityKey, timeout_ms: int) -> bytes | None:
        """The reply it was made with, at once."""
        self.waited.append((entity, timeout_ms))
        return self.reply


class FakePaymentReader:
    """Checkouts from a list; `states` are shown one after the other to whoever reads again."""

    def __init__(self, *checkouts: Checkout, todos: Sequence[TodoRow] = (), history: Sequence[HistoryRow] = ()) -> None:
        self.states: dict[EntityKey, list[Checkout]] = {}
        for one in checkouts:
            self.states.setdefault(one.key, []).append(one)
        self.todo_rows = list(todos)
        self.history_rows = list(history)
        self.asked: list[Any] = []
        self.after = ""

    async def checkout(self, key: EntityKey) -> Checkout | None:
        states = self.states.get(key)
        if not states:
            return None
        return states.pop(0) if len(states) > 1 else states[0]

    async def payment(self, key: EntityKey) -> PaymentView | None:
        found = await self.checkout(key)
        return view_of(found) if found is not None else None

    async def order(self, tenant: Tenant, order_id: OrderId) -> OrderView | None:
        home = await self.home_of(tenant, order_id)
        shown = await self.payment(home) if home is not None else None
        return next((order for order in shown.orders if order.order_id == order_id), None) if shown else None

    async def reply(self, key: EntityKey) -> bytes | None:
        found = await self.checkout(key)
        return found.reply if found is not None else None

    async def home_of(self, tenant: Tenant, order_id: OrderId) -> EntityKey | None:
        homes = (key for key, states in self.states.items() if key.tenant == tenant and order_id in states[0].orders)
        return next(homes, None)

    async def checkouts(self, tenant: Tenant, wanted: ListFilter, rows_max: int, after: str) -> Page[Checkout]:
        self.asked.append((tenant, wanted, rows_max, after))
        return Page([states[0] for key, states in self.states.items() if key.tenant == tenant], self.after)

    async def history(self, key: EntityKey) -> Sequence[HistoryRow]:
        return self.history_rows if key in self.states else []

    async def todos(self, tenant: Tenant, state: TodoState | None, rows_max: int, after: str) -> Page[TodoRow]:
        self.asked.append((tenant, state, rows_max, after))
        return Page([row for row in self.todo_rows if row.entity.tenant == tenant], self.after)

    async def todo(self, key: EntityKey, todo_id: str) -> TodoRow | None:
        return next((row for row in self.todo_rows if row.entity == key and row.todo.id == todo_id), None)

    async def in_flight(
        self, tenant: Tenant, older_than_ms: int, rows_max: int, after: str
    ) -> Page[tuple[EntityKey, OrderId]]:
        self.asked.append((tenant, older_than_ms, rows_max, after))
        rows = [
            (key, order_id)
            for key, states in self.states.items()
            if key.tenant == tenant
            for order_id in states[0].orders
        ]
        return Page(rows, self.after)

    async def count_in_flight(self, older_than_ms: int) -> int:
        return 0

    async def dead_letters(self) -> Sequence[DeadLetters]:
        return []


class FakeWalletReader:
    """One wallet and its entries."""

    def __init__(self, wallet: Wallet | None = None, entries: Sequence[WalletEntryRow] = ()) -> None:
        self._wallet = wallet
        self._entries = entries

    async def wallet(self, tenant: Tenant, owner: str, currency: str) -> Wallet | None:
        found = self._wallet
        return found if found and found.key == EntityKey(tenant, f"{owner}:{currency}") else None

    async def entries(
        self, tenant: Tenant, owner: str, currency: str, rows_max: int, after: str
    ) -> Page[WalletEntryRow]:
        return Page(self._entries if tenant == TENANT else [], "")


class FakeLedgerReader:
    """Journals by id, balances by account; all of one tenant."""

    def __init__(
        self,
        journals: Sequence[Journal] = (),
        balances: Mapping[str, Balance] | None = None,
        tenant: Tenant = TENANT,
    ) -> None:
        self._tenant = tenant
        self._journals = {journal.journal_id: journal for journal in journals}
        self._balances = dict(balances or {})

    async def journal(self, tenant: Tenant, journal_id: str) -> tuple[Journal, int] | None:
        found = self._journals.get(Key(journal_id))
        return (found, 1_000) if found and found.tenant == tenant else None

    async def entries(self, tenant: Tenant, account: str, rows_max: int, after: str) -> Page[LedgerEntryRow]:
        rows = [
            LedgerEntryRow(journal.journal_id, entry.account, entry.money, 1_000)
            for journal in self._journals.values()
            for entry in journal.entries
            if entry.account == account and journal.tenant == tenant
        ]
        return Page(rows, "")

    async def balance(self, tenant: Tenant, account: str) -> Balance | None:
        return self._balances.get(account) if tenant == self._tenant else None

    async def trial_balance(self, tenant: Tenant, rows_max: int, after: str) -> Page[AccountRow]:
        rows = [AccountRow(account, account.rpartition(":")[2], balance) for account, balance in self._balances.items()]
        return Page(rows if tenant == self._tenant else [], "")

    async def sums(self, tenant: Tenant) -> Sequence[Money]:
        return [Money(0, "USD")]


def dead_todo(tenant: Tenant = TENANT) -> TodoRow:
    """A dead letter of checkout co-1."""
    from zerosum.domain.todo import TodoKind

    todo = Todo("confirm/1/po-0", TodoKind.CONFIRM, OrderId("po-0"), 1, 20, 2_000, TodoState.DEAD, "NOT_SENT", 1_000)
    return TodoRow(EntityKey(tenant, "co-1"), todo, '{"object_id":"pi_1"}')


class MemoryLog:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **line: Any) -> None:
        """Keeps the line."""
        self.lines.append({"event": event, **line})

    error = info
    warning = info
