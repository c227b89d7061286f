"""What on-call's commands say of a word, a name or a number that is none: the option, what was given, what there is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from servers.child import free_port
from servers.cli import main
from servers.keys import make_keys


def _typed(data: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*words, "--data-dir", str(data)])
    return result.exit_code, result.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with keys."""
    make_keys(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["token", "--role", "king"], "--role: there is no role 'king'; there are service, admin, support"),
        (["token", "--tenant", ""], "tenant: a name has 1 to 64 ASCII characters; '' is none"),
        (["token", "--subject", "zoë"], "subject: a name has 1 to 64 ASCII characters; 'zoë' is none"),
        (["reconcile", "runs", "--as", "zoë"], "subject: a name has"),
        (["todo", "list", "--state", "odd"], "--state: there is no state 'odd'; there are open, dead and done"),
        (["in-flight", "--older-than-ms", "99999999999999999999"], "--older-than-ms"),
    ],
)
def test_what_is_none_is_named_with_what_there_is(data: Path, words: list[str], says: str) -> None:
    """Status 2, and no traceback."""
    status, said = _typed(data, *words)

    assert status == 2
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--trace"], "--trace: it is of one seed; say which with --seed"),
        (["--faults", "none"], "--faults: it is of one seed"),
        (["--hours", "1"], "--hours: it is of one seed"),
        (["--page", "x.md"], "--page: it goes with --ablate all"),
        (["--ablate", "no-fence", "--seed", "0"], "--seed: it means nothing with --ablate"),
        (["--state", "{folder}"], "--state"),
        (["--state", "{folder}/keys/psp_api_key"], "psp_api_key is no tally"),
    ],
)
def test_an_option_that_would_not_be_heard_is_refused(data: Path, words: list[str], says: str) -> None:
    """Before a world is made."""
    result = CliRunner().invoke(main, ["simulate", "--seeds", "1", *(word.format(folder=data) for word in words)])

    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


def test_json_is_not_written_to_a_folder(tmp_path: Path) -> None:
    """Known before a bench of minutes, not after it."""
    result = CliRunner().invoke(main, ["bench", "card", "--json", str(tmp_path), "--data-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert "--json" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "service"),
    [
        (["todo", "list"], "payment"),
        (["refund", "cart-1-a"], "payment"),
        (["account", "close", "seller-1", "--currency", "USD"], "wallet"),
        (["reconcile", "runs"], "reconciliation"),
    ],
)
def test_a_service_that_does_not_answer_is_named(
    data: Path, words: list[str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not always the payment service: on-call looks at its log next."""
    monkeypatch.delenv("ZEROSUM_TOKEN_FILE", raising=False)
    monkeypatch.setenv(f"ZEROSUM_{service.upper()}_ADDRESS", f"127.0.0.1:{free_port()}")

    assert _typed(data, *words) == (1, f"zerosum: UNAVAILABLE: the {service} service did not answer\n")
