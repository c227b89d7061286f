"""What reads do: single objects, lists, the balance. They show and change nothing; `operations.py` has their names.

The invariant: a list is newest first, and its pages show every object that was there when the first of them was read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.psp.stripe.payment import Context, Effect
from simulator.psp.stripe.wire import (
    Form,
    Outcome,
    account_balance_json,
    account_json,
    balance_json,
    intent_json,
    invalid,
    list_json,
    missing,
    refund_json,
)

_PAGE_DEFAULT: Final = 10
_PAGE_MAX: Final = 100
_ACCOUNT: Final = "acct_simulator"
_TERM: Final = re.compile(r"metadata\['((?:[^'\\]|\\.)+)'\]:'((?:[^'\\]|\\.)+)'")
_ESCAPED: Final = re.compile(r"\\(.)")


def retrieve(id_: str, _: Form, context: Context) -> Effect:
    """Show a PaymentIntent, or what it was before, where a stale read is drawn."""
    intent = context.account.intents.get(id_)
    if intent is None:
        return Effect(missing("payment_intent", id_))
    if "stale_read" in context.side:
        intent = context.account.stale(intent, now_ms=context.now_ms, window_ms=context.stale_ms)
    return Effect(Outcome(shown=intent))


def retrieve_refund(id_: str, _: Form, context: Context) -> Effect:
    """Show a Refund."""
    refund = context.account.refunds.get(id_)
    return Effect(Outcome(shown=refund) if refund else missing("refund", id_, param="id"))


def retrieve_charge(id_: str, _: Form, context: Context) -> Effect:
    """Show a Charge."""
    charge = context.account.charges.get(id_)
    return Effect(Outcome(shown=charge) if charge else missing("charge", id_, param="id"))


def list_intents(_: str, form: Form, context: Context) -> Effect:
    """List the PaymentIntents."""
    return _page("/v1/payment_intents", form, context.account.intents, intent_json)


def search_intents(_: str, form: Form, context: Context) -> Effect:
    """Find PaymentIntents by metadata, newest first, on one page: `metadata['name']:'value'`, joined by AND.

    Of docs.stripe.com/search the part that callers need who look for their own reference.
    """
    wanted = _metadata_of(form.get("query", ""))
    if not wanted:
        return Effect(invalid("We were unable to parse your search query.", param="query"))
    found = [each for each in context.account.intents.values() if wanted.items() <= each.metadata.items()]
    shown = [intent_json(each) for each in found[::-1][:_PAGE_MAX]]
    document = {"object": "search_result", "url": "/v1/payment_intents/search", "data": shown, "next_page": None}
    return Effect(Outcome(document={**document, "has_more": len(found) > len(shown)}))


def _metadata_of(query: str) -> dict[str, str]:
    """The terms of a query; none where any part of it is something else."""
    terms = list(_TERM.finditer(query))
    if _TERM.sub("T", query) != " AND ".join("T" * len(terms)):
        return {}
    return {_unescaped(term[1]): _unescaped(term[2]) for term in terms}


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def list_refunds(_: str, form: Form, context: Context) -> Effect:
    """List the refunds, of one PaymentIntent or of one charge where it is named."""
    refunds = context.account.refunds
    intent, charge = form.get("payment_intent"), form.get("charge")
    if intent is not None:
        if intent not in context.account.intents:
            return Effect(missing("payment_intent", intent, param="payment_intent"))
        refunds = {id_: refunds[id_] for id_ in context.account.refunds_of.get(intent, ())}
    if charge is not None:
        refunds = {id_: each for id_, each in refunds.items() if each.charge == charge}
    return _page("/v1/refunds", form, refunds, refund_json)


def retrieve_balance(_id: str, _form: Form, context: Context) -> Effect:
    """Everything that moved and is in no pay-out yet: available once its time has come, pending until then."""
    account = context.account
    sums: dict[bool, dict[str, int]] = {True: {}, False: {}}
    for each in account.balance.values():
        if each.id not in account.payout_of:
            part = sums[each.available_on_ms <= context.now_ms]
            part[each.currency] = part.get(each.currency, 0) + each.net
    return Effect(Outcome(document=account_balance_json(available=sums[True], pending=sums[False])))


def list_balance_transactions(_: str, form: Form, context: Context) -> Effect:
    """List the movements, of one source, type or pay-out where it is named."""
    movements, payouts = context.account.balance, context.account.payout_of
    for name, value_of in (
        ("source", lambda m: m.source),
        ("type", lambda m: m.type),
        ("payout", lambda m: payouts.get(m.id)),
    ):
        if name in form:
            movements = {id_: each for id_, each in movements.items() if value_of(each) == form[name]}
    return _page("/v1/balance_transactions", form, movements, balance_json)


def _page(url: str, form: Form, things: Mapping[str, Any], show: Callable[[Any], dict[str, Any]]) -> Effect:
    """Return one page, newest first; `starting_after` is the last id of the page before.

    `things` are in the order of creation.
    """
    limit = form.get("limit", str(_PAGE_DEFAULT))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= _PAGE_MAX):
        return Effect(invalid("limit must be between 1 and 100", param="limit"))
    newest = list(things)[::-1]
    start = 0
    if (after := form.get("starting_after")) is not None:
        if after not in things:
            return Effect(missing("object", after, param="starting_after", status=400))
        start = newest.index(after) + 1
    ids = newest[start : start + int(limit)]
    has_more = len(newest) > start + len(ids)
    return Effect(Outcome(document=list_json(url, [show(things[id_]) for id_ in ids], has_more=has_more)))


def retrieve_account(_id: str, _form: Form, _context: Context) -> Effect:
    """Show whose key this is."""
    return Effect(Outcome(document=account_json(_ACCOUNT)))
