"""The PSP of a world: the simulator's own engine on virtual time, and the product's Stripe adapter in front of it.

The adapter's mapping, its failure table, the gateway, breaker and limiter are the product's; only the SDK's HTTP is left
out: `WorldStripe` encodes the form, carries it over a wire that loses and repeats, and raises the SDK's own exceptions.

Invariant: the engine's book is the truth, and nothing but the engine writes into it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote_plus

import orjson
import stripe
from stripe._api_requestor import _APIRequestor

from simulator.psp.call import Answer, Call, Plan, Ticket
from simulator.psp.engine import Engine
from simulator.psp.faults import PATH_FAULTS, FaultPlan, Rates
from simulator.psp.idempotency import Keys
from simulator.psp.stripe.payment import Behaviours
from simulator.psp.webhooks import Delivery, RetryRule, signature
from simulator.world.loop import Party, VirtualLoop
from simulator.world.mix import Mix
from simulator.world.network import Lost, Network, Refused
from simulator.world.safety import Safety
from simulator.world.trace import Trace
from simulator.world.weather import EPOCH_MS, Weather
from zerosum.errors import NotSent, OutcomeUnknown
from zerosum.limits import PSP_TIMEOUT_MS
from zerosum.psp.stripe.adapter import StripeAdapter
from zerosum.psp.stripe.transport import as_stripe_says_it

API_KEY: Final = "sk_world"
WEBHOOK_SECRET: Final = "whsec_world"  # noqa: S105 - of a world that lasts a few milliseconds
SERVER: Final = "payment-server"

_HTTP_ERROR: Final = 300
_BAD_REQUEST: Final = 400
_CREATE: Final = "/v1/payment_intents"
_WEBHOOK_TIMEOUT_S: Final = 10.0
_DUE_AT_ONCE: Final = 64
_COPIES_MAX: Final = (*(3,) * 9, 20)
"""Row S4: in one world of ten duplicates are up to twenty at once, in the others two or three, which cost less."""
_LATE_MS: Final = 5_000
"""More than any webhook waits that is only reordered."""
_RATES: Final = (
    *PATH_FAULTS, "stale_read", "charge_after_cancel", "webhook_loss", "webhook_drop", "webhook_duplicate",
    "webhook_reorder",
)  # fmt: skip
"""Faults of the mix that are rates of the engine's plan under the same name."""


_AMOUNT: Final = re.compile(r"(?<=\bamount=)\d+")
_ORDER: Final = re.compile(r"(?<=\bmetadata\[payment_order_id\]=)[^&]+")
MISTAKES: Final[Mapping[str, Callable[[str], str]]] = {
    "wrong_amount": lambda form: _AMOUNT.sub(lambda found: str(int(found[0]) + 1), form),
    "wrong_currency": lambda form: form.replace("currency=usd", "currency=eur"),
    "wrong_reference": lambda form: _ORDER.sub(lambda found: f"wrong-{found[0]}", form),
}
"""Row S9: what the PSP makes of a form, by the fault's name. Not only its answer is wrong: it would take just that money."""


_WEBHOOK_ATTEMPTS_MAX: Final = 3 * 24 * 60 * 2
"""Three days of one attempt each 30 s: Stripe gives up after three days, so no trouble of ours may outlast its webhooks.

A clock that is ten minutes off refuses every signature for as long, and of money that moves after a final answer only a
webhook or a settlement line can tell.
"""


class _Book:
    """The engine's book, and what the safety check wants to know of each line."""

    def __init__(self, safety: Safety) -> None:
        self.records: list[dict[str, Any]] = []
        self._safety = safety

    def append(self, record: dict[str, Any]) -> None:
        """Keeps the line."""
        self.records.append(record)

    def take(self, psp: "Psp") -> None:
        """Looks at the movements of money that are new."""
        account = psp.engine.account
        movements = list(account.balance.values())[psp.movements_seen :]
        psp.movements_seen = len(account.balance)
        for movement in movements:
            reference = account.intents[movement.intent].reference
            self._safety.charged(reference or movement.intent, 1 if movement.type == "charge" else -1)


