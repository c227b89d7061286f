"""What `zerosum load` refuses before it begins: nothing is loaded, no folder is made."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.profiles import PROFILES
from servers.child import free_port
from servers.cli import main


def _load(data: Path, profile: str = "steady-10") -> tuple[int, str]:
    result = CliRunner().invoke(main, ["load", profile, "--data-dir", str(data)])
    return result.exit_code, result.stderr


def test_a_profile_that_is_none_is_named(tmp_path: Path) -> None:
    """What was given, and what there is."""
    status, said = _load(tmp_path, "steady-11")

    assert status == 2
    assert said.startswith("zerosum: there is no profile 'steady-11'; there are steady-10, ")


def test_a_load_without_a_token_does_not_begin(tmp_path: Path) -> None:
    """A data folder without keys."""
    assert _load(tmp_path) == (2, "zerosum: no token_service.jwt: run `zerosum keys`\n")
    assert not (tmp_path / "runs").exists()


def test_a_load_at_nobody_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is named."""
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("ZEROSUM_PAYMENT_ADDRESS", address)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "token_service.jwt").write_text("a.b.c")

    status, said = _load(tmp_path)

    assert status == 1
    assert said.startswith(f"zerosum: nobody listens at {address}: ")
    assert not (tmp_path / "runs").exists()


def test_the_help_names_every_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds one adds it there."""
    monkeypatch.setenv("COLUMNS", "300")
    told = CliRunner().invoke(main, ["load", "--help"]).stdout

    assert [name for name in PROFILES if name not in told] == []
