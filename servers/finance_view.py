"""How the command line shows files, runs and cases: messages in, rows out; and the words its options take.

Invariant: an amount is shown as it was told, in major units beside its currency, never computed with.
"""

import json
import time
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from servers.finance_client import SHORT_ID, digest_of
from zerosum.domain.discrepancy import Kind
from zerosum.errors import Misconfigured
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1.common_pb2 import Money

Row = dict[str, Any]

_HOUR_S = 3_600
_HOURS_A_DAY = 24

_HOW = {
    "as-proposed": pb.RESOLUTION_AS_PROPOSED,
    "write-off": pb.RESOLUTION_WRITE_OFF,
    "close": pb.RESOLUTION_CLOSE,
}


class _Words(Protocol):
    """An enum of the contract."""

    def Name(self, number: Any) -> str: ...  # noqa: N802 - the stubs' name
    def items(self) -> Iterable[tuple[str, Any]]: ...


# ---- words of options ----------------------------------------------------------------------------------------------


def resolution_of(how: str) -> pb.Resolution.ValueType:
    """The resolution a word stands for. Raises Misconfigured."""
    if how not in _HOW:
        raise Misconfigured(f"how: there is no way {how!r} to settle a case; there are {', '.join(_HOW)}")
    return _HOW[how]


def day_of(text: str) -> str:
    """The day a run is asked for, as it was written. Raises Misconfigured for what is no YYYY-MM-DD."""
    try:
        is_day = date.fromisoformat(text).isoformat() == text
    except ValueError:
        is_day = False
    if not is_day:
        raise Misconfigured(f"--day: a day is YYYY-MM-DD, such as 2026-11-26, and not {text!r}")
    return text


def filter_of(
    *, state: str, group: str, kind: str, assignee: str, psp: str, order: str, older_than_hours: int
) -> pb.ListMismatchesRequest:
    """The request for a list. Raises Misconfigured for a word that is none."""
    request = pb.ListMismatchesRequest(
        state=_number(pb.MismatchState, state, "state"), kind=_kind(kind), assignee=assignee, psp=psp, payment_order_id=order,
        older_than_ms=older_than_hours * _HOUR_S * 1_000,
    )  # fmt: skip
    setattr(request, "class", _number(pb.MismatchClass, group, "class"))
    return request


def _kind(word: str) -> str:
    """The kind a word stands for ("" = all)."""
    if word and word.lower() not in set(Kind):
        raise Misconfigured(f"--kind: there is no kind {word!r}; there are {', '.join(Kind)}")
    return word.lower()


def _number(words: _Words, word: str, what: str) -> Any:
    """The number of a word ("" = unspecified)."""
    known = {_plain(name): number for name, number in words.items()}
    if word and word.upper() not in known:
        names = ", ".join(name.lower() for name, number in known.items() if number)
        raise Misconfigured(f"--{what}: there is no {what} {word!r}; there are {names}")
    return known[word.upper()] if word else 0


def _plain(name: str) -> str:
    """ "MISMATCH_STATE_WRITTEN_OFF" -> "WRITTEN_OFF"."""
    return name.removeprefix("MISMATCH_STATE_").removeprefix("MISMATCH_CLASS_").removeprefix("FILE_STATE_")


# ---- rows ----------------------------------------------------------------------------------------------------------


def file_row(file: pb.SettlementFile) -> Row:
    """A file."""
    return {
        "file": file.file_id[:12],
        "psp": file.psp,
        "day": file.day,
        "name": file.name,
        "version": file.version,
        "state": _plain(pb.FileState.Name(file.state)),
        "lines": file.lines,
        "by": file.received_by,
        "received": _instant(file.received_at),
        "reason": file.reason,
    }


def run_row(run: pb.Run) -> Row:
    """A run in a list."""
    return {
        "run": run.run_id,
        "state": run.state,
        "explained": explained(run.explained_ppm),
        "lines": run.lines,
        "movements": run.movements,
        "mismatches": sum(run.by_kind.values()),
        "asked by": run.asked_by,
        "began": _instant(run.started_at),
        "ended": _instant(run.ended_at) if run.HasField("ended_at") else "",
    }


def run_rows(run: pb.Run) -> list[Row]:
    """A run, figure by figure."""
    figures: list[tuple[str, object]] = list(run_row(run).items())
    figures += [("psp", run.psp), ("period", run.period), ("attempt", run.attempt), ("rules", run.rules)]
    figures += [("reason", run.reason)] if run.reason else []
    for name, counts in (("state", run.by_state), ("class", run.by_class), ("kind", run.by_kind)):
        figures += [(f"{name} {word}", count) for word, count in sorted(counts.items())]
    return [{"figure": figure, "value": value} for figure, value in figures]


