"""Ablations of how a webhook is told from a forgery (row S7).

Invariant: see `plant.py`.
"""

from functools import partial
from typing import Any, Final

from simulator.world.ablations.plant import Plant, ablation
from zerosum.psp.stripe import webhook

_FOR_EVER_S: Final = 10**10


@ablation("no-signature", "a webhook's signature is read and not compared", "S7, I19")
def no_signature(plant: Plant) -> None:
    def holds(_body: bytes, _timestamp: str, _signatures: Any, secrets: Any) -> str:
        name: str = secrets[0][0]
        return name

    plant.instead(webhook, "_holds", holds)


@ablation("no-timestamp", "a webhook may be as old as it likes, or of a time to come", "S7, I19")
def no_timestamp(plant: Plant) -> None:
    plant.instead(webhook, "verify", partial(webhook.verify, tolerance_s=_FOR_EVER_S))
