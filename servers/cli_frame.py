"""What every command shares: the data folder, JSON or a table, settings, the exit status, and trouble as one line.

Invariant: a command that fails says why in one line and ends with a status other than 0.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zerosum.settings import Settings

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where everything lives. Default: ZEROSUM_DATA_DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2


def settings_of(data_dir: Path | None) -> "Settings":
    """The settings of the environment, with the folder that the command names."""
    from zerosum.settings import Settings

    settings = Settings()
    return settings.model_copy(update={"data_dir": data_dir}) if data_dir is not None else settings


def exit_with(status: int | None) -> None:
    """End the command with this status; 0 and None let it come to its end."""
    if status:
        raise typer.Exit(status)


@contextmanager
def told() -> Iterator[None]:
    """Trouble of ours as one line on standard error."""
    from zerosum.errors import Misconfigured, ZerosumError

    try:
        yield
    except ZerosumError as error:
        print(f"zerosum: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to people
        raise typer.Exit(EXIT_MISCONFIGURED if isinstance(error, Misconfigured) else EXIT_FAILED) from error
