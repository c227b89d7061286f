"""What a checkout is told and what it tells: commands (imperative) and events (past tense).

Commands of callers may be refused. Facts (`Report`) are never refused: what happened is recorded whatever our state says.
Every message is plain data: it pickles, compares and prints without card data (tokens are kept out of events).
"""

from dataclasses import dataclass
from enum import StrEnum

from zerosum.domain.identity import CheckoutId, EntityKey, Key, OrderId, Tenant, fingerprint_of
from zerosum.domain.money import Money
from zerosum.domain.order import Operation, OrderEvent
from zerosum.domain.refund import PostingRefused, RefundEnded, RefundNotFound, RefundOpened, RequestRefund
from zerosum.domain.refusal import Reason
from zerosum.domain.todo import Todo

# ---- commands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who buys. Everything but `account` lives in one erasable row only."""

    account: str
    name: str
    email: str
    country: str


@dataclass(frozen=True, slots=True)
class OrderLine:
    """Money for one seller, as asked for: the caller's `amount` string and the same as `money`."""

    order_id: OrderId
    seller_account: str
    amount: str
    money: Money


class OnPartial(StrEnum):
    """What becomes of the paid orders of a checkout that is partly failed: the caller's choice."""

    KEEP = "KEEP"
    REVERSE = "REVERSE"
    """All or none: what was paid goes back to the buyer."""


@dataclass(frozen=True, slots=True)
class SubmitCheckout:
    """Pay these orders with this token. `key`: the caller's idempotency key."""

    tenant: Tenant
    checkout_id: CheckoutId
    key: Key
    buyer: Buyer
    token: str
    lines: tuple[OrderLine, ...]
    on_partial: OnPartial = OnPartial.KEEP

    def fingerprint(self) -> str:
        """A versioned hash over parsed fields: tells a repeated request from another one. The key is not part of it.

        KEEP is left out: it is what requests of before this choice meant, and theirs must not become others.
        """
        buyer = (self.buyer.account, self.buyer.name, self.buyer.email, self.buyer.country)
        lines = [
            field
            for line in self.lines
            for field in (line.order_id, line.seller_account, str(line.money.amount_minor), line.money.currency)
        ]
        choice = [self.on_partial] if self.on_partial is not OnPartial.KEEP else []
        return fingerprint_of(self.checkout_id, *buyer, self.token, *lines, *choice)


class Verdict(StrEnum):
    """What the risk check says. NONE: not asked yet."""

    NONE = "NONE"
    ALLOW = "ALLOW"
    BLOCK = "BLOCK"


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """The risk check answered."""

    todo_id: str
    verdict: Verdict
    reason: str


class ObjectStatus(StrEnum):
    """What a PSP's object is, in our words. Only CHARGED says that money moved; only CANCELED and REFUSED that none can."""

    UNCONFIRMED = "UNCONFIRMED"
    """Exists, not confirmed: no money moved, and a confirm may be sent."""
    PROCESSING = "PROCESSING"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    AUTHORIZED = "AUTHORIZED"
    CHARGED = "CHARGED"
    DECLINED = "DECLINED"
    """The last confirm was declined, but the object can still be paid: cancel it before believing in no charge."""
    CANCELED = "CANCELED"
    """Final: can never be paid."""
    REFUSED = "REFUSED"
    """The PSP refused to create the object: there is none."""
    REFUNDED = "REFUNDED"
    REFUND_FAILED = "REFUND_FAILED"
    """Still charged: the refund asked for was refused for good, or came back to us."""


class ReportSource(StrEnum):
    """How we came to know. The rules are the same for all."""

    ANSWER = "answer"
    POLL = "poll"
    WEBHOOK = "webhook"
    SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A verified webhook, to be put into the inbox with what it reports. `verified_with`: name of the secret that held."""

    psp: str
    event_id: str
    type: str
    body_sha256: str
    verified_with: str


@dataclass(frozen=True, slots=True)
class SettlementLineRef:
    """A line of a settlement file, by the PSP's own id of the movement: in a corrected file it is the same fact."""

    psp: str
    line_id: str
    file_id: str

    @property
    def key(self) -> Key:
        """The idempotency key of a fact told by this line."""
        return Key(f"{self.psp}/{self.line_id}")


@dataclass(frozen=True, slots=True)
class Report:
    """A fact from a PSP about one of its objects.

    `money` and `reference` are what the PSP says they are, to be compared with what was asked. `reason`: its decline or
    pending code in our words. `todo_id` and `tries`: the run that learned it, "" and 0 for a webhook or a settlement line.
    `refund_key`: of the refund it tells of, "" where the PSP does not name it. `is_unrefunded`: of a refund that was asked for,
    the PSP shows that nothing of the charge was given back or is on its way, under that key or any other; False says nothing.
    """

    source: ReportSource
    order_id: OrderId
    psp: str
    object_id: str
    status: ObjectStatus
    money: Money
    reference: str
    reason: str
    todo_id: str = ""
    tries: int = 0
    delivery: Delivery | None = None
    settlement: SettlementLineRef | None = None
    refund_key: str = ""
    is_unrefunded: bool = False

    def fingerprint(self) -> str:
        """A versioned hash over what the PSP says: tells a line told twice from another fact under the same line's id."""
        money = (str(self.money.amount_minor), self.money.currency)
        return fingerprint_of(self.order_id, self.psp, self.object_id, self.status, *money, self.reference)


