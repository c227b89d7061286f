"""The files the auditor reads: believed when whole, refused when damaged, never guessed at."""

import json
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from simulator.audit.book import read_book
from simulator.audit.client import read_journal
from simulator.audit.database import plain_url
from simulator.audit.finding import EXAMPLES_MAX, Findings, Harm, SourceBroken
from simulator.audit.format import answer_line, intent_line, result_of

CHARGE = {
    "type": "charge", "id": "ch_1", "intent": "pi_1", "reference": "po-1", "status": "succeeded", "is_captured": True,
    "amount_captured": 500, "amount_refunded": 0, "currency": "jpy", "metadata": {"tenant": "acme"},
}  # fmt: skip


def lines_of(*documents: dict[str, object]) -> list[bytes]:
    return [json.dumps(document).encode() + b"\n" for document in documents]


def sent(call: str) -> bytes:
    order = {"payment_order_id": "po-1", "seller_account": "s", "amount": "1.00", "currency": "USD"}
    return intent_line(call=call, tenant="acme", key="k", checkout_id="c", fingerprint="f", orders=[order], sent_ms=1)


def answered(call: str, code: str = "OK") -> bytes:
    told = [{"payment_order_id": "po-1", "status": "SUCCESS"}]
    return answer_line(call=call, key="k", code=code, reply_sha256="ab", orders=told, answered_ms=2)


def journal_of(folder: Path, *lines: bytes) -> Path:
    path = folder / "journal.jsonl"
    path.write_bytes(b"".join(lines))
    return path


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgresql+psycopg://a:b%40c@db:5/z", {"user": "a", "password": "b@c", "host": "db", "port": "5", "dbname": "z"}),
        (
            "cockroachdb://auditor@/z?host=c1:26257&host=c2:26257&sslmode=verify-full&sslrootcert=/clients/ca.crt",
            {
                "user": "auditor", "host": "c1,c2", "port": "26257,26257", "dbname": "z", "sslmode": "verify-full",
                "sslrootcert": "/clients/ca.crt",
            },
        ),
        ("postgresql+psycopg:///z?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "z"}),
        ("host=db dbname=z", {"host": "db", "dbname": "z"}),
    ],
)  # fmt: skip
def test_a_database_url_is_read_as_the_product_reads_it(url: str, read: dict[str, str]) -> None:
    """The hosts of a cluster, as docker-compose.yml names them, were one host of an odd name."""
    assert conninfo_to_dict(plain_url(url)) == read


def test_book_keeps_only_charges_that_took_money() -> None:
    """A declined try and an authorization take none; amounts are of ISO 4217, currencies upper case."""
    declined, held = {**CHARGE, "status": "failed"}, {**CHARGE, "is_captured": False}

    book = read_book(lines_of(CHARGE, declined, held, {"type": "end", "counts": {"charge": 3}}))

    (charge,) = book.charges
    assert (charge.taken_minor, charge.currency, charge.tenant, charge.is_live) == (500, "JPY", "acme", True)


@pytest.mark.parametrize(
    "lines",
    [
        lines_of(CHARGE),
        lines_of(CHARGE, {"type": "end", "counts": {"charge": 2}}),
        lines_of({"type": "end", "counts": {}}, CHARGE),
        [b"{\n"],
        lines_of({"type": "charge"}, {"type": "end", "counts": {"charge": 1}}),
    ],
    ids=["cut off", "too few", "goes on", "no JSON", "fields missing"],
)
def test_book_that_is_not_whole_is_refused(lines: list[bytes]) -> None:
    """Half a truth would show lost money everywhere, or nowhere."""
    with pytest.raises(SourceBroken):
        read_book(lines)


def test_call_without_an_answer_is_unknown(tmp_path: Path) -> None:
    """The client may have died between sending and writing."""
    journal = read_journal([journal_of(tmp_path, sent("1"), answered("1"), sent("2"))])

    assert journal.results() == {"ok": 1, "unknown": 1}
    assert journal.checkouts == {("acme", "c")}


def test_torn_last_line_is_counted_and_passed_over(tmp_path: Path) -> None:
    """A killed load test leaves one; the call it was about is unknown."""
    journal = read_journal([journal_of(tmp_path, sent("1"), answered("1")[:-9])])

    assert (journal.torn_lines, journal.results()) == (1, {"unknown": 1})


@pytest.mark.parametrize(
    "damaged",
    [b"{}\n", sent("1"), answered("2"), b"nonsense\n"],
    ids=["empty", "sent twice", "answer to nothing", "no JSON"],
)
def test_damage_before_the_end_of_the_journal_is_refused(tmp_path: Path, damaged: bytes) -> None:
    """Only the last line may be torn."""
    with pytest.raises(SourceBroken):
        read_journal([journal_of(tmp_path, sent("1"), damaged, answered("1"))])


def test_missing_journal_is_refused(tmp_path: Path) -> None:
    """A path that leads nowhere must not pass for a load test without calls."""
    with pytest.raises(SourceBroken):
        read_journal([tmp_path / "none"])


@pytest.mark.parametrize(
    ("code", "result"),
    [("OK", "ok"), ("INVALID_ARGUMENT", "fail"), ("FAILED_PRECONDITION", "fail"), ("UNAVAILABLE", "unknown"),
     ("RESOURCE_EXHAUSTED", "unknown"), ("DEADLINE_EXCEEDED", "unknown"), ("INTERNAL", "unknown")],
)  # fmt: skip
def test_code_that_does_not_prove_anything_is_unknown(code: str, result: str) -> None:
    """RESOURCE_EXHAUSTED too: the same key may be in flight."""
    assert result_of(code) == result


def test_findings_are_all_counted_and_few_kept() -> None:
    """Memory does not grow with the damage."""
    found = Findings()
    for number in range(EXAMPLES_MAX + 5):
        found.add(f"order {number}", "is lost", harm=Harm.LOSS)

    assert (found.count, len(found.examples), found.by_harm[Harm.LOSS]) == (
        EXAMPLES_MAX + 5,
        EXAMPLES_MAX,
        EXAMPLES_MAX + 5,
    )
