"""Ids derived from what they name, so that a plan repeated from its seed has the same objects."""

from __future__ import annotations

from hashlib import blake2b

# 12 bytes are 96 bits: a twin among a million objects has a chance of 10^-17.
_ID_BYTES = 12


def derive(prefix: str, *parts: object) -> str:
    """Return `prefix_` and 24 hexadecimal digits that depend on the parts alone."""
    text = "|".join(map(str, parts))
    return f"{prefix}_{blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()}"
