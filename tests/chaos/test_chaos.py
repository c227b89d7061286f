"""`zerosum chaos`, small, on real processes while Ray's own calls fail at random: points, split brain, R1, the audit.

Method: one run of the command for all tests (conftest.py); each test reads what it kept. By hand:
`zerosum chaos --points few --stop-seconds 2 --minutes 0 --seed 7 --rpc-failures`.
"""

import pytest

from loadtest.chaos.case import FEW, MATRIX, Harm, Journey
from tests.chaos.conftest import LIMIT_S, Ran
from zerosum.crash import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(LIMIT_S + 30)]


@pytest.mark.parametrize("name", [cell.name for cell in FEW])
def test_harm_at_a_point_is_survived_and_money_moves_once(ran: Ran, name: str) -> None:
    """I3, I4, I5, I6, I10, I14 at ten cells of the matrix: harm seen, recovery seen, one charge, one credit, one posting,
    and one refund where the money goes back."""
    cell = ran.cell(name)

    assert cell["wrong"] == ""
    assert cell["pid"] > 0
    assert cell["recovery_s"] is not None


def test_the_ten_cells_have_every_process_every_harm_and_every_journey() -> None:
    assert {cell.harm for cell in FEW} == set(Harm)
    assert {cell.case.process for cell in FEW} == set(Process) - {Process.RECONCILER}
    assert {cell.case.journey for cell in FEW} == set(Journey)
    assert len(FEW) == 10


def test_successor_serves_while_a_stopped_copy_holds_row_locks_and_the_woken_copy_is_refused(ran: Ran) -> None:
    """A2, A10, I7: two live copies of a shard; every stale write is refused and counted."""
    split = ran.split("A2, A10")

    assert split["wrong"] == ""
    assert len({split["first"], split["second"], split["third"]} - {0}) == 3
    assert split["refused"] >= 2
    assert "the successor served while the stopped copy still stood inside its commit" in split["facts"]


def test_two_deployments_on_one_database_fence_one_another(ran: Ran) -> None:
    """O2, I7: fenced, and loud."""
    split = ran.split("O2")

    assert split["wrong"] == ""
    assert split["refused"] >= 2


def test_a_copy_whose_node_ray_gave_up_lives_beside_its_successor_and_is_refused(ran: Ran) -> None:
    """R2, I7: a stopped raylet, its shard running; what that shard is handed after its successor served is not stored."""
    split = ran.split("R2")

    assert split["wrong"] == ""
    assert len({split["first"], split["second"]} - {0}) == 2
    assert split["refused"] == 1
    assert any("served while process" in fact for fact in split["facts"])


def test_servers_make_a_shard_anew_whose_name_is_gone_while_they_hold_its_handle(ran: Ran) -> None:
    """R5, I7: the named actor is ended for good; the same server finds nobody, makes it, and serves; nothing is doubled."""
    lost = ran.scenario("R5")

    assert lost["wrong"] == ""
    assert lost["recovery_s"] is not None


def test_a_fresh_ray_head_without_any_state_serves_from_the_database_alone(ran: Ran) -> None:
    """R6, I9: the GCS dies again and again, its folder is removed; the supervisor goes on."""
    fresh = ran.scenario("R6")

    assert fresh["wrong"] == ""
    assert fresh["recovery_s"] is not None


def test_a_full_disk_acknowledges_nothing_and_is_recovered_from_without_repair(ran: Ran) -> None:
    """D6, I1, I6: 53100, then a server that cannot start; all refused UNAVAILABLE; freed, each is charged once, audit clean."""
    full = ran.scenario("D6")

    assert full["wrong"] == ""
    assert full["recovery_s"] is not None
    assert full["facts"][0].startswith("PostgreSQL says 53100")


def test_calls_of_ray_that_fail_or_lose_their_answers_change_no_money(ran: Ran) -> None:
    """R1: all of the above while 30 % of the calls to shards fail; it is proved that they did."""
    assert ran.story["rpc_failures"] > 0


def test_everything_is_clean_and_nothing_is_left_running(ran: Ran) -> None:
    """The last line and the exit status say the same, and the audit of all of it found nothing."""
    assert ran.story["reasons"] == [], ran.printed
    assert ran.printed.splitlines()[-1] == "CLEAN"
    assert ran.status == 0
    assert ran.left == {}


def test_the_page_shows_the_matrix_and_loads_nothing(ran: Ran) -> None:
    """Green where it held, and `not run` where nobody looked."""
    assert ran.page.count('<span class="pill warn">not run</span>') == len(MATRIX) - len(FEW)
    assert "http" not in ran.page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
