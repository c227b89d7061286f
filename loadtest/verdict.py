"""From a finished run to its verdict: the audit over all sources, the certificate in the terminal, the HTML report.

Invariant: the auditor is asked as a program of its own; what it says is shown, never improved.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from loadtest.certificate import Certificate, Event, Facts, Phase, certify
from loadtest.probe import Psp
from loadtest.report import read_status_counts, write_report
from loadtest.sample import read_samples
from loadtest.terminal import print_certificate
from servers.heads import heads_path
from servers.wiring import database_url
from simulator.audit import damage
from zerosum.errors import Bug
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres

AUDIT_LIMIT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the verdict rests on. `settlement`: the PSP's truth; `delivered`: the damaged file, once it was reconciled."""

    settings: Settings
    folder: Path
    settlement: Path
    delivered: Path | None = None
    psp: Psp
    canaries: Sequence[str]
    sabotage: str | None
    phases: Sequence[Phase]
    events: Sequence[Event]
    facts: Facts


def pronounce(material: Material, console: Console) -> int:
    """Audits, prints the certificate, writes the report. 0 when the audit is clean."""
    certificate = examine(material)
    page = material.folder / "report.html"
    samples = read_samples(material.folder / "samples.jsonl")
    write_report(page, certificate, samples, read_status_counts(material.folder / "statuses.jsonl"))
    print_certificate(certificate, console)
    console.print(f"report   {page}\naudit    {material.folder / 'audit.json'}", highlight=False, soft_wrap=True)
    return 0 if certificate.is_clean else 1


def examine(material: Material) -> Certificate:
    """Audits, and makes the certificate from what the audit says. Raises Bug where there was no audit."""
    truth = material.folder / "psp-truth.jsonl"
    lines = material.psp.truth()
    if material.sabotage == "double-charge":
        lines = list(damage.double_charge(lines))
    elif material.sabotage:
        damage.plant(_admin_url(material.settings), material.sabotage)
    truth.write_bytes(b"".join(lines))
    report = _audit(material, truth)
    samples = read_samples(material.folder / "samples.jsonl")
    return certify(audit=report, samples=samples, phases=material.phases, events=material.events, facts=material.facts)


def _audit(material: Material, truth: Path) -> dict[str, object]:
    """Runs `python -m simulator.audit` over every source there is; every run's journal of this data folder counts."""
    data, out = material.settings.data_dir, material.folder / "audit.json"
    journals = sorted(str(path) for path in (data / "runs").glob("*/journal.jsonl"))
    heads = heads_path(material.settings)
    command = [
        sys.executable, "-m", "simulator.audit", "--psp-truth", str(truth), "--journal", *journals, "--settlement",
        str(material.settlement), "--logs", str(data / "logs"),
        *(["--heads", str(heads)] if heads.exists() else []),
        *(["--delivered", str(material.delivered)] if material.delivered else []),
        *(["--canary", *material.canaries] if material.canaries else []), "--digests",
        str(data / "audit-digests.json"), "--dead-letters-count", "--json", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "ZEROSUM_AUDITOR_DATABASE_URL": database_url(material.settings, "auditor")}
    with (material.folder / "audit.log").open("wb") as log:
        ended = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=AUDIT_LIMIT_S, check=False)
    if not out.exists():
        raise Bug(f"the audit ended with {ended.returncode} and no report; see {material.folder / 'audit.log'}")
    report: dict[str, object] = json.loads(out.read_text())
    return report


def _admin_url(settings: Settings) -> str:
    return settings.database_url or EmbeddedPostgres(settings.data_dir / "postgres").urls()["admin"]