def case_row(case: pb.Mismatch, *, is_short: bool) -> Row:
    """A case in a list. `is_short`: the id's beginning, as people copy it."""
    return {
        "id": digest_of(case.mismatch_id)[:SHORT_ID] if is_short else case.mismatch_id,
        "age": age(case.opened_at, time.time()),
        "class": _class(case),
        "kind": case.kind,
        "state": _plain(pb.MismatchState.Name(case.state)),
        "amount": amount(case.money),
        "order": case.payment_order_id,
        "ours": case.ours,
        "theirs": case.theirs,
        "proposed": case.proposed_action,
        "assignee": case.assignee,
    }


def case_facts(whole: pb.GetMismatchResponse) -> list[Row]:
    """A case, fact by fact."""
    case = whole.mismatch
    facts = case_row(case, is_short=False) | {
        "field": case.field,
        "likely cause": case.likely_cause,
        "what follows": whole.follows,
        "psp": case.psp,
        "tenant": case.tenant,
        "checkout": case.checkout_id,
        "line": case.line_id,
        "file": case.file_id,
        "seen by": f"{case.first_run_id} .. {case.last_run_id}",
    }
    return [{"fact": name, "value": value} for name, value in facts.items() if value]


def posting_rows(postings: Iterable[pb.Posting]) -> list[Row]:
    """A dry run: debit positive."""
    return [{"account": side.account, "amount": amount(side.money)} for side in postings]


def act_rows(acts: Iterable[pb.CaseAct]) -> list[Row]:
    """Acts in order."""
    return [
        {"no": act.number, "act": act.act, "by": act.actor, "at": _instant(act.at), "says": _said(act.detail_json)}
        for act in acts
    ]


def ageing_rows(ageing: pb.GetAgeingResponse) -> list[Row]:
    """A row a band, a column a class."""
    rows: dict[tuple[int, int], Row] = {}
    for band in ageing.bands:
        name = (
            f"{_hours(band.from_hours)} to {_hours(band.to_hours)}"
            if band.to_hours
            else f"over {_hours(band.from_hours)}"
        )
        row = rows.setdefault(
            (band.from_hours, band.to_hours), {"age": name, "automatic": 0, "manual": 0, "unclassified": 0}
        )
        row[_class(band)] += band.cases
    return [rows[band] for band in sorted(rows)]


def suspense_rows(ageing: pb.GetAgeingResponse) -> list[Row]:
    """A row a currency."""
    return [
        {
            "suspense": held.came.currency,
            "came": amount(held.came),
            "went": amount(held.went),
            "of": held.parts,
            "oldest": _hours(held.oldest_ms // (_HOUR_S * 1_000)),
        }
        for held in ageing.suspense
    ]


def case_document(case: pb.GetMismatchResponse) -> Row:
    """A case whole, for programs."""
    document: Row = MessageToDict(case, preserving_proto_field_name=True)
    return document


# ---- cells ---------------------------------------------------------------------------------------------------------


def amount(money: Money) -> str:
    """ "12.50 USD", "" where there is none."""
    return f"{money.amount} {money.currency}" if money.currency else ""


def age(since: Timestamp, now_s: float) -> str:
    """ "3 d 4 h", "4 h", "12 min"."""
    seconds = max(0, int(now_s) - since.seconds)
    if seconds < _HOUR_S:
        return f"{seconds // 60} min"
    return _hours(seconds // _HOUR_S)


def _hours(hours: int) -> str:
    days, rest = divmod(hours, _HOURS_A_DAY)
    return f"{days} d {rest} h" if days and rest else f"{days} d" if days else f"{rest} h"


def explained(ppm: int) -> str:
    """Millionths as a percentage, cut and never rounded up: 999999 -> "99.9999 %"."""
    return f"{ppm // 10_000}.{ppm % 10_000:04} %"


def _class(row: pb.Mismatch | pb.AgeBand) -> str:
    return _plain(pb.MismatchClass.Name(getattr(row, "class"))).lower()


def _instant(at: Timestamp) -> str:
    return at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if at.seconds else ""


def _said(detail_json: str) -> str:
    """What an act says, in its own words."""
    told: Mapping[str, Any] = json.loads(detail_json or "{}")
    asked = told.get("asked", told)
    return ", ".join(f"{name}: {value}" for name, value in asked.items() if not isinstance(value, list | dict))
