"""`zerosum ledger ..`: is the record still the one that was written? For finance and on-call.

Invariant: the record is judged by the auditor's own program, which shares no code with what wrote it.
"""

from pathlib import Path
from typing import Annotated

import typer

from servers.cli_frame import AsJson, DataDir, exit_with, settings_of, told

ledger = typer.Typer(help="The record: that nobody changed it.", no_args_is_help=True)

Heads = Annotated[
    Path | None, typer.Option(help="The file of exported heads. Default: heads.jsonl of the data folder.")
]


@ledger.command("verify")
def verify(heads: Heads = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Verify every slot's hash chain from its first commit, and against the heads exported before. Status 0: it holds."""
    from servers.heads import verify_record

    with told():
        exit_with(verify_record(settings_of(data_dir), heads, as_json=as_json))


@ledger.command("export-heads")
def export_heads(heads: Heads = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Append the logs' newest heads to a file outside the database. Refused where a head exported before is gone."""
    from servers.heads import export_record

    with told():
        exit_with(export_record(settings_of(data_dir), heads, as_json=as_json))
