"""What each endpoint does to the account: the endpoints' table, then one function each.

Pure: `Context` brings the time, the ids' seed and the settings. A function returns an `Effect`: the objects it
replaced, what is to be announced, and the outcome. The invariant: nothing here changes the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from simulator.psp.account import Account
from simulator.psp.change import Timer
from simulator.psp.ids import derive
from simulator.psp.stripe import payment, reading
from simulator.psp.stripe.currency import DECIMALS
from simulator.psp.stripe.objects import CONFIRMABLE, Act, Intent, Refund, Status, next_status
from simulator.psp.stripe.payment import Context, Effect
from simulator.psp.stripe.token import token_of
from simulator.psp.stripe.wire import (
    Form,
    Outcome,
    invalid,
    is_expanding,
    missing,
    nested,
    unexpected_state,
)

# Twelve digits are the most that Stripe takes in any currency (IDR).
AMOUNT_MAX_MINOR: Final = 10**12 - 1
_AMOUNT_CHARS_MAX: Final = len(str(AMOUNT_MAX_MINOR))
# Stripe's limits of metadata: 50 keys of 40 characters, values of 500.
_METADATA_KEYS_MAX, _METADATA_KEY_CHARS_MAX, _METADATA_VALUE_CHARS_MAX = 50, 40, 500

# API 2026-09-30.endive took the parameter away; docs.stripe.com/changelog/endive/2026-09-30/
# removes-the-payment-method-types-parameter-from-payment-intents-and-setup-intents.
_METHOD_TYPES_REMOVED: Final = ("create", "confirm")
_METHOD_TYPES_MESSAGE: Final = (
    "payment_method_types is no longer supported in this API version; use allowed_payment_method_types."
)
_CAPTURE_METHODS: Final = ("automatic", "automatic_async", "manual")
_CANCEL_REASONS: Final = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")


class Route(NamedTuple):
    """One endpoint as it was called: the operation's name and the id in the path, if any."""

    operation: str
    id: str = ""


def route(method: str, path: str) -> Route | None:
    """Return the endpoint of a request; None when Stripe has none there."""
    collection, *rest = path.removeprefix("/v1/").split("/")
    if len(rest) == 0:
        name = _COLLECTIONS.get((method, collection))
        return Route(name) if name else None
    if (method, collection, rest) == ("GET", "payment_intents", ["search"]):
        return Route("search")
    if len(rest) == 1:
        name = _SINGLES.get((method, collection))
        return Route(name, rest[0]) if name else None
    if len(rest) == len(("id", "act")) and method == "POST" and collection == "payment_intents" and rest[1] in _ACTS:
        return Route(rest[1], rest[0])
    return None


def execute(where: Route, form: Form, context: Context) -> Effect:
    """Run one call against the account and return what it would change."""
    function, allowed = _FUNCTIONS[where.operation]
    for name in form:
        if name in allowed or (top := name.split("[", 1)[0]) in allowed or top == "expand":
            continue
        if top == "payment_method_types" and where.operation in _METHOD_TYPES_REMOVED:
            return Effect(invalid(_METHOD_TYPES_MESSAGE, code="payment_method_types_no_longer_supported", param=top))
        return Effect(invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name))
    effect = function(where.id, form, context)
    shown = effect.outcome.shown
    if not isinstance(shown, Intent) or not shown.latest_charge or not is_expanding(form, "latest_charge"):
        return effect
    charge = next((c for c in effect.charges if c.id == shown.latest_charge), None)
    expanded = charge or context.account.charges[shown.latest_charge]
    return effect._replace(outcome=effect.outcome._replace(expanded=expanded))


def reference(where: Route, form: Form, account: Account) -> str | None:
    """Return the caller's own id of what the call is about, for one-shots that name it."""
    if where.operation == "create":
        return form.get("metadata[payment_order_id]", form.get("transfer_group"))
    if where.operation in ("refund", "retrieve_refund"):
        refund = account.refunds.get(where.id)
        intent = account.intents.get(refund.intent if refund else form.get("payment_intent", ""))
    else:
        intent = account.intents.get(where.id)
    return intent.reference if intent else None


def _create(_: str, form: Form, context: Context) -> Effect:
    if refused := _refuse_create(form):
        return Effect(refused)
    token = form.get("payment_method")
    intent = Intent(
        id=_free_id("pi", context, context.account.intents),
        amount=int(form["amount"]),
        currency=form["currency"].lower(),
        status=Status.REQUIRES_CONFIRMATION if token else Status.REQUIRES_PAYMENT_METHOD,
        created_ms=context.now_ms,
        capture_method=form.get("capture_method", "automatic"),
        payment_method=token,
        transfer_group=form.get("transfer_group"),
        description=form.get("description"),
        metadata=nested(form, "metadata"),
    )
    if form.get("confirm") == "true":
        if token is None:
            return Effect(invalid("You must provide a payment_method to confirm.", param="payment_method"))
        return payment.pay(intent, context)
    return Effect(Outcome(shown=intent), intents=(intent,))


