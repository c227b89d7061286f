"""`python -m loadtest.chaos.second_copy <shard>`: another live copy of a checkout shard, beside the one that Ray hosts.

The same host as Ray's process has, made by the same factory, from the same settings in the environment. It takes the slots
at once; then it does what it is told, a line at a time, and tells each end as a line of JSON:

    pay <checkout_id> <hex>    submits that CreatePaymentRequest to this very copy     {"answer": "Replied", "said": ".."}
    figures                    its counters                                            {"fenced": 0, ..}

Invariant: it writes through the product's own store only, so that whatever refuses it would refuse any stale copy.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from actors.answer import Answer
from actors.front import slots_of_shard
from actors.host import Host, Hosted
from servers.door import submit_checkout
from servers.keys import DEMO_TENANT
from servers.wiring import payment_host
from zerosum.domain.identity import EntityKey
from zerosum.domain.message import CheckoutCommand, SubmitCheckout
from zerosum.errors import Bug, Retryable
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2

TRY_AGAIN_S = 0.1
"""Between two tries to take the slots: as Ray's copy, which tries with every call."""


async def main(shard: int) -> None:
    """Serves until its input ends."""
    settings = Settings()
    slots = slots_of_shard(shard, settings.checkout_shards)
    began_s = time.monotonic()
    host, tries = await _begin(settings, slots)
    _tell({"pid": os.getpid(), "taken_ms": round((time.monotonic() - began_s) * 1_000), "tries": tries})
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            _tell(await _obey(host, line.split()))
    finally:
        await host.close()


async def _begin(settings: Settings, slots: Any) -> tuple[Host, int]:
    tries = 0
    while True:
        tries += 1
        try:
            return await payment_host(settings, slots), tries
        except Retryable:
            await asyncio.sleep(TRY_AGAIN_S)


async def _obey(host: Host, words: list[str]) -> dict[str, Any]:
    match words:
        case ["pay", checkout_id, request]:
            return await submit_to(host, checkout_id, bytes.fromhex(request))
        case ["figures"]:
            return asdict(host.shard.figures)
        case _:
            raise Bug(f"not understood: {words}")


async def submit_to(host: Hosted, checkout_id: str, request: bytes) -> dict[str, str]:
    """Submits that CreatePaymentRequest to this very copy: the answer's name, and what it says."""
    told = submit_checkout(payment_pb2.CreatePaymentRequest.FromString(request), DEMO_TENANT)
    if not isinstance(told, SubmitCheckout):
        raise Bug("a checkout of ours is malformed")
    answers: Sequence[Answer] = await host.submit(
        [CheckoutCommand(EntityKey(DEMO_TENANT, checkout_id), told)], is_inner=False
    )
    answer = answers[0]
    said = asdict(answer) if is_dataclass(answer) else {}
    return {"answer": type(answer).__name__, "said": str(said.get("message", ""))}


def _tell(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
