"""The client's journal: intents before, answers after, and what a crash may leave."""

from pathlib import Path

import pytest

from loadtest.journal import Journal, read_journal
from loadtest.outcome import Result
from loadtest.shape import Checkout, Order

CHECKOUT = Checkout("co-1", "buyer-1", "pm_card_visa", (Order("po-1", "seller-1", "12.50", "USD"),))


def _intend(path: Path, call: str) -> None:
    with Journal(path, tenant="acme") as journal:
        journal.intend(call, CHECKOUT, fingerprint="f", sent_ms=1)


def test_an_intent_is_in_the_file_before_the_journal_is_closed(tmp_path: Path) -> None:
    """A line survives the death of its writer: it is the operating system's as soon as the call returns."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, tenant="acme")
    journal.intend("run-1", CHECKOUT, fingerprint="f", sent_ms=7)

    assert read_journal(path) == [
        {
            "kind": "intent",
            "call": "run-1",
            "tenant": "acme",
            "key": "co-1",
            "checkout_id": "co-1",
            "fingerprint": "f",
            "orders": [
                {"payment_order_id": "po-1", "seller_account": "seller-1", "amount": "12.50", "currency": "USD"}
            ],
            "sent_ms": 7,
        }
    ]
    journal.close()


def test_an_answer_says_what_was_told(tmp_path: Path) -> None:
    """Every reply is recorded with its bytes' hash and the status of each order."""
    path = tmp_path / "journal.jsonl"
    with Journal(path, tenant="acme", is_synced=True) as journal:
        journal.answer(
            "run-1",
            CHECKOUT,
            result=Result.OK,
            code="OK",
            reply_sha256="ab",
            replayed=True,
            orders=[("po-1", "SUCCESS")],
            answered_ms=9,
        )

    assert read_journal(path) == [
        {
            "kind": "answer",
            "call": "run-1",
            "key": "co-1",
            "result": "ok",
            "code": "OK",
            "reply_sha256": "ab",
            "replayed": True,
            "orders": [{"payment_order_id": "po-1", "status": "SUCCESS"}],
            "answered_ms": 9,
        }
    ]


def test_a_torn_last_line_is_left_out_by_the_reader(tmp_path: Path) -> None:
    """A crash within the last line takes nothing else with it."""
    path = tmp_path / "journal.jsonl"
    _intend(path, "run-1")
    path.write_bytes(path.read_bytes() + b'{"kind":"intent","call":"run-2","ten')

    assert [record["call"] for record in read_journal(path)] == ["run-1"]


@pytest.mark.parametrize("torn", [b'{"kind":"int', b"x" * 200_000])
def test_the_next_writer_cuts_a_torn_line_off_so_that_none_is_glued_to_it(tmp_path: Path, torn: bytes) -> None:
    """Damage within the file is damage to the auditor; a torn end is not."""
    path = tmp_path / "journal.jsonl"
    _intend(path, "run-1")
    path.write_bytes(path.read_bytes() + torn)
    _intend(path, "run-2")

    assert [record["call"] for record in read_journal(path)] == ["run-1", "run-2"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_file_of_one_torn_line_is_begun_anew(tmp_path: Path) -> None:
    """There is no whole line to keep."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"kind"')
    _intend(path, "run-1")

    assert [record["call"] for record in read_journal(path)] == ["run-1"]


def test_the_journal_can_be_a_device(tmp_path: Path) -> None:
    """A load by hand may keep no journal."""
    _intend(Path("/dev/null"), "run-1")

    assert list(tmp_path.iterdir()) == []
