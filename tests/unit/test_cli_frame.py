"""What the command line shows of texts that others have written, and how it tells what is wrong with what it was given."""

import io
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from servers.cli import main
from servers.cli_frame import plain, show, told
from zerosum.errors import Misconfigured


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12.50 EUR, Zoë", "12.50 EUR, Zoë"),
        ("two\nlines", "two\nlines"),
        ("ok\x1b[2K\x1b[1A", "ok\\x1b[2K\\x1b[1A"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\rb", "a\\rb"),
    ],
)
def test_what_would_steer_the_terminal_is_written_out(text: str, shown: str) -> None:
    """Whoever approves sees the postings, whatever the reason beside them holds."""
    assert plain(text) == shown


def test_a_table_shows_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a title nor a cell is markup."""
    show([{"says": "[red]x[/red] \x1b[8m"}], False, "Proposal of [/nobody]")

    told = capsys.readouterr().out
    assert "Proposal of [/nobody]: 1" in told
    assert "[red]x[/red]" in told
    assert "\x1b[8m" not in told


@pytest.mark.parametrize(("name", "value"), [("PAYMENT_PORT", "4242-secret"), ("CHECKOUT_SHARDS", "0")])
def test_a_setting_that_is_none_is_named_and_its_value_is_not(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, status 2: which variable; what stood in it may be a password."""
    monkeypatch.setenv(f"ZEROSUM_{name}", value)

    result = CliRunner().invoke(main, ["keys", "--data-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"zerosum: ZEROSUM_{name}: ")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr


def test_on_a_terminal_trouble_is_wrapped_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of forty names was cut in the midst of them."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stderr", screen := Terminal())

    with pytest.raises(typer.Exit), told():
        raise Misconfigured("there is no ablation 'foo'; there are all, no-fence, no-lease")

    assert screen.getvalue() == "zerosum: there is no ablation 'foo';\n  there are all, no-fence, no-lease\n"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A data folder that is a file is one line, not a traceback."""
    (tmp_path / "file").touch()

    result = CliRunner().invoke(main, ["keys", "--data-dir", str(tmp_path / "file")])

    assert result.exit_code == 1
    assert result.stderr == f"zerosum: {tmp_path / 'file' / 'keys' / 'jwt_public'}: Not a directory\n"
