"""What a deployment sets is what is served: values that cannot be are refused, names that nobody reads are told."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from servers.cli import main
from tests.tidy.tree import files
from zerosum.settings import LOG_LEVELS, OTHER_VARIABLES, Settings, unknown_variables

EVERYWHERE = "0.0.0.0"  # noqa: S104 - read, not bound
PORTS = ("payment_port", "wallet_port", "ledger_port", "reconciliation_port", "edge_port")


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize(
    ("port", "offset"), [(0, 100), (-1, 100), (65_536, 0), (65_436, 100), (65_535, 1), (100, -100), (99_999, -90_000)]
)
def test_a_port_and_the_port_of_its_metrics_are_ports(name: str, port: int, offset: int) -> None:
    """1 to 65535, both of them: else a server ends at its start, or listens where nobody looks."""
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: port, "metrics_port_offset": offset})

    assert (name,) in [error["loc"] for error in refused.value.errors()]


@pytest.mark.parametrize(("port", "offset"), [(1, 0), (65_435, 100), (65_535, 0), (65_535, -1_000)])
def test_the_outermost_ports_are_ports(port: int, offset: int) -> None:
    """The bounds of the test above are bounds."""
    ports = dict.fromkeys(PORTS, port)

    assert Settings.model_validate({**ports, "metrics_port_offset": offset}).edge_port == port


@pytest.mark.parametrize(
    "host", ["", " ", "127.0.0", "256.0.0.1", "http://127.0.0.1", "127.0.0.1:7401", "::1", "a b", "-a"]
)
def test_a_bind_host_that_is_none_is_refused(host: str) -> None:
    """Before a server tries to listen there: an address of IPv6 has no place in `host:port` as we write it."""
    with pytest.raises(ValidationError, match="bind_host"):
        Settings(bind_host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE, "127.0.0.2", "localhost", "payment_1", "edge.example.org"])
def test_an_address_or_a_name_is_a_bind_host(host: str) -> None:
    assert Settings(bind_host=host).bind_host == host


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.2", "127.0.0.2:9402"), (EVERYWHERE, "127.0.0.1:9402"), ("localhost", "localhost:9402")],
)
def test_a_service_is_looked_for_where_its_host_and_port_put_it(host: str, address: str) -> None:
    """Another port or host alone must not leave the other services calling at the old place."""
    assert Settings(bind_host=host, wallet_port=9_402).wallet_address == address


def test_an_address_that_is_given_is_kept() -> None:
    """On several machines, or through a proxy, an address is not the one that is listened at."""
    assert Settings(bind_host=EVERYWHERE, wallet_address="wallet:7402").wallet_address == "wallet:7402"


@pytest.mark.parametrize("level", [*LOG_LEVELS, "warning"])
def test_a_log_level_may_be_written_in_any_case(level: str) -> None:
    assert Settings(log_level=level).log_level == level.upper()


def _keys(data: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> tuple[int, str]:
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main, ["keys", "--data-dir", str(data)])
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ZEROSUM_LOG_LEVEL", "loud", "there is no such level; there are DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        (
            "ZEROSUM_EDGE_PORT",
            "65500",
            "with ZEROSUM_METRICS_PORT_OFFSET, 100, its metrics must have a port from 1 to 65535",
        ),
        ("ZEROSUM_EDGE_PORT", "0", "it must be a port from 1 to 65535"),
        ("ZEROSUM_BIND_HOST", "::1", "it must be an IPv4 address or the name of a host"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """Status 2 and one line, before anything is served; a level was a KeyError once a server began to log."""
    assert _keys(tmp_path, monkeypatch, name, value) == (2, f"zerosum: {name}: {says}\n")


def test_a_misspelt_variable_is_told_with_the_nearest_name_and_the_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; what stands in it is not told."""
    status, said = _keys(tmp_path, monkeypatch, "ZEROSUM_PAYMENT_DATABSE_URL", "postgresql://payment:hunter2@db/z")

    assert (status, said) == (
        0, "zerosum: ZEROSUM_PAYMENT_DATABSE_URL is no setting: did you mean ZEROSUM_PAYMENT_DATABASE_URL?\n"
    )  # fmt: skip


def test_only_names_that_look_like_ours_and_are_not_are_told() -> None:
    """In any case, as settings are read."""
    environment = {
        "PATH": "",
        "ZEROSUM_LOG_LEVEL": "",
        "zerosum_log_level": "",
        "ZEROSUM_PERSON": "",
        "zerosum_qqqq": "",
    }

    assert list(unknown_variables(environment)) == ["zerosum_qqqq is no setting"]


def test_every_variable_that_the_tree_names_is_known() -> None:
    """What tests, drills, containers and make set must not be told as a mistake; and the list holds nothing else."""
    named = re.compile(r"\bZEROSUM_[A-Z][A-Z0-9_]*[A-Z0-9]\b")
    kept = [path for path in files(".py", ".yml", "Makefile", "Dockerfile") if path.name != "test_settings.py"]
    found = {name for path in kept for name in named.findall(path.read_text(encoding="utf-8"))}
    settings = {f"ZEROSUM_{name.upper()}" for name in Settings.model_fields}

    assert found - settings - {"ZEROSUM_ERROR"} == OTHER_VARIABLES  # ZEROSUM_ERROR: a reason in problems, no variable
