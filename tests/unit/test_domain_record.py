"""The next state is the one `dataclasses.replace` would make."""

import dataclasses
from typing import Any

import pytest

from tests.contract import sample
from zerosum.domain.checkout_state import Checkout, submitted
from zerosum.domain.identity import Tenant
from zerosum.domain.message import CheckoutSubmitted, Verdict
from zerosum.domain.record import replace


def checkout() -> Checkout:
    command = sample.submit(Tenant("shop"), "c1")
    return submitted(CheckoutSubmitted(command, command.fingerprint()), 1_000)


def test_a_replaced_state_is_that_of_the_standard_library() -> None:
    """Only the fields that are named change."""
    before = checkout()
    changes: dict[str, Any] = {"updated_at_ms": 2_000, "verdict": Verdict.ALLOW, "version": 2}

    assert replace(before, **changes) == dataclasses.replace(before, **changes)
    assert (before.version, before.updated_at_ms) == (1, 1_000)
    assert replace(before) == before


def test_a_field_that_is_not_there_cannot_be_replaced() -> None:
    """A name that is misspelt changes nothing silently."""
    misspelt: dict[str, Any] = {"verison": 2}

    with pytest.raises(KeyError):
        replace(checkout(), **misspelt)
