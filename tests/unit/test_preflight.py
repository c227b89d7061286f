"""The rule of what a database must be, over plain values."""

import pytest

from zerosum.store.preflight import complaints
from zerosum.store.role import ROLES

POSTGRES_VERSION = "PostgreSQL 18.6 on x86_64-pc-linux-gnu"
FIT = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_checksums": "on",
    "transaction_isolation": "serializable",
}


def test_fit_database_has_no_complaints() -> None:
    """The rule accepts what money needs, on both databases."""
    assert complaints(POSTGRES_VERSION, FIT, ROLES) == []
    assert complaints("CockroachDB CCL v26.1.0", {"transaction_isolation": "serializable"}, ROLES) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("data_checksums", "off"),
        ("transaction_isolation", "repeatable read"),
        ("transaction_isolation", "read committed"),
        ("fsync", None),
    ],
)
def test_each_unfit_setting_is_complained_about_once(setting: str, value: str | None) -> None:
    """D7. A setting that is wrong, or that nobody could read, is named; the others are not."""
    settings = {name: found for name, found in (FIT | {setting: value}).items() if found is not None}
    found = complaints(POSTGRES_VERSION, settings, ROLES)

    assert len(found) == 1
    assert found[0].startswith(f"{setting} is {value or 'unknown'}: ")


@pytest.mark.parametrize("role", ROLES)
def test_each_missing_role_is_complained_about(role: str) -> None:
    """Without its own role a service would need another's rights."""
    found = complaints(POSTGRES_VERSION, FIT, set(ROLES) - {role})

    assert len(found) == 1
    assert f"role {role} is missing" in found[0]


def test_cockroachdb_is_asked_for_isolation_and_roles_only() -> None:
    """It always syncs its log; it may be weaker in isolation."""
    found = complaints("CockroachDB CCL v26.1.0", {"transaction_isolation": "read committed"}, ["payment"])

    assert len(found) == len(ROLES)  # isolation, and every role but the one that is there
    assert found[0].startswith("transaction_isolation is read committed")
