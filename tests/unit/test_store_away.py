"""A database that does not answer, or whose URL cannot be read: who runs `zerosum migrate` is told where and why."""

import pytest
from typer.testing import CliRunner

from servers.child import free_port
from servers.cli import main
from zerosum.errors import Misconfigured
from zerosum.store.engine import database_url


def _migrate(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setenv("ZEROSUM_DATABASE_URL", url)
    result = CliRunner().invoke(main, ["migrate"])
    return result.exit_code, result.stderr


def test_a_database_that_does_not_answer_is_told_by_host_port_and_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, status 1: run it again. The password stands in the URL and nowhere else."""
    place = f"127.0.0.1:{free_port()}"

    told = _migrate(f"postgresql://admin:hunter2@{place}/zerosum", monkeypatch)

    assert told == (1, f"zerosum: no connection to the database at {place}: Connection refused\n")


def test_of_several_hosts_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docker-compose.yml names its cluster."""
    places = [f"127.0.0.1:{free_port()}" for _ in range(2)]

    status, said = _migrate(f"cockroachdb://root:hunter2@/zerosum?host={places[0]}&host={places[1]}", monkeypatch)

    assert (status, said) == (1, f"zerosum: no connection to the database at {', '.join(places)}: Connection refused\n")


@pytest.mark.parametrize("rest", ["hun@ter2@127.0.0.1:5432", "hunter2@127.0.0.1:ter2"])
def test_a_url_that_cannot_be_read_is_not_told(rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a password was taken for a host, and told as a name that is not resolved; a port that is none was a traceback."""
    told = _migrate(f"postgresql://admin:{rest}/zerosum", monkeypatch)

    assert told == (
        2,
        "zerosum: the database URL cannot be read; a port is a number, and @ in a password is written %40\n",
    )


@pytest.mark.parametrize("password", ["hunter/2", "hun@ter2"])
def test_what_is_percent_encoded_can_be_read(password: str) -> None:
    """Verifies the advice above."""
    encoded = password.replace("/", "%2F").replace("@", "%40")

    assert database_url(f"postgresql://admin:{encoded}@127.0.0.1/zerosum").password == password


def test_a_url_of_another_database_is_refused_by_its_kind() -> None:
    with pytest.raises(Misconfigured, match="is of mysql"):
        database_url("mysql://admin:hunter2@127.0.0.1/zerosum")
