"""What the command line shows of texts that others have written: files, comments, reasons."""

import pytest

from servers.cli_frame import plain, show


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
