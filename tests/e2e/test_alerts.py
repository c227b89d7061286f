"""What the payment server tells on-call by itself, on its Prometheus page."""

import urllib.request

import pytest

from tests.e2e.caller import Caller, new_checkout
from tests.e2e.deadline import until
from tests.e2e.money import once, settled
from tests.e2e.system import RunningSystem
from zerosum.domain.todo import TodoKind

pytestmark = pytest.mark.e2e


def test_an_order_that_is_in_flight_for_too_long_is_an_alert_until_it_is_final(
    system: RunningSystem, caller: Caller
) -> None:
    """The watch of orders in flight runs: the PSP keeps its answer to itself, then gives it."""
    system.psp("POST", "hold", {"operation": "create"})
    checkout = new_checkout()
    paying = caller.begin(checkout)
    until("an order is overdue", lambda: told(system, "zerosum_orders_overdue") == {"": 1})

    system.release()

    paying.result()
    assert settled(system, caller, checkout) == once("12.50")
    until("no order is overdue", lambda: told(system, "zerosum_orders_overdue") == {"": 0})


def test_dead_letters_are_counted_by_kind_from_the_start(system: RunningSystem) -> None:
    """The watch of dead letters runs: a kind of which there is none is told too, so that an alert can be made of it."""
    kinds = until("dead letters are counted", lambda: set(told(system, "zerosum_dead_letters")))

    assert kinds == {f'{{kind="{kind.value}"}}' for kind in TodoKind}


def told(system: RunningSystem, name: str) -> dict[str, float]:
    """What the payment server's page says under a name: values by labels, "" = without."""
    with urllib.request.urlopen(system.run_file()["metrics"]["payment"], timeout=5) as response:  # noqa: S310 - loopback
        lines = response.read().decode().splitlines()
    found = [line.removeprefix(name).rsplit(" ", 1) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return {labels: float(value) for labels, value in found}
