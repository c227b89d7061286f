"""`python -m simulator.audit.chain verify|export --heads FILE`: the hash chains of the slots' logs, as a command.

`verify` walks every log from its first commit and compares it with the heads in the file; `export` appends the heads that
have moved since. The database is read as the role auditor. Exit status 0: all holds. 1: a finding, each on a line, with
service, slot, seq and table. 2: a source could not be read, so nothing was judged.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import psycopg

from simulator.audit.check_chain import verify_chains
from simulator.audit.database import open_database
from simulator.audit.finding import Findings, SourceBroken
from simulator.audit.heads import Heads, export_heads, read_heads


def main(arguments: list[str] | None = None) -> int:
    """Verify or export, print, and return the exit status."""
    options, found = _options(arguments), Findings()
    try:
        with open_database(options.database_url) as database:
            if options.act == "export":
                exported = export_heads(database, options.heads, found)
                say = {"exported": exported, "slots": found.examined}
            else:
                heads = read_heads(options.heads) if options.heads else Heads()
                verify_chains(database, heads, found)
                say = {"commits": found.examined, "heads": heads.count}
    except (SourceBroken, psycopg.Error, OSError) as broken:
        sys.stdout.write(f"NOT VERIFIED: {broken}\n")
        return 2
    if options.json:
        examples = [each.as_json() for each in found.examples]
        sys.stdout.write(json.dumps({**say, "wrong": found.count, "findings": examples}, indent=2) + "\n")
    else:
        _print(say, found)
    return 1 if found.count else 0


def _print(say: dict[str, int], found: Findings) -> None:
    for each in found.examples:
        sys.stdout.write(f"{each.subject}: {each.problem}; expected {each.expected}, found {each.found}\n")
    if found.count > len(found.examples):
        sys.stdout.write(f"and {found.count - len(found.examples)} more\n")
    figures = ", ".join(f"{number} {name}" for name, number in say.items())
    sys.stdout.write(f"{'HOLDS' if not found.count else 'DOES NOT HOLD'}: {figures}, {found.count} wrong\n")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator.audit.chain", description="The slots' hash chains.")
    parser.add_argument("act", choices=("verify", "export"))
    parser.add_argument("--database-url", default=os.environ.get("ZEROSUM_AUDITOR_DATABASE_URL"), help="role auditor")
    parser.add_argument("--heads", type=Path, help="the file of exported heads")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    if not options.database_url:
        parser.error("--database-url is needed")
    if options.act == "export" and options.heads is None:
        parser.error("--heads is needed")
    return options


if __name__ == "__main__":
    sys.exit(main())
