"""What `zerosum bench post --rpc` sends is what the ledger's door takes, and what it tells of it."""

from loadtest.bench.card import Card
from loadtest.bench.finding import Spread
from loadtest.bench.post_rpc import CASES, Turn, finding_of, journal_message
from loadtest.peers.peer import Posting
from servers.door import check
from zerosum.v1 import ledger_pb2 as pb

CARD = Card(10_000.0, 8_000.0, 30_000.0, 400.0, 1_000.0)


def test_a_posting_is_a_balanced_journal_that_the_door_takes() -> None:
    """The contract's own rules, and the sum of zero that the domain asks for."""
    journal = journal_message(Posting("post-1-ab", "seller-7", 1_250))

    assert check(pb.PostJournalsRequest(journals=[journal])) == []
    assert [(entry.account, entry.money.amount) for entry in journal.entries] == [
        ("psp:stripe:clearing:USD", "12.50"),
        ("seller:seller-7:pending:USD", "-12.50"),
    ]


def test_each_case_is_told_by_its_rounds_and_a_loss_voids_all() -> None:
    turns = [Turn(case, 100.0 * place + extra, 50.0, 5.0) for extra in (1, 2, 3) for place, case in enumerate(CASES, 1)]

    told = finding_of(turns, 10, 2, command="c")

    assert [row[0] for row in told.rows] == [str(case) for case in CASES]
    assert told.rows[1][1] == Spread((201.0, 202.0, 203.0))
    assert told.headline == f"post over gRPC ({CASES[-1]}): 802 (801 to 803)/s"
    assert told.void_because == ("2 acknowledged journals are lost",)
    assert told.status == 1