class Trouble(StrEnum):
    """Why an effect brought no result. The table of `retry.py` says what follows."""

    NOT_SENT = "NOT_SENT"
    """Provably not executed."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """Perhaps executed."""
    STORED_FAILURE = "STORED_FAILURE"
    """The PSP replays a stored failure to this key for as long as it remembers it: the same key brings nothing new."""
    REFUSED = "REFUSED"
    """A peer refuses for good: people must look."""


@dataclass(frozen=True, slots=True)
class RecordTrouble:
    """A run of an effect brought no result. `jitter_ppm`: chance handed in, 0 to 999,999 parts of a million.

    `refusal`: a peer's own word, where the trouble is REFUSED.
    """

    todo_id: str
    tries: int
    trouble: Trouble
    reason: str
    retry_after_ms: int
    jitter_ppm: int
    refusal: Reason | None = None


@dataclass(frozen=True, slots=True)
class RecordDelivery:
    """A peer has taken what a to-do brought it: the wallet its credit, the ledger its journal."""

    todo_id: str


@dataclass(frozen=True, slots=True)
class ClaimTodo:
    """The time of a to-do may have come: run it if it is open and due."""

    todo_id: str


@dataclass(frozen=True, slots=True)
class ReplayTodo:
    """An operator gives a dead letter a new budget. `key`: the operator's own, for the audit trail."""

    todo_id: str
    key: Key
    operator: str


Inner = RecordVerdict | Report | RecordTrouble | RecordDelivery | ClaimTodo | ReplayTodo | RequestRefund


@dataclass(frozen=True, slots=True)
class CheckoutCommand:
    """An envelope: who takes the turn, and what it is told."""

    entity: EntityKey
    body: SubmitCheckout | Inner


# ---- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckoutSubmitted:
    """Stored, split into orders."""

    command: SubmitCheckout
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RiskAssessed:
    """The verdict, durable before any PSP is called."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptOpened:
    """An attempt, born UNKNOWN."""

    order_id: OrderId
    number: int
    psp: str


@dataclass(frozen=True, slots=True)
class OperationStarted:
    """Something will be asked of the PSP under this key."""

    order_id: OrderId
    operation: Operation


@dataclass(frozen=True, slots=True)
class OperationSettled:
    """What became of an operation."""

    order_id: OrderId
    operation: Operation


@dataclass(frozen=True, slots=True)
class ObjectPrepared:
    """The PSP's object exists; its id is known before any money can move."""

    order_id: OrderId
    object_id: str


@dataclass(frozen=True, slots=True)
class OrderMoved:
    """An order's status moved, by the table of `order.py`. `type` names the event."""

    order_id: OrderId
    type: OrderEvent
    reason: str


@dataclass(frozen=True, slots=True)
class WalletUpdated:
    """The seller's wallet has taken the money."""

    order_id: OrderId


@dataclass(frozen=True, slots=True)
class LedgerUpdated:
    """The ledger has taken the capture's journal."""

    order_id: OrderId


@dataclass(frozen=True, slots=True)
class SettlementTold:
    """A line of a settlement file said this of the order; what follows from it, if anything, are the events after."""

    order_id: OrderId
    line: SettlementLineRef
    status: ObjectStatus
    object_id: str
    money: Money


class MismatchKind(StrEnum):
    """What reality did that we did not ask for."""

    LATE_CHARGE = "late_charge"
    SECOND_CHARGE = "second_charge"
    WRONG_MONEY = "wrong_money"
    WRONG_REFERENCE = "wrong_reference"
    UNKNOWN_ORDER = "unknown_order"
    ACCOUNT_CLOSED = "account_closed"
    REVERSAL_FAILED = "reversal_failed"
    REFUND_FAILED = "refund_failed"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A named case for finance. `number`: 1, 2, .. within its checkout. `money`: what moved, or what the PSP says."""

    id: str
    number: int
    order_id: OrderId
    kind: MismatchKind
    psp: str
    object_id: str
    money: Money
    detail: str
    is_resolved: bool
    opened_at_ms: int


@dataclass(frozen=True, slots=True)
class MismatchOpened:
    """Finance has a case."""

    mismatch: Mismatch


@dataclass(frozen=True, slots=True)
class MismatchResolved:
    """The case is closed: what was wrong has been made good."""

    mismatch_id: str
    order_id: OrderId


@dataclass(frozen=True, slots=True)
class TodoMoved:
    """A to-do was claimed (again), deferred, died, or was replayed by an operator."""

    type: str
    todo: Todo
    reason: str


@dataclass(frozen=True, slots=True)
class CheckoutAnswered:
    """The reply to the caller is fixed, for ever."""


Event = (
    CheckoutSubmitted | RiskAssessed | AttemptOpened | OperationStarted | OperationSettled | ObjectPrepared | OrderMoved
    | WalletUpdated | LedgerUpdated | PostingRefused | RefundOpened | RefundNotFound | RefundEnded | SettlementTold
    | MismatchOpened | MismatchResolved | TodoMoved | CheckoutAnswered
)  # fmt: skip
