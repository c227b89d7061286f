"""SIGKILL to every process of the system while orders are under way: nothing is lost, and it repairs itself.

Method: the simulator withholds its answers, so that orders are EXECUTING; the process is killed, the answers are let go, the
callers ask again with the same keys. Expected: each order charged, credited and posted once; every caller has its reply.
"""

import os
import signal
from collections.abc import Sequence

import pytest

from actors.front import shard_of
from tests.e2e.caller import AGAIN, Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.process import family, is_alive, survivors
from tests.e2e.system import RunningSystem
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.v1.payment_pb2 import CreatePaymentRequest

pytestmark = pytest.mark.e2e

ORDERS = 6
"""At least 5 are to be under way when the process dies."""


def checkouts_of_shard(system: RunningSystem, caller: Caller, shard: int) -> list[CreatePaymentRequest]:
    """Checkouts that one shard owns."""
    found: list[CreatePaymentRequest] = []
    while len(found) < ORDERS:
        checkout = new_checkout("kill")
        entity = EntityKey(Tenant(caller.tenant), checkout.checkout_id)
        if shard_of(entity, system.settings.checkout_shards) == shard:
            found.append(checkout)
    return found


def executing(system: RunningSystem, checkouts: Sequence[CreatePaymentRequest]) -> int:
    """How many of their orders are EXECUTING, by the database."""
    statement = (
        "SELECT count(*) FROM payment.payment_orders WHERE payment_order_status = 'EXECUTING' AND checkout_id = ANY(%s)"
    )
    return int(system.query(statement, [checkout.checkout_id for checkout in checkouts])[0][0])


def test_killed_checkout_shard_is_replaced_and_its_orders_end(system: RunningSystem, caller: Caller) -> None:
    """A1, R3: what a shard knew, its successor reads."""
    checkouts = checkouts_of_shard(system, caller, shard=0)
    before = system.live_shard_pids("payment")
    system.psp("POST", "hold", {"operation": "create"})
    paying = [caller.begin(checkout) for checkout in checkouts]
    until("all are EXECUTING", lambda: executing(system, checkouts) == ORDERS)

    os.kill(before[0], signal.SIGKILL)
    system.release()

    assert [settled(system, caller, checkout) for checkout in checkouts] == [once("12.50")] * ORDERS
    assert [future.result().body for future in paying] == [caller.pay(checkout).body for checkout in checkouts]
    assert not is_alive(before[0])
    after = until("the shard tells its process", lambda: _changed(system, before[0]))
    assert after[1] == before[1]


@pytest.mark.parametrize("name", ["payment", "wallet", "ledger", "edge", "psp", "database"])
def test_killed_process_is_replaced_and_nothing_is_lost(system: RunningSystem, caller: Caller, name: str) -> None:
    """G1, A9, C4, D4, D5: callers who wait get the outcome under the same key."""
    checkouts = [new_checkout("kill") for _ in range(ORDERS)]
    system.psp("POST", "hold", {"operation": "create"})
    paying = [caller.begin(checkout) for checkout in checkouts]
    until("all are EXECUTING", lambda: executing(system, checkouts) == ORDERS)

    system.kill(name)
    system.release()

    assert [settled(system, caller, checkout) for checkout in checkouts] == [once("12.50")] * ORDERS
    assert [future.result().body for future in paying] == [caller.pay(checkout).body for checkout in checkouts]


def test_ray_lost_whole_is_rebuilt_from_the_database(system: RunningSystem, caller: Caller) -> None:
    """R4: Ray is disposable; servers go and come back with it."""
    checkouts = [new_checkout("kill") for _ in range(ORDERS)]
    system.psp("POST", "hold", {"operation": "create"})
    paying = [caller.begin(checkout) for checkout in checkouts]
    until("all are EXECUTING", lambda: executing(system, checkouts) == ORDERS)
    head = system.pid("ray")
    members = family(head)

    os.killpg(head, signal.SIGKILL)
    system.release()
    system.until_replaced("ray", head)

    assert [settled(system, caller, checkout) for checkout in checkouts] == [once("12.50")] * ORDERS
    assert [future.result().body for future in paying] == [caller.pay(checkout).body for checkout in checkouts]
    until("nothing of the old cluster is left", lambda: not survivors(members))


def test_payment_server_that_is_asked_to_stop_finishes_the_call_it_has_begun(
    system: RunningSystem, caller: Caller
) -> None:
    """G1: SIGTERM drains. New calls go elsewhere, the one that has begun is answered on its own connection."""
    checkout, late = new_checkout("drain"), new_checkout("late")
    server = system.pid("payment")
    system.psp("POST", "hold", {"operation": "create"})
    begun = caller.begin_once(checkout)
    until("it is EXECUTING", lambda: executing(system, [checkout]) == 1)

    os.kill(server, signal.SIGTERM)
    with Caller(system) as newcomer:
        turned_away = until("a new call is turned away", lambda: _turned_away(newcomer, late))
    system.release()

    assert begun.result().code == "OK"
    assert turned_away in AGAIN
    system.until_replaced("payment", server)
    assert caller.pay(checkout).body == begun.result().body
    assert caller.pay(late).code == "OK"
    assert settled(system, caller, checkout) == settled(system, caller, late) == once("12.50")


def _turned_away(caller: Caller, checkout: CreatePaymentRequest) -> str:
    code = caller.submit(checkout, timeout_s=0.5).code
    return "" if code in ("OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED") else code


def _changed(system: RunningSystem, before: int) -> dict[int, int]:
    pids = system.shard_pids("payment")
    return pids if pids.get(0) not in (None, before) else {}