class Psp:
    """The engine, its timers and its webhooks. `now_ms` is the true time: a PSP's clock is right.

    `wronged`: orders that it took down wrongly, and in what.
    """

    def __init__(
        self, *, loop: VirtualLoop, weather: Weather, trace: Trace, safety: Safety, network: Network, key_expiry_ms: int
    ) -> None:
        self._loop, self._weather, self._trace, self._network = loop, weather, trace, network
        chance = weather.random
        self.book = _Book(safety)
        self.movements_seen = 0
        self.plan = FaultPlan(seed=weather.seed, rates=Rates())
        self.engine = Engine(
            book=self.book,
            plan=self.plan,
            api_key=API_KEY,
            behaviours=Behaviours(
                challenge_ms=chance.randint(100, 60_000), challenge_passes=chance.random() < 0.8,  # noqa: PLR2004 - most pass
                processing_ms=chance.randint(100, 60_000), processing_passes=chance.random() < 0.8,  # noqa: PLR2004 - most are paid
            ),
            key_expiry_ms=key_expiry_ms,
            retry_rule=RetryRule(attempts_max=_WEBHOOK_ATTEMPTS_MAX),
        )  # fmt: skip
        self.ignored: Counter[str] = Counter()
        self.wronged: dict[str, str] = {}
        self._taken_down: dict[str, str] = {}
        self._mistakes = Random(f"mistakes {weather.seed}")
        self._party = Party("psp")
        self._alarm: asyncio.TimerHandle | None = None
        self._posts: set[asyncio.Task[None]] = set()
        self._copies_max = Random(f"copies {weather.seed}").choice(_COPIES_MAX)
        self._deaf_until_ms = self._gone_until_ms = 0

    def now_ms(self) -> int:
        """The true time."""
        return EPOCH_MS + int(self._loop.time() * 1_000)

    def set_trouble(self, mix: Mix) -> None:
        """Misbehaves as the mix says from now on."""
        rates = {name: getattr(mix, name) / 100 for name in _RATES if getattr(mix, name)}
        self.plan.set_rates(
            Rates(
                **rates, delay_ms_max=mix.psp_latency_ms_max, late_ms_min=1, late_ms_max=90_000,
                webhook_delay_ms_max=mix.webhook_delay_ms_max, webhook_copies_max=self._copies_max,
            )
        )  # fmt: skip

    def leave(self, *, deaf_ms: int, gone_ms: int) -> None:
        """It is gone for a while: at first it carries out what it gets and answers nobody, then nobody is there at all.

        What it has to announce waits until it is back, and so does what it does by itself.
        """
        self._trace.fault("psp_gone_hours_max", f"for {gone_ms / 3_600_000:.1f} h", "psp")
        self._deaf_until_ms, self._gone_until_ms = self.now_ms() + deaf_ms, self.now_ms() + gone_ms

    @property
    def is_gone(self) -> bool:
        """Whoever calls has no answer."""
        return self.now_ms() < self._gone_until_ms

    def forget(self) -> None:
        """Lets go of everything: it was audited, all its events are delivered, and nobody will ask again."""
        account, engine = self.engine.account, self.engine
        for held in (account.intents, account.charges, account.refunds, account.refunds_of, account.balance):
            held.clear()
        engine.keys = Keys(expiry_ms=engine.keys.expiry_ms)
        engine.outbox.all.clear()
        self.book.records.clear()
        self.movements_seen = 0
        self.ignored.clear()
        self.wronged.clear()
        self._taken_down.clear()

    @property
    def next_due_ms(self) -> int | None:
        """When it will do something by itself, coming back included, None when it has nothing left to do."""
        if self.is_gone:
            return self._gone_until_ms
        return self.now_ms() if self._posts else self.engine.next_due_ms()

    # ---- calls -----------------------------------------------------------------------------------------------

    async def exchange(self, call: Call) -> Answer:
        """One request over the wire, as the product's transport knows it. Raises NotSent, OutcomeUnknown."""
        weather = self._weather
        is_refused = weather.hits(weather.mix.psp_refused)
        if is_refused or self._deaf_until_ms <= self.now_ms() < self._gone_until_ms:
            self._trace.fault("psp_refused" if is_refused else "psp_gone_hours_max")
            raise NotSent("stripe cannot be reached: ClientConnectorError")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._trace.tell(f"-> psp: {call.method} {call.path}")
        self._loop.later(weather.way_s(), self._arrive, call, answer)
        if weather.hits(weather.mix.message_twice):
            self._trace.fault("message_twice", "to the psp")
            self._loop.later(weather.way_s(), self._arrive, call, None)
        try:
            async with asyncio.timeout(PSP_TIMEOUT_MS / 1_000):
                return await answer
        except TimeoutError as trouble:
            self._trace.fault("psp_gone_hours_max" if self.is_gone else "psp_latency_ms_max", "no answer in time")
            raise OutcomeUnknown("stripe did not answer: TimeoutError") from trouble

    def _arrive(self, call: Call, answer: "asyncio.Future[Answer] | None") -> None:
        begun = self.engine.begin(self._taken(call), self.now_ms())
        if isinstance(begun, Plan):
            self._notice()
            self._reply(begun, answer)
        elif begun.wait_ms:
            self._loop.later(begun.wait_ms / 1_000, self._finish, begun, answer)
        else:
            self._finish(begun, answer)

    def _taken(self, call: Call) -> Call:
        """The call as the PSP takes it down: now and then with another figure or name, and then so under that key for good."""
        mix = self._weather.mix
        if call.path != _CREATE or call.key is None or not any(getattr(mix, name) for name in MISTAKES):
            return call
        body = self._taken_down.get(call.key)
        if body is None:
            body = call.body
            for name, mistake in MISTAKES.items():
                if not self._weather.is_over and self._mistakes.random() * 100 < getattr(mix, name):
                    self._trace.fault(name, call.key)
                    self.wronged[_ORDER.findall(call.body)[0]] = name
                    body = mistake(body)
            self._taken_down[call.key] = body
        return call._replace(body=body)

    def _finish(self, ticket: Ticket, answer: "asyncio.Future[Answer] | None") -> None:
        plan = self.engine.finish(ticket, self.now_ms())
        self.book.take(self)
        self._notice()
        self._reply(plan, answer)

    def _reply(self, plan: Plan, answer: "asyncio.Future[Answer] | None") -> None:
        if answer is not None and not self.is_gone:
            status = plan.answer.status if plan.answer else "no answer"
            self._trace.tell(f"<- {plan.operation}: {status}", "psp")
            self._loop.later(plan.delay_ms / 1_000 + self._weather.way_s(), _hear, answer, plan.answer)

    # ---- timers and webhooks ---------------------------------------------------------------------------------

    def _notice(self) -> None:
        due_ms = self.engine.next_due_ms()
        if due_ms is not None and self.is_gone:
            due_ms = max(due_ms, self._gone_until_ms)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if due_ms is not None:
            self._alarm = self._loop.later(max(due_ms - self.now_ms(), 0) / 1_000, self._wake)

    def _wake(self) -> None:
        if self.is_gone:
            self._notice()
            return
        now_ms = self.now_ms()
        self.engine.tick(now_ms)
        self.book.take(self)
        for delivery in self.engine.outbox.due(now_ms, _DUE_AT_ONCE):
            post = self._loop.start(self._party, self._post(delivery))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)
        self._notice()

    async def _post(self, delivery: Delivery) -> None:
        status = 0
        if not self.plan.is_webhook_dropped(f"{delivery.event} {delivery.copy}"):
            if self.now_ms() - self.engine.outbox.all[delivery.event].created_ms > _LATE_MS and not delivery.number:
                self._trace.met["webhook_delay_ms_max"] += 1
            body = self.engine.outbox.body(delivery)
            signed = signature(body, secret=WEBHOOK_SECRET, signed_at_s=self.now_ms() // 1_000)
            headers = {"stripe-signature": signed, "content-type": "application/json"}
            what = f"webhook {delivery.event[-6:]} {self.engine.outbox.all[delivery.event].type}"
            try:
                async with asyncio.timeout(_WEBHOOK_TIMEOUT_S):
                    status = await self._network.ask(SERVER, what, lambda server: server.receive(body, headers))
            except (Lost, Refused, TimeoutError):
                status = 0
        self._trace.met["webhook_refused"] += status == _BAD_REQUEST
        self.book.append(self.engine.outbox.settle(delivery, status, self.now_ms()))
        self._notice()


class WorldStripe(StripeAdapter):
    """The product's adapter with the engine where the SDK's HTTP was. `clock_ms`: for a Retry-After that is a date."""

    def __init__(self, psp: Psp, clock_ms: Callable[[], int]) -> None:
        # Not the adapter's own: it opens the SDK's client, and there is no HTTP in the world.
        self._psp = psp
        self._now_ms = clock_ms
        self._asks_first = False

    async def _ask(self, method: str, path: str, **parameters: object) -> object:
        key = parameters.pop("idempotency_key", None)
        form = _form(parameters)
        call = Call(
            method=method.upper(), path=path, query=form if method == "get" else "",
            body=form if method == "post" else "", authorization=f"Bearer {API_KEY}", key=str(key) if key else None,
        )  # fmt: skip
        answer = await self._psp.exchange(call)
        document = orjson.loads(as_stripe_says_it(answer.body, answer.status))
        if answer.status < _HTTP_ERROR:
            return document
        raise _error(answer, document)


def _error(answer: Answer, document: Mapping[str, Any]) -> stripe.StripeError:
    """The exception that the SDK itself makes of such an answer.

    Of a mapping that is no dict it makes no typed object (`error.error`), which the adapter does not look at and which
    would be a twentieth of a run.
    """
    make: Any = _APIRequestor.specific_v1_api_error
    error: stripe.StripeError = make(
        None, answer.body.decode(), answer.status, MappingProxyType(document), dict(answer.headers), document["error"]
    )
    return error


def _form(parameters: Mapping[str, object]) -> str:
    """As the SDK encodes them: `metadata[name]=..`, `expand[0]=..`."""
    pairs = [(name, value) for name, held in parameters.items() for name, value in _flat(name, held)]
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])


@lru_cache(maxsize=10_000)
def _quoted(text: str) -> str:
    """The same names and ids come again and again."""
    return quote_plus(text, safe="[]")


def _flat(name: str, held: object) -> list[tuple[str, str]]:
    match held:
        case bool():
            return [(name, str(held).lower())]
        case dict():
            return [(f"{name}[{key}]", str(value)) for key, value in held.items()]
        case list():
            return [(f"{name}[{position}]", str(value)) for position, value in enumerate(held)]
        case _:
            return [(name, str(held))]


def _hear(answer: "asyncio.Future[Answer]", heard: Answer | None) -> None:
    if answer.done():
        return
    if heard is None:
        answer.set_exception(OutcomeUnknown("stripe did not answer: ServerDisconnectedError"))
    else:
        answer.set_result(heard)
