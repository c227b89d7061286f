"""Batches of independent items, as the wallet's and the ledger's doors take them: one result per item, in order.

Invariant: a bad item costs only itself; an error of the whole call says nothing about any item. Source: design section 8.
"""

import re
from collections.abc import Sequence
from typing import Any

import grpc

from actors.answer import Accepted, Answer, Applied, Busy, Failed, InFlight, Refused, Replied, Shards
from servers.status import Problem, of_answer, refused
from zerosum.domain.refusal import Refusal
from zerosum.v1.common_pb2 import ItemDone, ItemRefusal, ItemResult, ItemRetry

_ITEM = re.compile(r"[a-z_]+\[(?P<position>[0-9]+)\]\.?(?P<rest>.*)", re.DOTALL)


def by_item(refusals: Sequence[Refusal]) -> dict[int, Refusal]:
    """The first refusal of each item, its path from the item on. Ends the call where one is about the whole batch."""
    of_items: dict[int, Refusal] = {}
    for refusal in refusals:
        match = _ITEM.fullmatch(refusal.field)
        if match is None:
            raise refused(refusal)
        of_items.setdefault(int(match["position"]), Refusal(refusal.reason, match["rest"], refusal.message))
    return of_items


async def results_of(shards: Shards, keys: Sequence[str], items: Sequence[Any]) -> list[ItemResult]:
    """Submits the items that are commands, leaves those that are refusals, and tells what became of each."""
    commands = [item for item in items if not isinstance(item, Refusal)]
    answers = iter(await shards.submit(commands) if commands else ())
    return [
        item_result(key, item) if isinstance(item, Refusal) else _result(key, next(answers))
        for key, item in zip(keys, items, strict=True)
    ]


def _result(key: str, answer: Answer) -> ItemResult:
    match answer:
        case Applied(is_replay) | Replied(_, is_replay):
            return item_result(key, is_replay)
        case Refused(refusal, _):
            return item_result(key, refusal)
        case InFlight() | Busy() | Failed():
            return item_result(key, of_answer(answer))
        case Accepted():
            return item_result(key, Problem("INTERNAL", inner="a posting was answered as a submit"))


def item_result(key: str, told: bool | Refusal | Problem) -> ItemResult:
    """An item's result: recorded (True: it had been before), refused for good, or to be sent again.

    A problem whose row says INVALID_ARGUMENT is the item's own; any other is ours, and what it is stays here.
    """
    match told:
        case Refusal(reason, field, message):
            return ItemResult(key=key, refused=ItemRefusal(reason=reason, field=field, message=message))
        case Problem() if told.row.code is grpc.StatusCode.INVALID_ARGUMENT:
            first = told.refusals[0]
            return ItemResult(
                key=key, refused=ItemRefusal(reason=told.reason, field=first.field, message=first.message)
            )
        case Problem():
            return ItemResult(key=key, retry=ItemRetry(retry_after_ms=told.retry_after_ms))
        case _:
            return ItemResult(key=key, done=ItemDone(replayed=told))
