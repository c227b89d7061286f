"""Somebody who is not the PSP and speaks as if they were: forged, altered, stale and foretold webhooks (row S7).

They know more than any attacker could: the ids of real objects, the shape of events, and, for what is only out of its time,
the very secret. Whatever they send must be answered 400; what is recorded of it all the same, the proof finds in the inbox.

Invariant: nothing that is sent here is within the tolerance and signed by the PSP's secret.
"""

import json
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from simulator.psp.stripe.objects import Intent, Status
from simulator.psp.stripe.wire import event_json, to_bytes
from simulator.psp.webhooks import signature
from simulator.world.loop import Party
from simulator.world.network import Lost, Network, Refused
from simulator.world.psp import SERVER, WEBHOOK_SECRET, Psp
from simulator.world.trace import Trace
from zerosum.errors import Unavailable

FAULT: Final = "forged_webhooks_per_minute"
FORGERIES: Final = ("unsigned", "malformed", "truncated", "other_secret", "altered", "stale", "future")

_OUT_OF_TIME_S: Final = (1_000, 100_000)
"""Beyond the tolerance of 300 s by whatever a server's wall clock may be off (10 minutes)."""
_REFUSED: Final = 400


class Forger:
    """Sends one forgery at a time. `wrong`: those that were taken for the PSP's."""

    def __init__(self, psp: Psp, network: Network, trace: Trace, seed: int) -> None:
        self._psp, self._network, self._trace = psp, network, trace
        self._chance = Random(f"forger {seed}")
        self._sent = 0
        self.party = Party("forger")
        self.wrong: list[str] = []

    async def forge(self) -> None:
        """One forgery about some object that there is; nothing while there is none."""
        intents = list(self._psp.engine.account.intents.values())
        if not intents:
            return
        kind = self._chance.choice(FORGERIES)
        body, headers = self._forged(kind, self._chance.choice(intents))
        self._trace.fault(FAULT, kind)
        self._trace.met[f"forged_{kind}"] += 1
        try:
            status = await self._network.ask(SERVER, f"forgery {kind}", lambda server: server.receive(body, headers))
        except (Lost, Refused, Unavailable):
            return
        self._trace.met["forgery_refused"] += status == _REFUSED
        if status != _REFUSED:
            self.wrong.append(f"I19: a webhook that is {kind} was answered {status}")

    def _forged(self, kind: str, intent: Intent) -> tuple[bytes, Mapping[str, str]]:
        """That an order is paid: what an attacker would like us to believe."""
        self._sent += 1
        now_ms = self._psp.now_ms()
        paid = intent._replace(status=Status.SUCCEEDED, amount_received=intent.amount)
        event: dict[str, Any] = event_json(
            f"evt_forged{self._sent}", "payment_intent.succeeded", paid, created_ms=now_ms, request_id=None, key=None
        )
        body, now_s = to_bytes(event), now_ms // 1_000
        away_s = self._chance.randint(*_OUT_OF_TIME_S)
        signed_at_s = {"stale": now_s - away_s, "future": now_s + away_s}.get(kind, now_s)
        secret = "whsec_of_nobody" if kind == "other_secret" else WEBHOOK_SECRET
        header = signature(body, secret=secret, signed_at_s=signed_at_s)
        match kind:
            case "unsigned":
                return body, {"content-type": "application/json"}
            case "malformed":
                header = header.replace("t=", "at=")
            case "truncated":
                header = header[:-8]
            case "altered":  # the same event, written down by another program
                body = json.dumps(event, indent=1).encode()
        return body, {"stripe-signature": header, "content-type": "application/json"}
