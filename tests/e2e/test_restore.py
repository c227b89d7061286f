"""An old backup is restored while the PSP is ahead (row D10): nothing is charged twice, and what was lost comes back once."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.system import RunningSystem
from tests.e2e.test_reconciliation import Finance
from tests.e2e.test_reconciliation_crash import ended, posted, settled_by

pytestmark = pytest.mark.e2e


def test_checkouts_that_a_restore_lost_are_paid_once_when_their_callers_come_again(own: RunningSystem) -> None:
    """D10, I3, I12: cold backup, a checkout paid after it, the backup restored. The settlement file shows what is missing as a
    case; the same checkout is submitted again, takes over its charge, is posted once, and the case closes by itself."""
    kept, lost = new_checkout("kept"), new_checkout("lost")
    own.start()
    with Caller(own) as caller:
        caller.pay(kept)
        assert settled(own, caller, kept) == once("12.50")
    stop(own)
    copy(own.data / "postgres", own.folder / "backup")

    own.start()
    with Caller(own) as caller:
        caller.pay(lost)
        assert settled(own, caller, lost) == once("12.50")
    stop(own)
    shutil.rmtree(own.data / "postgres")
    copy(own.folder / "backup", own.data / "postgres")

    own.settings = own.settings.model_copy(update={"psp_asks_first": True})
    own.start()
    ada = Finance(own, "ada")
    with Caller(own) as caller:
        assert own.query("SELECT 1 FROM payment.payment_events WHERE checkout_id = %s", lost.checkout_id) == []
        report = json.loads(own.psp("POST", "settlement", {}))
        (file,) = ada.type("reconcile", "import", report["path"])
        ada.type("reconcile", "run", "--day", file["day"])
        found = cases(own)

        caller.pay(lost)
        assert settled(own, caller, lost) == once("12.50")
        again = ada.type("reconcile", "run", "--day", file["day"], "--again")
        file_id = until("what the file settles is posted", lambda: ended(own, report["sha256"]))

        assert found == [("unknown_charge", lost.payment_orders[0].payment_order_id, "OPEN")]
        assert (again["state"], again["mismatches"]) == ("DONE", 0)
        assert cases(own) == [("unknown_charge", lost.payment_orders[0].payment_order_id, "RESOLVED")]
        assert posted(own, file_id) == settled_by(report)
        assert settled(own, caller, lost) == once("12.50")
        assert settled(own, caller, kept) == once("12.50")
    assert len(own.truth("charge")) == 2


def cases(system: RunningSystem) -> list[tuple[str, str, str]]:
    """Every case there is: kind, order, state."""
    return system.query("SELECT kind, payment_order_id, state FROM reconciliation.mismatches ORDER BY opened_at_ms")


def stop(system: RunningSystem) -> None:
    """Ctrl-C."""
    system.signal(signal.SIGINT)
    assert system.wait() == 0


def copy(source: Path, target: Path) -> None:
    """With owners and times, as a backup keeps them."""
    subprocess.run(["/bin/cp", "-a", source, target], check=True)
