"""The simulator's engine on a memory book with a hand-moved clock, for unit tests."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from simulator.psp.book import MemoryBook
from simulator.psp.call import Answer, Call, Plan
from simulator.psp.engine import Engine
from simulator.psp.faults import FaultPlan, OneShot, Rates

START_MS = 1_800_000_000_000
API_KEY = "sk_test"


class Psp:
    """An engine and its clock. `post` and `get` return (status, document); a closed connection is (0, {})."""

    def __init__(self, *, seed: int = 1, rates: dict[str, Any] | None = None, **options: Any) -> None:
        self.book = MemoryBook()
        self.now_ms = START_MS
        plan = FaultPlan(seed=seed, rates=Rates.parse(rates or {}))
        self.engine = Engine(book=self.book, plan=plan, api_key=API_KEY, **options)

    def advance(self, ms: int) -> None:
        self.now_ms += ms
        self.engine.tick(self.now_ms)

    def one_shot(self, fault: str, operation: str, **more: Any) -> None:
        self.engine.plan.add_one_shot(OneShot.parse({"fault": fault, "operation": operation, **more}))

    def plan(self, method: str, path: str, form: dict[str, str] | None = None, key: str | None = None) -> Plan:
        text = urlencode(form or {})
        body, query = (text, "") if method == "POST" else ("", text)
        authorization = f"Bearer {API_KEY}"
        call = Call(method=method, path=path, query=query, body=body, key=key, authorization=authorization)
        return self.engine.handle(call, self.now_ms)

    def post(self, path: str, form: dict[str, str] | None = None, key: str | None = None) -> tuple[int, Any]:
        return shown(self.plan("POST", path, form, key).answer)

    def get(self, path: str, form: dict[str, str] | None = None) -> tuple[int, Any]:
        return shown(self.plan("GET", path, form).answer)

    def prepare(self, order: str = "order-1", card: str = "pm_card_visa", **more: str) -> Any:
        form = {"amount": "1000", "currency": "usd", "payment_method": card, "metadata[payment_order_id]": order}
        status, intent = self.post("/v1/payment_intents", {**form, **more}, key=f"prepare {order}")
        assert status == 200, intent
        return intent

    def prepare_until(self, order: str) -> str:
        """Prepare under faults as a patient caller does; return the id that the book has."""
        for _ in range(20):
            form = {"amount": "1000", "currency": "usd", "payment_method": "pm_card_visa"}
            self.post("/v1/payment_intents", {**form, "metadata[payment_order_id]": order}, key=f"prepare {order}")
            self.advance(5_000)
            for intent in self.engine.account.intents.values():
                if intent.reference == order:
                    return intent.id
        raise AssertionError(f"{order} was never prepared")

    def confirm(self, id_: str, key: str = "confirm", **form: str) -> tuple[int, Any]:
        return self.post(f"/v1/payment_intents/{id_}/confirm", form, key=key)

    def events(self) -> list[str]:
        return [each["event"] for each in self.engine.outbox.log()]

    def captured(self) -> list[str | None]:
        """The references of the charges that took money."""
        return [
            each.metadata.get("payment_order_id") for each in self.engine.account.charges.values() if each.is_captured
        ]


def shown(answer: Answer | None) -> tuple[int, Any]:
    if answer is None:
        return 0, {}
    if ("Content-Type", "text/html") in answer.headers:
        return answer.status, answer.body.decode()
    return answer.status, json.loads(answer.body)
