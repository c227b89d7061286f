"""The simple risk check: everyone is allowed but the buyers and sellers whose accounts stand in a file.

The file has one account a line; blank lines and lines that begin with "#" are skipped. It is looked at before every verdict
and read again when it has changed (its times, size or inode), so an operator blocks somebody by editing it. To replace it
whole is safest (write beside it, then rename): an edit in place may be read half done.

Invariant: fail closed. No verdict is given from a list that cannot be read; the checkout waits (failures.md row P8).
"""

import os
from pathlib import Path

from zerosum.domain.message import Verdict
from zerosum.domain.request import AssessRisk
from zerosum.errors import NotSent
from zerosum.ports import RiskAnswer

_Stamp = tuple[int, int, int, int]
"""What changes when a file does: times of modification and change in nanoseconds, size, inode."""


class AllowList:
    """Implements `RiskCheck`. `blocked_file`: the file of blocked accounts; None = everyone is allowed."""

    def __init__(self, blocked_file: Path | None) -> None:
        self._file = blocked_file
        self._stamp: _Stamp | None = None
        self._blocked: frozenset[str] = frozenset()

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        """BLOCK with reason "buyer_blocked" or "seller_blocked" where one of them is listed, else ALLOW.

        Raises NotSent where the file cannot be read: nobody was asked and no money moved.
        """
        return self._verdict(request)

    def judge(self, request: AssessRisk) -> RiskAnswer | None:
        """The same at once. None where the file cannot be read: the checkout is stored, waits and asks again."""
        try:
            return self._verdict(request)
        except NotSent:
            return None

    def _verdict(self, request: AssessRisk) -> RiskAnswer:
        blocked = self._read()
        if request.buyer_account in blocked:
            return RiskAnswer(Verdict.BLOCK, "buyer_blocked")
        if any(seller in blocked for seller, _ in request.orders):
            return RiskAnswer(Verdict.BLOCK, "seller_blocked")
        return RiskAnswer(Verdict.ALLOW, "")

    def _read(self) -> frozenset[str]:
        """The accounts in the file as it is now. A local file of a few KB: read without leaving the event loop."""
        if self._file is None:
            return self._blocked
        try:
            if self._stamp != _stamp_of(self._file.stat()):
                with self._file.open(encoding="utf-8") as lines:
                    stamp = _stamp_of(os.fstat(lines.fileno()))  # before reading: a change meanwhile is read next time
                    self._blocked = _accounts(lines.read())
                    self._stamp = stamp
        except (OSError, ValueError) as trouble:  # ValueError: it is not UTF-8
            self._stamp = None  # what comes back is read anew, whatever it looks like from outside
            raise NotSent("the list of blocked accounts cannot be read") from trouble
        return self._blocked


def _stamp_of(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _accounts(text: str) -> frozenset[str]:
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))
