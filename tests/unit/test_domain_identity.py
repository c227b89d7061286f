"""Slots and derived keys: stable for ever, and no two things share one. Source: design sections 3 and 4."""

import re
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zerosum.domain.identity import derived_key, slot_of
from zerosum.limits import SLOTS

texts = st.text(max_size=64)
operations = st.sampled_from(["prepare", "confirm", "cancel", "refund", "credit", "capture", "suspense_charge"])
parts = st.tuples(texts, texts, operations, st.integers(1, 10**6))


@pytest.mark.parametrize(
    ("names", "slot"),
    [(("t1", "c1"), 38), (("t1", "seller-1:EUR"), 20), (("acme", "checkout-0001"), 8), (("", ""), 58)],
)
def test_slots_are_pinned(names: tuple[str, ...], slot: int) -> None:
    """Rows are stored under them: a slot that moves loses its rows."""
    assert slot_of(*names) == slot


@pytest.mark.parametrize(
    ("tenant", "order_id", "operation", "number", "key"),
    [
        ("t1", "o1", "prepare", 1, "prepare-1-cb2eb3dedc869326e3ee5b761d2e3df9f3a14c5a"),
        ("t1", "o1", "confirm", 2, "confirm-2-87c6f2cf8f13f9f76bed2e2d67747ca6b45872b4"),
        ("acme", "order-42", "credit", 1, "credit-1-7a6f495bc6e688cd9a71976c056de9b63ab96693"),
    ],
)
def test_derived_keys_are_pinned(tenant: str, order_id: str, operation: str, number: int, key: str) -> None:
    """PSPs remember them: a key that changes is a second charge."""
    assert derived_key(tenant, order_id, operation, number) == key


@given(parts, parts)
def test_different_things_never_share_a_key(one: tuple[str, str, str, int], other: tuple[str, str, str, int]) -> None:
    assert (derived_key(*one) == derived_key(*other)) == (one == other)


@given(parts, texts, operations, st.integers(1, 10**6))
def test_every_part_of_a_key_counts(one: tuple[str, str, str, int], text: str, operation: str, number: int) -> None:
    tenant, order_id, its_operation, its_number = one
    others = {(text, order_id, its_operation, its_number), (tenant, text, its_operation, its_number),
              (tenant, order_id, operation, its_number), (tenant, order_id, its_operation, number)}  # fmt: skip

    assert derived_key(*one) not in {derived_key(*other) for other in others - {one}}


@given(texts, texts, texts)
def test_moving_a_boundary_between_parts_makes_another_key(left: str, middle: str, right: str) -> None:
    """("a", "bc") and ("ab", "c") are different things, separators and digits inside the parts included."""
    assume(middle)

    assert derived_key(left + middle, right, "prepare", 1) != derived_key(left, middle + right, "prepare", 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b:1:c"), ("a1:b", "c")),
        (("a1:b", ""), ("a", "1:b")),
        (("a\x1fb", "c"), ("a", "b\x1fc")),
        (("", "a"), ("a", "")),
        (("1:a", ""), ("", "1:a")),
    ],
)
def test_parts_that_look_like_the_joint_are_told_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert derived_key(*one, "prepare", 1) != derived_key(*other, "prepare", 1)


@given(parts)
def test_a_key_is_readable_ascii_of_bounded_length(thing: tuple[str, str, str, int]) -> None:
    """It travels in HTTP headers and stands in columns of 64 characters."""
    key = derived_key(*thing)

    assert re.fullmatch(r"[a-z_]+-[0-9]+-[0-9a-f]{40}", key)
    assert len(key) <= 64


@given(st.lists(texts, max_size=4))
def test_a_slot_is_one_of_the_slots(names: list[str]) -> None:
    assert 0 <= slot_of(*names) < SLOTS


def test_slots_are_used_evenly_by_ids_that_are_counted_up() -> None:
    """6,400 checkouts, 100 a slot: none has twice as many, none less than half."""
    counts = Counter(slot_of("t", f"checkout-{number:05}") for number in range(6_400))

    assert len(counts) == SLOTS
    assert max(counts.values()) < 200
    assert min(counts.values()) > 50
