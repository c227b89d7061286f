"""Batches of independent items, as the wallet's and the ledger's doors take them: one result per item, in order.

Invariant: a bad item costs only itself; an error of the whole call says nothing about any item. Source: design section 8.
"""

import re
from collections.abc import Sequence
from typing import Any

from actors.answer import Accepted, Answer, Applied, Busy, Failed, InFlight, Refused, Replied, Shards
from servers.status import refused
from zerosum.domain.refusal import Refusal
from zerosum.limits import RETRY_HINT_MS
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
        _refused(key, item) if isinstance(item, Refusal) else _result(key, next(answers))
        for key, item in zip(keys, items, strict=True)
    ]


def _result(key: str, answer: Answer) -> ItemResult:
    match answer:
        case Applied(is_replay) | Replied(_, is_replay):
            return ItemResult(key=key, done=ItemDone(replayed=is_replay))
        case Refused(refusal, _):
            return _refused(key, refusal)
        case InFlight(retry_after_ms) | Busy(retry_after_ms):
            return ItemResult(key=key, retry=ItemRetry(retry_after_ms=retry_after_ms))
        case Failed() | Accepted():
            return ItemResult(key=key, retry=ItemRetry(retry_after_ms=RETRY_HINT_MS))


def _refused(key: str, refusal: Refusal) -> ItemResult:
    told = ItemRefusal(reason=refusal.reason, field=refusal.field, message=refusal.message)
    return ItemResult(key=key, refused=told)
