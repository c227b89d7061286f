"""The client's journal: what buyers asked for and were told, one JSON object a line, append-only.

The third source of the audit. Its format is defined by the reader, `simulator/audit/format.py`, which shares no code with
this writer: every try is a call of its own, with its own intent; a retry bears the same key. A line is handed to the
operating system in one write, so it survives the death of this process.
Invariant: an intent is written before its request is sent, an answer after the reply has arrived.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from loadtest.outcome import Result
from loadtest.shape import Checkout

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Journal:
    """Appends intents and answers. One writer process a file."""

    def __init__(self, path: Path, *, tenant: str, is_synced: bool = False) -> None:
        """`tenant`: whose token is used. `is_synced`: fsync after every line (survives the machine, costs ~0.1 ms).

        A line that the last writer left torn is cut off: an intent not written was not sent, a lost answer is unknown.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tenant = tenant
        self._is_synced = is_synced
        self._file = os.open(path, _FLAGS, 0o600)
        whole_bytes = _whole_bytes(path)
        if whole_bytes < path.stat().st_size:
            os.ftruncate(self._file, whole_bytes)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the journal; the file stays."""
        os.close(self._file)

    def intend(self, call: str, checkout: Checkout, *, fingerprint: str, sent_ms: int) -> None:
        """Records that this checkout is about to be sent as `call`: one RPC, unique over all files."""
        orders = [
            {
                "payment_order_id": order.payment_order_id,
                "seller_account": order.seller_account,
                "amount": order.amount,
                "currency": order.currency,
            }
            for order in checkout.orders
        ]
        self._append(
            {
                "kind": "intent",
                "call": call,
                "tenant": self._tenant,
                "key": checkout.checkout_id,
                "checkout_id": checkout.checkout_id,
                "fingerprint": fingerprint,
                "orders": orders,
                "sent_ms": sent_ms,
            }
        )

    def answer(
        self,
        call: str,
        checkout: Checkout,
        *,
        result: Result,
        code: str,
        reply_sha256: str,
        replayed: bool,
        orders: Sequence[tuple[str, str]],
        answered_ms: int,
    ) -> None:
        """Records the reply to `call`. `orders`: (payment_order_id, status) as told; empty unless `result` is ok."""
        self._append(
            {
                "kind": "answer",
                "call": call,
                "key": checkout.checkout_id,
                "result": result.value,
                "code": code,
                "reply_sha256": reply_sha256,
                "replayed": replayed,
                "orders": [{"payment_order_id": order_id, "status": status} for order_id, status in orders],
                "answered_ms": answered_ms,
            }
        )

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"the journal took {written} of {len(line)} bytes: its disk is full")
        if self._is_synced:
            os.fsync(self._file)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Every whole record, in order. A line torn by a crash is left out: what was not written was not sent."""
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line. Reads back from the end: a line is at most a few KB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = size
        while position > 0:
            start = max(0, position - 65_536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
    return 0
