"""`zerosum reconcile` and `zerosum mismatches`: what finance does, against a running system. Options in, calls out.

Amounts are shown in major units with their currency, ages in days and hours, ids short: what is shown can be copied back.

Invariant: an approval is asked for with the postings on the screen, unless `--yes` says that they were seen.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servers.cli_frame import EXIT_FAILED, AsJson, DataDir, exit_with, plain, settings_of, show, told

if TYPE_CHECKING:
    from servers.finance_client import Finance

reconcile = typer.Typer(help="Settlement files and reconciliation runs.", no_args_is_help=True)
mismatches = typer.Typer(help="Finance's queue: what does not agree, and who settles it.", no_args_is_help=True)

HOURS_MAX = 100 * 366 * 24

Person = Annotated[
    str, typer.Option("--as", envvar="ZEROSUM_PERSON", help="In whose name. Default: who is logged in here.")
]
Key = Annotated[str, typer.Option(help="The key of this act; the same key acts once. Default: made new.")]
Case = Annotated[str, typer.Argument(help="Its id, or the beginning that lists show.")]


# ---- files and runs ------------------------------------------------------------------------------------------------


@reconcile.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    psp: Annotated[str, typer.Option(help="Whose file it is.")] = "stripe",
    manifest: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Default: day.csv.manifest.json or day.manifest.json beside day.csv."
        ),
    ] = None,
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Import a settlement file, whole or not at all. Status 1 where it is refused."""
    from actors.inbox import manifest_beside
    from servers.finance_view import file_row

    with told():
        response = _finance(data_dir, person).import_file(file, psp, manifest or manifest_beside(file))
        row = file_row(response.file) | {"known": "yes" if response.replayed else "no"}
        show([row], as_json, "File", whole=["file"])
        exit_with(EXIT_FAILED if row["state"] == "REFUSED" else 0)


