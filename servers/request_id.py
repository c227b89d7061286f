"""Request ids: the caller's own where it sends one that is fit to print, else one of ours. They tie log lines together.

Invariant: what is taken over is a short name without anything a card number could be.
"""

import re
from collections.abc import Sequence

from zerosum.domain.card import holds_card_number

REQUEST_ID = "x-request-id"
_FIT = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def request_id_of(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The caller's request id, "" where it has none that is fit."""
    for name, value in metadata:
        if name == REQUEST_ID and isinstance(value, str):
            return value if is_fit(value) else ""
    return ""


def is_fit(request_id: str) -> bool:
    """Whether a request id of somebody else may be taken over."""
    return bool(_FIT.fullmatch(request_id)) and not holds_card_number(request_id)
