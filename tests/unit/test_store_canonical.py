"""The fast encoder of what is hashed writes byte for byte what Python's own would: the auditor recomputes with the latter."""

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.store.mapping import canonical_bytes, canonical_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


class Kind(StrEnum):
    PREPARE = "prepare"


@given(VALUES)
def test_canonical_form_is_that_of_the_standard_encoder(value: Any) -> None:
    """I18: sorted keys, no spaces, UTF-8 as it is, integers of any size."""
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert canonical_bytes(value) == expected.encode()
    assert canonical_json(value) == expected


def test_a_member_of_an_enum_is_written_as_its_text() -> None:
    """Rows hold the domain's own names of states."""
    assert canonical_json({"kind": Kind.PREPARE}) == '{"kind":"prepare"}'


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_lone_surrogate_is_refused(text: str) -> None:
    """No database takes it and no hash covers it."""
    with pytest.raises(UnicodeEncodeError):
        canonical_bytes({"name": text})
