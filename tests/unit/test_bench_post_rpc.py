"""What `zerosum bench post --rpc` sends is what the ledger's door takes."""

from loadtest.bench.post_rpc import journal_message
from loadtest.peers.peer import Posting
from servers.door import check
from zerosum.v1 import ledger_pb2 as pb


def test_a_posting_is_a_balanced_journal_that_the_door_takes() -> None:
    """The contract's own rules, and the sum of zero that the domain asks for."""
    journal = journal_message(Posting("post-1-ab", "seller-7", 1_250))

    assert check(pb.PostJournalsRequest(journals=[journal])) == []
    assert [(entry.account, entry.money.amount) for entry in journal.entries] == [
        ("psp:stripe:clearing:USD", "12.50"),
        ("seller:seller-7:pending:USD", "-12.50"),
    ]
