"""The second source: the PSP's book, as `GET /_admin/truth` of the simulator streams it (JSON lines).

Lines by `type`: intent, charge, refund, balance_transaction, webhook, and last `end` with the counts of the others.
Amounts become ISO minor units and currencies upper case here, at the border; unknown line types are passed over.
Invariant: a stream that was cut off is never taken for the truth.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from simulator.audit.finding import SourceBroken
from simulator.audit.money import NotAnAmount, from_stripe

_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class BookCharge:
    """A charge that took money. `tenant` is "" where the object does not name it."""

    id: str
    intent: str
    reference: str
    tenant: str
    taken_minor: int
    refunded_minor: int
    currency: str

    @property
    def is_live(self) -> bool:
        """The buyer is still out of some of this money."""
        return self.taken_minor > self.refunded_minor


@dataclass(frozen=True, slots=True)
class BookEvent:
    """A webhook and what became of it. `accepted`: deliveries answered with a 2xx."""

    id: str
    type: str
    object_id: str
    accepted: int


@dataclass(slots=True)
class Book:
    """Everything the PSP says happened."""

    charges: list[BookCharge] = field(default_factory=list)
    events: list[BookEvent] = field(default_factory=list)
    intents: int = 0
    refunded_of_charge: Counter[str] = field(default_factory=Counter)
    balance_gross: Counter[str] = field(default_factory=Counter)
    balance_fee: Counter[str] = field(default_factory=Counter)
    """Per currency: what the balance transactions move, and the PSP's part of it."""
    fees: dict[str, int] = field(default_factory=dict)
    """Balance transaction -> the PSP's part of it."""

    def note(self, line: dict[str, Any]) -> None:
        """Take over one line."""
        match line["type"]:
            case "intent":
                self.intents += 1
            case "charge":
                self._note_charge(line)
            case "refund" if line["status"] == "succeeded":
                self.refunded_of_charge[line["charge"]] += _minor(line, "amount")
            case "balance_transaction":
                currency = line["currency"].upper()
                self.balance_gross[currency] += _minor(line, "amount")
                self.balance_fee[currency] += (fee := _minor(line, "fee"))
                self.fees[line["id"]] = fee
            case "webhook":
                self.events.append(BookEvent(line["id"], line["event"], line["object"], line["accepted"]))

    def _note_charge(self, line: dict[str, Any]) -> None:
        if line["status"] != "succeeded" or not line["is_captured"]:
            return
        self.charges.append(
            BookCharge(
                id=line["id"],
                intent=line["intent"],
                reference=line.get("reference") or "",
                tenant=(line.get("metadata") or {}).get("tenant", ""),
                taken_minor=_minor(line, "amount_captured"),
                refunded_minor=_minor(line, "amount_refunded"),
                currency=line["currency"].upper(),
            )
        )


def read_book(lines: Iterable[bytes]) -> Book:
    """Read the truth. Raises SourceBroken when it is cut off, damaged, or its counts do not hold."""
    book, counts, end = Book(), Counter[str](), None
    for number, line in enumerate(lines, 1):
        if end is not None:
            raise SourceBroken(f"the PSP's truth goes on after its end, line {number}")
        try:
            document = json.loads(line)
            if document["type"] == "end":
                end = document["counts"]
                continue
            counts[document["type"]] += 1
            book.note(document)
        except (ValueError, KeyError, TypeError, NotAnAmount) as error:
            raise SourceBroken(f"the PSP's truth is damaged in line {number}: {error!r}") from error
    if end is None:
        raise SourceBroken("the PSP's truth was cut off: it has no last line")
    if dict(counts) != end:
        raise SourceBroken(f"the PSP's truth announces {end} and holds {dict(counts)}")
    return book


def fetch_truth(url: str, token: str) -> Iterator[bytes]:
    """Stream the lines of the truth from a running simulator. Raises SourceBroken when it is away or says no."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=_TIMEOUT_S)
    try:
        path = f"{parts.path.rstrip('/')}/_admin/truth"
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        if response.status != 200:  # noqa: PLR2004 (the HTTP status everybody knows)
            raise SourceBroken(f"the PSP's truth is refused: HTTP {response.status}")
        yield from response
    except (OSError, HTTPException) as error:
        raise SourceBroken(f"the PSP's truth cannot be read: {error!r}") from error
    finally:
        connection.close()


def file_truth(path: Path) -> Iterator[bytes]:
    """Stream the lines of a saved truth. Raises SourceBroken when there is none."""
    try:
        with path.open("rb") as lines:
            yield from lines
    except OSError as error:
        raise SourceBroken(f"the PSP's truth cannot be read: {error}") from error


def _minor(line: dict[str, Any], name: str) -> int:
    return from_stripe(line[name], line["currency"].upper())
