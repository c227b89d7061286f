"""What the commands of `zerosum` share: options, settings, how rows are shown, and how trouble ends a command.

Invariant: a command that fails says why in one line and ends with a status other than 0.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zerosum.settings import Settings

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where everything lives. Default: ZEROSUM_DATA_DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]

EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2


def settings_of(data_dir: Path | None) -> "Settings":
    """The environment's settings, with this folder if one is given. Raises Misconfigured: which variable, never its value.

    A variable that looks like a setting and is none is told in a line on standard error; the command goes on.
    """
    from pydantic import ValidationError

    from zerosum.errors import Misconfigured
    from zerosum.settings import Settings, unknown_variables

    for line in unknown_variables(os.environ):
        _say(line)
    try:
        settings = Settings()
    except ValidationError as error:
        told = [f"ZEROSUM_{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors(include_input=False)]
        raise Misconfigured("; ".join(told)) from None
    return settings.model_copy(update={"data_dir": data_dir}) if data_dir is not None else settings


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, title: str, *, whole: Sequence[str] = ()) -> None:
    """Rows as a table, or as JSON. `whole`: columns that are never broken, so that they can be copied."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{plain(title)}: {len(rows)}"), title_justify="left")
    for name in rows[0] if rows else ("nothing",):
        table.add_column(name, overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*(Text(plain(str(value))) for value in row.values()))
    Console().print(table)


def plain(text: str) -> str:
    """What others have written, as a terminal may show it: what would steer the terminal is written out."""
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)


def exit_with(status: int | None) -> None:
    """Ends the command, unless the status is 0 or none."""
    if status:
        raise typer.Exit(status)


def refuse(given: Mapping[str, object], why: str) -> None:
    """Raises Misconfigured for the first option that was given. What is not heard must not look as if it were."""
    from zerosum.errors import Misconfigured

    for name, value in given.items():
        if value:
            raise Misconfigured(f"{name}: {why}")


@contextmanager
def told() -> Iterator[None]:
    """Trouble of ours, or with a file, as one line on standard error; on a terminal it is wrapped between words."""
    from zerosum.errors import Misconfigured, ZerosumError

    try:
        yield
    except OSError as error:
        if error.filename is None:  # not of a file: a bug is told whole
            raise
        _say(f"{error.filename}: {error.strerror}")
        raise typer.Exit(EXIT_FAILED) from error
    except ZerosumError as error:
        _say(str(error))
        raise typer.Exit(EXIT_MISCONFIGURED if isinstance(error, Misconfigured) else EXIT_FAILED) from error


def _say(text: str) -> None:
    line = f"zerosum: {text}"
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        line = fill(line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr)  # noqa: T201 - a command speaks to people