def _refuse_create(form: Form) -> Outcome | None:
    for name in ("amount", "currency"):
        if not form.get(name):
            return invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    if refused := _refuse_amount(form["amount"]):
        return refused
    if form["currency"].lower() not in DECIMALS:
        return invalid(f"Invalid currency: {form['currency']}.", param="currency")
    if form.get("capture_method", "automatic") not in _CAPTURE_METHODS:
        return invalid(f"Invalid capture_method: must be one of {', '.join(_CAPTURE_METHODS)}", param="capture_method")
    if form.get("confirm", "false") not in ("true", "false"):
        return invalid("Invalid boolean", param="confirm")
    return _refuse_method_types(form) or _refuse_token(form) or _refuse_customer(form) or _refuse_metadata(form)


def _refuse_amount(text: str) -> Outcome | None:
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        return invalid(f"Invalid integer: {text[:40]}", code="parameter_invalid_integer", param="amount")
    if text.startswith("-") or text.strip("0") == "":
        return invalid(
            "This value must be greater than or equal to 1.", code="parameter_invalid_integer", param="amount"
        )
    if len(text) > _AMOUNT_CHARS_MAX or int(text) > AMOUNT_MAX_MINOR:
        return invalid(f"Amount must be no more than {AMOUNT_MAX_MINOR}", code="amount_too_large", param="amount")
    return None


def _refuse_method_types(form: Form) -> Outcome | None:
    """Source: docs.stripe.com/changelog/dahlia/2026-07-29/allowed-payment-method-types-parameter.

    Stripe filters the list silently; what is left must take what is paid with, and here that is a card.
    """
    allowed = nested(form, "allowed_payment_method_types")
    if not allowed:
        return None
    if "automatic_payment_methods[enabled]" in form:
        message = "You may only specify one of: allowed_payment_method_types, automatic_payment_methods."
        return invalid(message, param="allowed_payment_method_types")
    if "card" not in allowed.values():
        return invalid("No payment method of this kind can be paid with here.", param="allowed_payment_method_types")
    return None


def _refuse_customer(form: Form) -> Outcome | None:
    """Every customer is there, as long as the name is one."""
    customer = form.get("customer")
    if customer is None or customer.startswith("cus_"):
        return None
    return missing("Customer", customer[:40], param="customer", status=400)


def _refuse_token(form: Form) -> Outcome | None:
    token = form.get("payment_method")
    if token is None or token_of(token):
        return None
    return missing("PaymentMethod", token[:40], param="payment_method", status=400)


def _refuse_metadata(form: Form) -> Outcome | None:
    metadata = nested(form, "metadata")
    if len(metadata) > _METADATA_KEYS_MAX:
        return invalid(f"You can only have {_METADATA_KEYS_MAX} metadata keys.", param="metadata")
    for key, value in metadata.items():
        if len(key) > _METADATA_KEY_CHARS_MAX or len(value) > _METADATA_VALUE_CHARS_MAX:
            return invalid("Metadata keys have at most 40 characters, values 500.", param=f"metadata[{key[:40]}]")
    return None


def _confirm(id_: str, form: Form, context: Context) -> Effect:
    intent = context.account.intents.get(id_)
    if intent is None:
        return Effect(missing("payment_intent", id_))
    if refused := _refuse_token(form):
        return Effect(refused)
    if intent.status not in CONFIRMABLE:
        return Effect(unexpected_state(intent, "confirm"))
    token = form.get("payment_method", intent.payment_method)
    if token is None:
        return Effect(unexpected_state(intent, "confirm (it is missing a payment method)"))
    return payment.pay(intent._replace(payment_method=token), context)


def _cancel(id_: str, form: Form, context: Context) -> Effect:
    intent = context.account.intents.get(id_)
    if intent is None:
        return Effect(missing("payment_intent", id_))
    reason = form.get("cancellation_reason")
    if reason is not None and reason not in _CANCEL_REASONS:
        return Effect(invalid("Invalid cancellation_reason", param="cancellation_reason"))
    status = next_status(intent.status, Act.CANCEL)
    if status is None:
        return Effect(unexpected_state(intent, "cancel"))
    canceled = intent._replace(
        status=status,
        revision=intent.revision + 1,
        canceled_at_ms=context.now_ms,
        cancellation_reason=reason,
        amount_capturable=0,
    )
    effect = Effect(Outcome(shown=canceled), intents=(canceled,), events=(("payment_intent.canceled", canceled),))
    if intent.amount_capturable and intent.latest_charge:
        held = context.account.charges[intent.latest_charge]
        released = held._replace(amount_refunded=held.amount, revision=held.revision + 1)
        effect = effect._replace(charges=(released,))
    if "charge_after_cancel" in context.side and (card := _last_card(intent, context)):
        detail = {"intent": intent.id, "payment_method": card}
        timer_id = derive("timer", canceled.id, canceled.revision)
        due_ms = context.now_ms + context.late_ms
        effect = effect._replace(timers=(Timer(id=timer_id, kind="charge_late", due_ms=due_ms, detail=detail),))
    return effect


def _last_card(intent: Intent, context: Context) -> str | None:
    """The payment method it has, or had when it was last declined."""
    if intent.payment_method or intent.latest_charge is None:
        return intent.payment_method
    return context.account.charges[intent.latest_charge].payment_method


