"""An old backup is restored while the PSP is ahead (row D10): nothing is charged twice, and what was lost comes back once."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.money import once, settled
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e


def test_checkouts_that_a_restore_lost_are_paid_once_when_their_callers_come_again(own: RunningSystem) -> None:
    """D10, I3: cold backup, a checkout paid after it, the backup restored, the same checkout submitted again."""
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
    with Caller(own) as caller:
        assert own.query("SELECT 1 FROM payment.payment_events WHERE checkout_id = %s", lost.checkout_id) == []
        caller.pay(lost)
        assert settled(own, caller, lost) == once("12.50")
        assert settled(own, caller, kept) == once("12.50")
    assert len(own.truth("charge")) == 2


def stop(system: RunningSystem) -> None:
    """Ctrl-C."""
    system.signal(signal.SIGINT)
    assert system.wait() == 0


def copy(source: Path, target: Path) -> None:
    """With owners and times, as a backup keeps them."""
    subprocess.run(["/bin/cp", "-a", source, target], check=True)
