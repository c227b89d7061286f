"""Finance's way to ReconciliationService from the command line, in one person's name.

Invariant: every act has a key; the same key acts once, however often the command is run.
"""

import hashlib
import re
import time
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

from servers.client import Client, Refused
from servers.client_token import finance_token
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.v1 import common_pb2
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1.reconciliation_pb2_grpc import ReconciliationServiceStub

_TIMEOUT_S = 30.0
_UPLOAD_TIMEOUT_S = 3_600.0
"""A file of 10 GB, read, sent and taken."""
_CHUNK_BYTES = 1024 * 1024
_LOOK_EVERY_S = 1.0
SHORT_ID = 8
"""Hex digits of a case's id that lists show: of 10,000 cases two are alike once in 100."""
_SHORT = re.compile(r"[0-9a-f]{4,39}")
_CLOSED = (pb.MISMATCH_STATE_RESOLVED, pb.MISMATCH_STATE_WRITTEN_OFF)


class Finance:
    """One command's connection. `person`: in whose name, "" = whoever is logged in on this machine."""

    def __init__(self, settings: Settings, person: str) -> None:
        self._service = Client(
            "reconciliation", settings.reconciliation_address, ReconciliationServiceStub,
            finance_token(settings, person), _TIMEOUT_S,
        )  # fmt: skip

    # ---- files -----------------------------------------------------------------------------------------------------

    def import_file(self, path: Path, psp: str, manifest: Path | None) -> pb.ImportFileResponse:
        """Sends a file. Raises Misconfigured where it cannot be read, Refused, Unavailable: send it again."""
        try:
            header = _header(path, psp, manifest)
            with path.open("rb") as content:
                parts = (pb.ImportFileRequest(chunk=chunk) for chunk in iter(lambda: content.read(_CHUNK_BYTES), b""))
                stream = chain([pb.ImportFileRequest(header=header)], parts)
                response: pb.ImportFileResponse = self._service.call("ImportFile", stream, timeout_s=_UPLOAD_TIMEOUT_S)
                return response
        except OSError as error:
            raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error

    def files(self, psp: str) -> list[pb.SettlementFile]:
        """Files, newest first."""
        return list(self._service.rows("ListFiles", pb.ListFilesRequest(psp=psp), "files"))

    # ---- runs ------------------------------------------------------------------------------------------------------

    def run(self, request: pb.RunReconciliationRequest, *, is_awaited: bool) -> pb.Run:
        """Runs a period; waits for its end, or brings it as it stands."""
        run: pb.Run = self._service.call("RunReconciliation", request).run
        while is_awaited and run.state == "RUNNING":
            time.sleep(_LOOK_EVERY_S)
            run = self.run_of(run.run_id)
        return run

    def run_of(self, run_id: str) -> pb.Run:
        """One run."""
        run: pb.Run = self._service.call("GetRun", pb.GetRunRequest(run_id=run_id)).run
        return run

    def runs(self, kind: pb.RunKind.ValueType) -> list[pb.Run]:
        """The newest runs: one page of them."""
        page = common_pb2.PageRequest(page_size=50)
        return list(self._service.call("ListRuns", pb.ListRunsRequest(page=page, kind=kind)).runs)

    def differences(self, before: str, after: str) -> list[pb.RunDifference]:
        """What two runs say differently."""
        request = pb.CompareRunsRequest(before_run_id=before, after_run_id=after)
        return list(self._service.rows("CompareRuns", request, "differences"))

    # ---- cases -----------------------------------------------------------------------------------------------------

    def mismatches(self, request: pb.ListMismatchesRequest, rows_max: int) -> list[pb.Mismatch]:
        """Cases, oldest first; at most so many."""
        return list(self._service.rows("ListMismatches", request, "mismatches", rows_max=rows_max))

    def case(self, name: str) -> pb.GetMismatchResponse:
        """One case whole, by its id or the beginning that lists show."""
        request = pb.GetMismatchRequest(mismatch_id=self._id_of(name))
        response: pb.GetMismatchResponse = self._service.call("GetMismatch", request)
        return response

    def act(self, method: str, request: Any, name: str, key: str) -> pb.Mismatch:
        """An act on a case, once per key ("" = a new one): the case after it. `request` lacks only these two."""
        request.mismatch_id = self._id_of(name)
        request.idempotency_key = key or f"cli-{uuid4().hex}"
        mismatch: pb.Mismatch = self._service.call(method, request).mismatch
        return mismatch

    def ageing(self) -> pb.GetAgeingResponse:
        """How old the open cases are."""
        response: pb.GetAgeingResponse = self._service.call("GetAgeing", pb.GetAgeingRequest())
        return response

    def _id_of(self, name: str) -> str:
        """The whole id for what lists show of it. Raises Refused where none or several begin so."""
        if not _SHORT.fullmatch(name):
            return name
        found: list[str] = []
        for state in (pb.MISMATCH_STATE_UNSPECIFIED, *_CLOSED):
            if not found:
                cases = self._service.rows("ListMismatches", pb.ListMismatchesRequest(state=state), "mismatches")
                found = [case.mismatch_id for case in cases if digest_of(case.mismatch_id).startswith(name)]
        if len(found) != 1:
            raise Refused(f"{len(found)} cases begin with {name}: give more of the id, or all of it")
        return found[0]


def digest_of(mismatch_id: str) -> str:
    """The part of a case's id that tells it from all others of its kind."""
    return mismatch_id.rpartition("-")[2]


def _header(path: Path, psp: str, manifest: Path | None) -> pb.ImportFileHeader:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    told = manifest.read_bytes() if manifest else b""
    return pb.ImportFileHeader(psp=psp, name=path.name, size_bytes=path.stat().st_size, sha256=digest, manifest=told)
