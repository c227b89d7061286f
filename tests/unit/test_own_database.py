"""What a bench and a sabotaged demo never touch: the database and the Ray that the environment names."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.bench.system import of_its_own
from servers.cli import main
from zerosum.settings import Settings

SOMEBODYS = "postgresql://somebody@127.0.0.1:1/zerosum"


def test_a_bench_leaves_the_named_database_ray_and_inbox_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same deployment's name it would fence its shards; at the end it kills the database.

    Its reconciler would take the files out of the inbox.
    """
    for role in ("", "PAYMENT_", "WALLET_", "LEDGER_", "RECONCILER_", "AUDITOR_"):
        monkeypatch.setenv(f"ZEROSUM_{role}DATABASE_URL", SOMEBODYS)
    monkeypatch.setenv("ZEROSUM_RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setenv("ZEROSUM_SETTLEMENT_DIR", "/somebodys/settlement")

    own = of_its_own(Settings())

    assert SOMEBODYS not in own.model_dump().values()
    assert (own.database_url, own.ray_address, own.settlement_dir) == ("", "", None)


def test_a_sabotaged_demo_is_refused_where_a_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage belongs to data that nobody wants."""
    monkeypatch.setenv("ZEROSUM_DATABASE_URL", SOMEBODYS)

    result = CliRunner().invoke(main, ["demo", "--sabotage", "lose-posting", "--data-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert "--sabotage" in result.stderr
    assert list(tmp_path.iterdir()) == []