def _capture(id_: str, form: Form, context: Context) -> Effect:
    intent = context.account.intents.get(id_)
    if intent is None:
        return Effect(missing("payment_intent", id_))
    if next_status(intent.status, Act.CAPTURE) is None:
        return Effect(unexpected_state(intent, "capture"))
    wanted = form.get("amount_to_capture", str(intent.amount_capturable))
    if refused := _refuse_amount(wanted):
        return Effect(refused)
    if int(wanted) > intent.amount_capturable:
        message = f"The provided amount_to_capture ({wanted}) is more than {intent.amount_capturable}."
        return Effect(invalid(message, code="amount_too_large", param="amount_to_capture"))
    return payment.capture(intent, int(wanted), context)


def _refund(_: str, form: Form, context: Context) -> Effect:
    account = context.account
    if "payment_intent" in form:
        intent = account.intents.get(form["payment_intent"])
        if intent is None:
            return Effect(missing("payment_intent", form["payment_intent"], param="payment_intent"))
        charge = account.charges.get(intent.latest_charge or "")
    else:
        charge = account.charges.get(form.get("charge", ""))
    if charge is None or not charge.is_captured:
        return Effect(invalid("There is no successful charge to refund.", param="payment_intent"))
    rest = charge.amount_captured - charge.amount_refunded
    if rest == 0:
        refused = invalid(f"Charge {charge.id} has already been refunded.", code="charge_already_refunded")
        return Effect(refused._replace(is_kept=True))
    wanted = form.get("amount", str(rest))
    if malformed := _refuse_amount(wanted) or _refuse_metadata(form):
        return Effect(malformed)
    if int(wanted) > rest:
        message = f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({rest})"
        return Effect(invalid(message, param="amount")._replace(is_kept=True))
    refund = Refund(
        id=_free_id("re", context, account.refunds),
        charge=charge.id,
        intent=charge.intent,
        amount=int(wanted),
        currency=charge.currency,
        status="succeeded",
        created_ms=context.now_ms,
        reason=form.get("reason"),
        metadata=nested(form, "metadata"),
    )
    return payment.give_back(refund, charge, context)


def _free_id(prefix: str, context: Context, taken: Mapping[str, object]) -> str:
    """Derive an id from the call's name; a name used again (its key was forgotten) gets the next number."""
    number = 0
    while (id_ := derive(prefix, context.name, number)) in taken:
        number += 1
    return id_


_CREATE_PARAMS: Final = frozenset(
    [
        "amount",
        "currency",
        "payment_method",
        "customer",
        "confirm",
        "capture_method",
        "transfer_group",
        "metadata",
        "allowed_payment_method_types",
        "automatic_payment_methods",
        "description",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "return_url",
        "off_session",
        "confirmation_method",
        "receipt_email",
        "payment_method_options",
    ]
)
_CONFIRM_PARAMS: Final = frozenset(
    ["payment_method", "return_url", "off_session", "payment_method_options", "capture_method"]
)
_PAGE_PARAMS: Final = frozenset(("limit", "starting_after"))

_FUNCTIONS: Final[Mapping[str, tuple[Callable[[str, Form, Context], Effect], frozenset[str]]]] = {
    "create": (_create, _CREATE_PARAMS),
    "confirm": (_confirm, _CONFIRM_PARAMS),
    "cancel": (_cancel, frozenset(("cancellation_reason",))),
    "capture": (_capture, frozenset(("amount_to_capture",))),
    "retrieve": (reading.retrieve, frozenset(("client_secret",))),
    "list": (reading.list_intents, _PAGE_PARAMS),
    "refund": (_refund, frozenset(("payment_intent", "charge", "amount", "metadata", "reason"))),
    "list_refunds": (reading.list_refunds, _PAGE_PARAMS | {"payment_intent", "charge"}),
    "retrieve_refund": (reading.retrieve_refund, frozenset()),
    "search": (reading.search_intents, frozenset({"query", "limit", "page"})),
    "retrieve_charge": (reading.retrieve_charge, frozenset()),
    "list_balance_transactions": (reading.list_balance_transactions, _PAGE_PARAMS | {"source", "type", "payout"}),
    "retrieve_account": (reading.retrieve_account, frozenset()),
    "retrieve_balance": (reading.retrieve_balance, frozenset()),
}
OPERATIONS: Final = frozenset(_FUNCTIONS)
"""Every operation's name, as faults, holds and statistics use it."""

_ACTS: Final = frozenset(("confirm", "cancel", "capture"))
_COLLECTIONS: Final = {
    ("POST", "payment_intents"): "create",
    ("GET", "payment_intents"): "list",
    ("POST", "refunds"): "refund",
    ("GET", "refunds"): "list_refunds",
    ("GET", "balance"): "retrieve_balance",
    ("GET", "balance_transactions"): "list_balance_transactions",
    ("GET", "account"): "retrieve_account",
}
_SINGLES: Final = {
    ("GET", "payment_intents"): "retrieve",
    ("GET", "refunds"): "retrieve_refund",
    ("GET", "charges"): "retrieve_charge",
}