@reconcile.command("files")
def files(
    psp: Annotated[str, typer.Option(help="Whose. Default: all.")] = "",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List settlement files, newest first."""
    from servers.finance_view import file_row

    with told():
        show([file_row(row) for row in _finance(data_dir, person).files(psp)], as_json, "Files", whole=["file"])


@reconcile.command("run")
def run(
    day: Annotated[str, typer.Option(help="The day of the files, YYYY-MM-DD, UTC.")] = "",
    inside: Annotated[bool, typer.Option("--inside", help="Our own services among themselves, now.")] = False,
    psp: Annotated[str, typer.Option(help="Whose files.")] = "stripe",
    again: Annotated[bool, typer.Option("--again", help="Once more, by today's rules and files.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="For its end.")] = True,
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Run a reconciliation, or show the one that has run. Status 1 where it failed."""
    from servers.finance_view import day_of, run_rows
    from zerosum.errors import Misconfigured
    from zerosum.v1 import reconciliation_pb2 as pb

    with told():
        if bool(day) == inside:
            raise Misconfigured("say --day YYYY-MM-DD for a day's files, or --inside for our own services now")
        kind = pb.RUN_KIND_INSIDE if inside else pb.RUN_KIND_NIGHTLY
        period = "" if inside else day_of(day)
        request = pb.RunReconciliationRequest(kind=kind, psp="" if inside else psp, period=period, again=again)
        ended = _finance(data_dir, person).run(request, is_awaited=wait)
        _show_one(run_rows(ended), as_json, f"Run {ended.run_id}")
        exit_with(EXIT_FAILED if ended.state == "FAILED" else 0)


@reconcile.command("runs")
def runs(person: Person = "", as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the newest runs."""
    from servers.finance_view import run_row
    from zerosum.v1 import reconciliation_pb2 as pb

    with told():
        found = _finance(data_dir, person).runs(pb.RUN_KIND_UNSPECIFIED)
        show([run_row(one) for one in found], as_json, "Runs", whole=["run"])


@reconcile.command("show")
def show_run(run_id: str, person: Person = "", as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show one run with its figures."""
    from servers.finance_view import run_rows

    with told():
        _show_one(run_rows(_finance(data_dir, person).run_of(run_id)), as_json, f"Run {run_id}")


@reconcile.command("diff")
def diff(before: str, after: str, person: Person = "", as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show what two runs of a period say differently."""
    with told():
        found = _finance(data_dir, person).differences(before, after)
        rows = [{"item": one.item, before: one.before or "-", after: one.after or "-"} for one in found]
        show(rows, as_json, "Differences")


# ---- the queue -----------------------------------------------------------------------------------------------------


@mismatches.command("list")
def list_cases(
    state: Annotated[
        str, typer.Option(help="open, fixing, proposed, approved, resolved or written_off. Default: not closed.")
    ] = "",
    group: Annotated[str, typer.Option("--class", help="automatic, manual or unclassified. Default: all.")] = "",
    kind: Annotated[str, typer.Option(help="wrong_amount, missing_line, ... See docs/reconciliation.md.")] = "",
    assignee: Annotated[str, typer.Option(help="Whose work.")] = "",
    psp: Annotated[str, typer.Option(help="Of one PSP. Default: all.")] = "",
    order: Annotated[str, typer.Option(help="A payment order.")] = "",
    older_than_hours: Annotated[int, typer.Option(min=0, max=HOURS_MAX, help="Open for longer.")] = 0,
    rows: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List cases, oldest first."""
    from servers.finance_view import case_row, filter_of

    with told():
        wanted = filter_of(
            state=state,
            group=group,
            kind=kind,
            assignee=assignee,
            psp=psp,
            order=order,
            older_than_hours=older_than_hours,
        )
        found = _finance(data_dir, person).mismatches(wanted, rows)
        show([case_row(one, is_short=not as_json) for one in found], as_json, "Cases", whole=["id", "amount", "age"])


@mismatches.command("show")
def show_case(case: Case, person: Person = "", as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show one case: what differs, what is proposed, what it would post, and every act."""
    with told():
        _show_case(_finance(data_dir, person).case(case), as_json)


@mismatches.command("assign")
def assign(
    case: Case,
    assignee: Annotated[str, typer.Argument(help="To whom. Default: to nobody.")] = "",
    key: Key = "",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give a case to a person."""
    from zerosum.v1 import reconciliation_pb2 as pb

    _act(data_dir, person, as_json, "AssignMismatch", pb.AssignMismatchRequest(assignee=assignee), case, key)


@mismatches.command("comment")
def comment(
    case: Case, text: str, key: Key = "", person: Person = "", as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Leave a comment."""
    from zerosum.v1 import reconciliation_pb2 as pb

    _act(data_dir, person, as_json, "CommentMismatch", pb.CommentMismatchRequest(text=text), case, key)


@mismatches.command("propose")
def propose(
    case: Case,
    how: Annotated[
        str, typer.Argument(help="as-proposed (by the machine), write-off (to suspense) or close (posts nothing).")
    ],
    reason: Annotated[str, typer.Option(help="Why; whoever approves reads it.")],
    key: Key = "",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Propose how to settle an open case. Another person approves."""
    from servers.finance_view import resolution_of
    from zerosum.v1 import reconciliation_pb2 as pb

    with told():
        request = pb.ProposeResolutionRequest(resolution=resolution_of(how), reason=reason)
    _act(data_dir, person, as_json, "ProposeResolution", request, case, key)


@mismatches.command("approve")
def approve(
    case: Case,
    yes: Annotated[bool, typer.Option("--yes", help="The postings were seen; do not ask.")] = False,
    key: Key = "",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Approve what another person proposed. What it posts is shown first, and is posted once."""
    from servers.client import Refused
    from servers.finance_view import posting_rows
    from zerosum.v1 import reconciliation_pb2 as pb

    with told():
        finance = _finance(data_dir, person)
        seen = finance.case(case)
        if not seen.proposal.number:
            raise Refused("ILLEGAL_TRANSITION: nothing is proposed for this case")
        if not yes:
            said = f"{seen.proposal.proposed_by} proposes {seen.proposal.action}: {seen.proposal.reason}"
            typer.echo(plain(said))
            show(posting_rows(seen.proposal.postings), False, "It posts", whole=["account", "amount"])
            typer.confirm("Approve?", abort=True)
        request = pb.ApproveResolutionRequest(proposal_number=seen.proposal.number)
        _show_case_row(finance.act("ApproveResolution", request, seen.mismatch.mismatch_id, key), as_json)


@mismatches.command("reject")
def reject(
    case: Case,
    reason: Annotated[str, typer.Option(help="Why.")],
    key: Key = "",
    person: Person = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Reject what is proposed, or take back one's own proposal."""
    from zerosum.v1 import reconciliation_pb2 as pb

    _act(data_dir, person, as_json, "RejectResolution", pb.RejectResolutionRequest(reason=reason), case, key)


@mismatches.command("ageing")
def ageing(person: Person = "", as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show open cases by age and class, and what stands in suspense."""
    from servers.finance_view import ageing_rows, suspense_rows

    with told():
        response = _finance(data_dir, person).ageing()
        rows, held = ageing_rows(response), suspense_rows(response)
        show([*rows, *held] if as_json else rows, as_json, f"Ageing ({response.overdue} past the limit)")
        if held and not as_json:
            show(held, as_json, "Suspense", whole=["came", "went"])


# ---- common --------------------------------------------------------------------------------------------------------


def _finance(data_dir: Path | None, person: str) -> "Finance":
    from servers.finance_client import Finance

    return Finance(settings_of(data_dir), person)


def _act(data_dir: Path | None, person: str, as_json: bool, method: str, request: Any, case: str, key: str) -> None:
    with told():
        _show_case_row(_finance(data_dir, person).act(method, request, case, key), as_json)


def _show_case_row(mismatch: Any, as_json: bool) -> None:
    from servers.finance_view import case_row

    show([case_row(mismatch, is_short=not as_json)], as_json, "Case", whole=["id", "amount", "age"])


def _show_case(case: Any, as_json: bool) -> None:
    from servers.finance_view import act_rows, case_document, case_facts, posting_rows

    if as_json:
        typer.echo(json.dumps(case_document(case), indent=2, ensure_ascii=False))
        return
    show(case_facts(case), False, f"Case {case.mismatch.mismatch_id}")
    if case.dry_run:
        show(posting_rows(case.dry_run), False, "The machine's proposal would post", whole=["account", "amount"])
    if case.proposal.number:
        who = f"Proposal {case.proposal.number} of {case.proposal.proposed_by}, {case.proposal.action}"
        show(posting_rows(case.proposal.postings), False, f"{who}: posts", whole=["account", "amount"])
    show(act_rows(case.acts), False, "Acts")


def _show_one(rows: list[dict[str, Any]], as_json: bool, title: str) -> None:
    if as_json:
        typer.echo(json.dumps({row["figure"]: row["value"] for row in rows}, indent=2, ensure_ascii=False))
        return
    show(rows, False, title)
