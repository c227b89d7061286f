"""`zerosum ledger ..`: what is in the books, and is the record still the one that was written? For finance and on-call.

Invariant: the record is judged by the auditor's own program, which shares no code with what wrote it.
"""

from pathlib import Path
from typing import Annotated

import typer

from servers.cli_frame import AsJson, DataDir, exit_with, settings_of, show, told

ledger = typer.Typer(help="The books: what is in them, and that nobody changed the record.", no_args_is_help=True)

Heads = Annotated[
    Path | None, typer.Option(help="The file of exported heads. Default: heads.jsonl of the data folder.")
]
Person = Annotated[
    str, typer.Option("--as", envvar="ZEROSUM_PERSON", help="In whose name. Default: who is logged in here.")
]
Tenant = Annotated[
    str, typer.Option(help="Whose books; - is the house. With ZEROSUM_TOKEN_FILE that token says whose.")
]


@ledger.command("balances")
def balances(
    accounts: Annotated[
        list[str] | None, typer.Argument(help="suspense:USD, psp:stripe:clearing:USD, ... Default: every account.")
    ] = None,
    tenant: Tenant = "-",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show what stands in accounts of the books, debit positive: by default of the house, for what belongs to no tenant."""
    from servers.books_client import Books

    with told():
        rows = Books(settings_of(data_dir), person, tenant).balances(accounts or [])
        show(rows, as_json, "Balances", whole=["account", "amount"])


@ledger.command("entries")
def entries(
    account: str,
    rows: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    tenant: Tenant = "-",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show the entries of one account, debit positive."""
    from servers.books_client import Books

    with told():
        found = Books(settings_of(data_dir), person, tenant).entries(account, rows)
        show(found, as_json, f"Entries of {account}", whole=["journal", "amount"])


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
