"""Checkouts as entities of a shard: how a submit, a fact from outside, a result and an operator's act take their turn.

The story itself is `zerosum.domain.checkout`; here stands only what surrounds it: keys, twins and the inbox.

Invariant: a key that is known executes nothing, whatever it carries.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from actors.answer import Accepted as AcceptedAnswer
from actors.answer import Answer, Applied, InFlight, Refused, Replied
from actors.turn import Known, Run, Turn
from zerosum.domain import message as m
from zerosum.domain.checkout import decide
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.draft import Policy
from zerosum.domain.effect import assessment, effect_of
from zerosum.domain.identity import CommandKey, EntityKey, Tenant
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.todo import TodoKind, todo_id
from zerosum.errors import Bug
from zerosum.limits import RETRY_HINT_MS
from zerosum.ports import NOTHING, InboxRecord, Judge, KeyReuse, StoredCommand, TurnRecord, Wanted

CREATE_PAYMENT = "CreatePayment"
REPLAY_TODO = "ReplayTodo"
REPORT_SETTLEMENT = "ReportSettlement"
CREATE_REFUND = "CreateRefund"

_KEY_REUSED = Refusal(Reason.KEY_REUSED, "idempotency_key", "the key was used for another request")
_NO_ORDER = Refusal(Reason.UNKNOWN_ID, "payment_order_id", "no such payment order")
_ID_REUSED = Refusal(Reason.CHECKOUT_ID_REUSED, "checkout_id", "the checkout exists with other content")


class PaymentBinding:
    """Takes the turns of checkouts. `encode_reply` makes the fixed reply's bytes from a checkout.

    `judge`: the risk check, where it can say its verdict at once; the verdict is then part of the submit's own turn.
    """

    def __init__(
        self, policy: Policy, encode_reply: Callable[[Checkout], bytes], judge: Judge = lambda _: None
    ) -> None:
        self._policy = policy
        self._encode_reply = encode_reply
        self._judge = judge

    def entity(self, command: m.CheckoutCommand) -> EntityKey:
        """The checkout."""
        return command.entity

    def wants(self, command: m.CheckoutCommand) -> Wanted:
        """The caller's key, the order ids it claims, the webhook's id; the checkout anew where a twin may be answered."""
        body, tenant = command.body, command.entity.tenant
        match body:
            case m.SubmitCheckout():
                claims = tuple(EntityKey(tenant, line.order_id) for line in body.lines)
                keys = (CommandKey(tenant, CREATE_PAYMENT, body.key),)
                return Wanted(entities=(command.entity,), commands=keys, claims=claims)
            case m.ReplayTodo() | RequestRefund():
                return Wanted(entities=(command.entity,), commands=(_act_key(tenant, body),))
            case m.Report(delivery=m.Delivery() as delivery):
                return Wanted(deliveries=((delivery.psp, delivery.event_id),))
            case m.Report(settlement=m.SettlementLineRef() as line):
                return Wanted(entities=(command.entity,), commands=(CommandKey(tenant, REPORT_SETTLEMENT, line.key),))
            case _:
                return NOTHING

    def weight_bytes(self, command: m.CheckoutCommand) -> int:
        """About 1 KB a turn and 1 KB more for each order it stores."""
        return 1_000 * (1 + (len(command.body.lines) if isinstance(command.body, m.SubmitCheckout) else 0))

    def take(self, state: Checkout | None, command: m.CheckoutCommand, known: Known, now_ms: int) -> Turn[Checkout]:
        """Answers twins from what is known; decides the rest."""
        body = command.body
        match body:
            case m.SubmitCheckout():
                return self._submit(state, command.entity, body, known, now_ms)
            case m.ReplayTodo() | RequestRefund():
                return self._act(state, command.entity, body, known, now_ms)
            case m.Report(delivery=m.Delivery() as delivery):
                return self._webhook(state, command.entity, body, delivery, known, now_ms)
            case m.Report(settlement=m.SettlementLineRef() as line):
                return self._settlement(state, command.entity, body, line, known, now_ms)
            case _:
                return self._decided(state, command.entity, body, now_ms)

    # ---- submit ----------------------------------------------------------------------------------------------

    def _submit(
        self, state: Checkout | None, entity: EntityKey, body: m.SubmitCheckout, known: Known, now_ms: int
    ) -> Turn[Checkout]:
        key, fingerprint = CommandKey(entity.tenant, CREATE_PAYMENT, body.key), body.fingerprint()
        stored = known.commands.get(key)
        if stored is not None:
            return _twin(state, entity, stored, fingerprint, standing=_standing(state))
        refusal = _clash_of(state, entity, body, fingerprint, known)
        command = StoredCommand(key, fingerprint, entity, refusal)
        if refusal is not None:
            known.commands[key] = command
            return Turn(state, _record(state, entity, command=command), Refused(refusal, is_replay=False))
        if state is not None:  # the same checkout under another key: a replay, and the key is taken for good
            known.commands[key] = command
            return Turn(state, _record(state, entity, command=command), _standing(state))
        turn = self._decided(None, entity, body, now_ms, command=command)
        known.claims.update({EntityKey(entity.tenant, line.order_id): entity for line in body.lines})
        known.commands[key] = command
        return turn

    # ---- acts of people, webhooks, settlement lines ----------------------------------------------------------

    def _act(
        self, state: Checkout | None, entity: EntityKey, body: m.ReplayTodo | RequestRefund, known: Known, now_ms: int
    ) -> Turn[Checkout]:
        """A replay or a refund: once per key, a refusal too."""
        if isinstance(body, RequestRefund) and (state is None or body.order_id not in state.orders):
            return Turn(state, None, Refused(_NO_ORDER, is_replay=False))  # nothing is stored: it may come to be known
        key, fingerprint = _act_key(entity.tenant, body), _act_fingerprint(state, entity, body)
        stored = known.commands.get(key)
        if stored is not None:
            return _twin(state, entity, stored, fingerprint, standing=Applied(is_replay=True))
        turn = self._decided(state, entity, body, now_ms, command=StoredCommand(key, fingerprint, entity, None))
        if isinstance(turn.answer, Refused):
            command = StoredCommand(key, fingerprint, entity, turn.answer.refusal)
            turn = replace(turn, record=_record(state, entity, command=command))
        if turn.record is not None and turn.record.command is not None:
            known.commands[key] = turn.record.command
        return turn

    def _webhook(
        self, state: Checkout | None, entity: EntityKey, body: m.Report, delivery: m.Delivery, known: Known, now_ms: int
    ) -> Turn[Checkout]:
        event = (delivery.psp, delivery.event_id)
        if event in known.deliveries:
            return Turn(state, None, Applied(is_replay=True))
        if state is None:
            known.deliveries[event] = delivery.body_sha256
            inbox = InboxRecord(delivery, body.object_id, "UNMATCHED")
            return Turn(None, _record(None, entity, inbox=inbox), Applied(is_replay=False))
        turn = self._decided(state, entity, body, now_ms)
        known.deliveries[event] = delivery.body_sha256
        outcome = "APPLIED" if turn.record is not None else "IGNORED"
        record = replace(turn.record or _record(state, entity), inbox=InboxRecord(delivery, body.object_id, outcome))
        return replace(turn, record=record, answer=Applied(is_replay=False))

    def _settlement(
        self,
        state: Checkout | None,
        entity: EntityKey,
        body: m.Report,
        line: m.SettlementLineRef,
        known: Known,
        now_ms: int,
    ) -> Turn[Checkout]:
        """A line is one fact for ever, in whichever file and by whichever reconciler it is told."""
        key, fingerprint = CommandKey(entity.tenant, REPORT_SETTLEMENT, line.key), body.fingerprint()
        stored = known.commands.get(key)
        if stored is not None:
            return _twin(state, entity, stored, fingerprint, standing=Applied(is_replay=True))
        if state is None or body.order_id not in state.orders:
            return Turn(state, None, Refused(_NO_ORDER, is_replay=False))  # nothing is stored: it may come to be known
        command = known.commands[key] = StoredCommand(key, fingerprint, entity, None)
        turn = self._decided(state, entity, body, now_ms, command=command)
        events = turn.record.events if turn.record is not None else ()
        return replace(turn, answer=Applied(is_replay=False, is_news=len(events) > 1))

    # ---- the decision ----------------------------------------------------------------------------------------

    def _decided(
        self,
        state: Checkout | None,
        entity: EntityKey,
        body: m.SubmitCheckout | m.Inner,
        now_ms: int,
        command: StoredCommand | None = None,
    ) -> Turn[Checkout]:
        verdict = self._verdict(body) if isinstance(body, m.SubmitCheckout) else None
        decision = decide(state, body, now_ms, self._policy, verdict)
        if isinstance(decision, Refusal):
            return Turn(state, None, Refused(decision, is_replay=False))
        if not decision.events:
            return Turn(state, None, Applied(is_replay=True))
        after = decision.after
        if after.is_answered and after.reply is None:
            after = replace(after, reply=self._encode_reply(after))
        record = TurnRecord(entity, (state.version if state else 0) + 1, decision.events, command)
        answer: Answer = Applied(is_replay=False)
        if isinstance(body, m.SubmitCheckout):
            answer = Replied(after.reply, is_replay=False) if after.reply is not None else AcceptedAnswer()
        return Turn(after, record, answer, decision.runs)

    def _verdict(self, body: m.SubmitCheckout) -> m.RecordVerdict | None:
        said = self._judge(assessment(body))
        if said is None:
            return None
        return m.RecordVerdict(todo_id(TodoKind.ASSESS_RISK, "", 1), said.verdict, said.reason)

    # ---- to-dos ----------------------------------------------------------------------------------------------

    def run_of(self, state: Checkout, name: str, now_ms: int) -> Run | None:
        """The effect of the open to-do of that name."""
        todo = state.todos.get(name)
        if todo is None or not todo.is_open or todo.kind is TodoKind.ANSWER:
            return None
        return Run(state.key, todo.id, todo.tries, effect_of(state, todo, now_ms, self._policy.horizon_ms))

    def timers(self, state: Checkout) -> Mapping[str, int]:
        """Open to-dos and when each is due."""
        return {todo.id: todo.due_at_ms for todo in state.todos.values() if todo.is_open}

    def claim(self, entity: EntityKey, todo_id: str) -> m.CheckoutCommand:
        """Claims a due to-do."""
        return m.CheckoutCommand(entity, m.ClaimTodo(todo_id))

    def outcome(self, state: Checkout) -> bytes | None:
        """The fixed reply."""
        return state.reply


def _act_key(tenant: Tenant, body: m.ReplayTodo | RequestRefund) -> CommandKey:
    return CommandKey(tenant, REPLAY_TODO if isinstance(body, m.ReplayTodo) else CREATE_REFUND, body.key)


def _act_fingerprint(state: Checkout | None, entity: EntityKey, body: m.ReplayTodo | RequestRefund) -> str:
    if isinstance(body, m.ReplayTodo):
        return f"1:{entity.id}/{body.todo_id}"
    if state is None:
        raise Bug("a refund of an order that nobody knows")
    return body.fingerprint(state.orders[body.order_id].money)


def _clash_of(
    state: Checkout | None, entity: EntityKey, body: m.SubmitCheckout, fingerprint: str, known: Known
) -> Refusal | None:
    if state is not None:
        return None if state.fingerprint == fingerprint else _ID_REUSED
    for position, line in enumerate(body.lines):
        holder = known.claims.get(EntityKey(entity.tenant, line.order_id))
        if holder is not None and holder != entity:
            path = f"payment_orders[{position}].payment_order_id"
            return Refusal(Reason.PAYMENT_ORDER_ID_TAKEN, path, "the id belongs to another checkout")
    return None


def _twin(
    state: Checkout | None, entity: EntityKey, stored: StoredCommand, fingerprint: str, *, standing: Answer
) -> Turn[Checkout]:
    """A key that is known: the same request brings what is stored, another one is refused, with an audit row.

    `standing`: how the first request stands, where it was not refused.
    """
    if stored.fingerprint != fingerprint:
        reuse = KeyReuse(stored.key, fingerprint, Reason.KEY_REUSED)
        return Turn(state, _record(state, entity, key_reuse=reuse), Refused(_KEY_REUSED, is_replay=False))
    return Turn(state, None, Refused(stored.refusal, is_replay=True) if stored.refusal else standing)


def _standing(state: Checkout | None) -> Answer:
    if state is not None and state.reply is not None:
        return Replied(state.reply, is_replay=True)
    return InFlight(RETRY_HINT_MS)


def _record(
    state: Checkout | None,
    entity: EntityKey,
    *,
    command: StoredCommand | None = None,
    inbox: InboxRecord | None = None,
    key_reuse: KeyReuse | None = None,
) -> TurnRecord:
    """A record without events: the entity stays as it is, and the write is fenced all the same."""
    return TurnRecord(entity, (state.version if state else 0) + 1, (), command, inbox, key_reuse)
