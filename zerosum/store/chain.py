"""The hash of a slot's log: what it covers and its exact form, so that others can recompute it from SQL alone.

For each commit that touches a slot there is one row in `slot_log`: (slot, seq, epoch, hash, at_ms), and

    hash = SHA-256( previous hash || document )

`previous hash` is that of (slot, seq - 1); for seq 1 it is 32 zero bytes. `document` is one JSON text in UTF-8: keys
sorted by code point, no spaces (separators "," and ":"), characters beyond ASCII not escaped, control characters, `"` and
backslash escaped as Python's `json` does. It is an object with these members:

    "slot_log"       {"at_ms", "epoch", "seq", "slot"} of this very row
    "<table>"        for each table below that has rows with this (slot, seq): an array of these rows in the order
                     (ord, line), each an object of all its columns; integers as numbers, text as strings

    payment: history, refusals     wallet: entries     ledger: journals, entries

Rows without (slot, seq, ord) are not covered: `commands` (a command's slot is its own key's, not its entity's), `inbox`
and `checkpoints`. Mutable rows are not covered either: they are the fold of the rows that are.

Invariant: the same rows give the same bytes, for ever; a new column or table needs a new chain, not a new form of this one.
"""

import hashlib
from collections.abc import Mapping, Sequence

from zerosum.ports import SlotHead
from zerosum.store.mapping import Row, canonical_bytes

GENESIS = bytes(32)
"""What the first commit of a slot is chained to."""


def next_head(head: SlotHead, logged: Mapping[str, Sequence[Row]], at_ms: int) -> SlotHead:
    """The slot's head after a commit that adds these rows, by table, each in the order (ord, line)."""
    seq = head.seq + 1
    heading = {"at_ms": at_ms, "epoch": head.epoch, "seq": seq, "slot": head.slot}
    document = canonical_bytes({"slot_log": heading, **logged})
    return SlotHead(head.slot, head.epoch, seq, hashlib.sha256(head.hash + document).digest())
