"""A server's places: one tenant alone may have them all, and no tenant keeps them from the others."""

from servers.places import ALONE_AFTER_S, Places
from zerosum.domain.identity import Tenant

ACME, SHOP = Tenant("acme"), Tenant("shop")


class Standing:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def taken(places: Places, tenant: Tenant, asked: int) -> int:
    """How many places it gets that asks for so many."""
    return sum(places.take(tenant) for _ in range(asked))


def test_a_tenant_that_calls_alone_may_have_every_place_and_not_one_more() -> None:
    """A limit on everything, and nothing kept for nobody."""
    assert taken(Places(10, Standing()), ACME, 20) == 10


def test_a_tenant_has_half_at_most_as_soon_as_another_one_calls() -> None:
    """failures.md security point 5: a limit per tenant."""
    places = Places(10, Standing())
    taken(places, SHOP, 1)

    assert (taken(places, ACME, 20), taken(places, SHOP, 20)) == (5, 4)


def test_who_finds_a_server_full_of_one_other_gets_its_places_as_they_come_free() -> None:
    """One that is turned away is a caller, too: from then on what ends is the others'."""
    places = Places(10, Standing())
    taken(places, ACME, 10)
    refused = taken(places, SHOP, 1)
    for _ in range(3):
        places.give_back(ACME)

    assert (refused, taken(places, ACME, 3), taken(places, SHOP, 5)) == (0, 0, 3)


def test_a_tenant_is_alone_again_when_nobody_else_called_for_a_while() -> None:
    """A caller that went away keeps no places."""
    clock = Standing()
    places = Places(10, clock)
    taken(places, SHOP, 1)
    places.give_back(SHOP)
    before = taken(places, ACME, 20)
    clock.now_s += ALONE_AFTER_S + 1

    assert (before, taken(places, ACME, 20)) == (5, 5)


def test_a_share_is_never_nothing() -> None:
    """Half of one place is one place."""
    places = Places(1, Standing())
    taken(places, SHOP, 1)
    places.give_back(SHOP)

    assert taken(places, ACME, 2) == 1
