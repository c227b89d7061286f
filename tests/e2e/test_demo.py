"""`zerosum demo` as a user runs it, small: clean with faults and kills, red whatever is planted. Issue: `--sabotage`."""

import re
import subprocess

import pytest

from tests.e2e.conftest import Shared
from tests.e2e.process import naming
from tests.e2e.system import ROOT, RunningSystem
from tests.tie import tied

pytestmark = pytest.mark.e2e

LIMIT_S = 240.0
SMALL = ("--tps", "5", "--seconds", "6", "--seed", "11")


def demo(*options: str) -> tuple[int, str]:
    """Runs it on ports and a folder of its own: exit status and what it printed."""
    system = RunningSystem()
    try:
        ended = subprocess.run(
            tied("-m", "servers.cli", "demo", *SMALL, *options),
            cwd=ROOT, env={**system.environment(), "COLUMNS": "100"}, capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
        assert naming(str(system.folder)) == {}
    finally:
        system.end()
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def clean(shared: Shared) -> tuple[int, str]:
    """One demo, as it comes."""
    shared.end()
    return demo()


def test_a_demo_with_faults_and_kills_ends_with_a_clean_certificate(clean: tuple[int, str]) -> None:
    """Done when: the certificate is clean, and every order was charged exactly once."""
    status, printed = clean

    assert status == 0, printed
    assert "SIGKILL checkout shard 0" in printed
    assert "SIGKILL payment server" in printed
    assert "✓  I12" in printed


def planted_and_found(printed: str) -> dict[str, tuple[int, int, int]]:
    """Damage -> planted, found, in its class, as the certificate shows them."""
    table = printed.partition("planted and found")[2]
    rows = re.findall(r"^│ +([a-z ]+[a-z]) +(\d+) +(\d+) +(\d+) +[a-z]+ +│$", table, re.MULTILINE)
    return {kind: (int(planted), int(found), int(in_class)) for kind, planted, found, in_class in rows}


def test_a_demo_finds_all_the_damage_of_its_settlement_file(clean: tuple[int, str]) -> None:
    """At least ten kinds are planted, all of it is found in its class, and the certificate says so."""
    status, printed = clean
    kinds = planted_and_found(printed)

    assert status == 0, printed
    assert len(kinds) >= 10
    assert all(planted == found == in_class for planted, found, in_class in kinds.values())
    assert "false alarms 0" in printed


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("sabotage", "caught_by"), [("double-charge", "I4"), ("lose-posting", "POSTINGS"), ("forget-order", "I24")]
)
def test_sabotage_makes_the_certificate_red(sabotage: str, caught_by: str) -> None:
    """A check that cannot fail proves nothing: each planted damage is found and named."""
    status, printed = demo("--no-kills", "--sabotage", sabotage)

    assert status == 1, printed
    assert "NOT CLEAN" in printed
    assert f"✗  {caught_by}" in printed
