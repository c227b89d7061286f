"""Finance's way to ReconciliationService from the command line: blocking calls in one person's name.

The token is the person's own (`ZEROSUM_TOKEN_FILE`), or is signed for the occasion where the development key is kept.

Invariant: every act has a key; the same key acts once, however often the command is run.
"""

import getpass
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from servers.call import HOUSE, Caller, Role
from servers.keys import issuer_of
from servers.operator_client import Refused, trouble_of
from zerosum.domain.identity import Tenant
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.v1 import common_pb2
from zerosum.v1 import reconciliation_pb2 as pb
from zerosum.v1.reconciliation_pb2_grpc import ReconciliationServiceStub

_TIMEOUT_S = 30.0
_UPLOAD_TIMEOUT_S = 3_600.0
"""A file of 10 GB, read, sent and taken."""
_TOKEN_LIFE_S = 3_900
_PAGE_ROWS = 500
_CHUNK_BYTES = 1024 * 1024
_LOOK_EVERY_S = 1.0
SHORT_ID = 8
"""Hex digits of a case's id that lists show: of 10,000 cases two are alike once in 100."""
_SHORT = re.compile(r"[0-9a-f]{4,39}")
_CLOSED = (pb.MISMATCH_STATE_RESOLVED, pb.MISMATCH_STATE_WRITTEN_OFF)

M = TypeVar("M", bound=Message)
R = TypeVar("R")


class Finance:
    """One command's connection. `person`: in whose name, "" = whoever is logged in on this machine."""

    def __init__(self, settings: Settings, person: str) -> None:
        self._settings = settings
        self._metadata = (("authorization", f"Bearer {token_of(settings, person)}"),)

    # ---- files -----------------------------------------------------------------------------------------------------

    def import_file(self, path: Path, psp: str, manifest: Path | None) -> pb.ImportFileResponse:
        """Sends a file. Raises Misconfigured where it cannot be read, Refused, Unavailable: send it again."""
        try:
            header = _header(path, psp, manifest)
            with path.open("rb") as content:
                parts = (pb.ImportFileRequest(chunk=chunk) for chunk in iter(lambda: content.read(_CHUNK_BYTES), b""))
                return self._call(
                    "ImportFile", _chain(pb.ImportFileRequest(header=header), parts), pb.ImportFileResponse,
                    timeout_s=_UPLOAD_TIMEOUT_S,
                )  # fmt: skip
        except OSError as error:
            raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error

    def files(self, psp: str) -> list[pb.SettlementFile]:
        """Files, newest first."""
        return list(self._all("ListFiles", pb.ListFilesRequest(psp=psp), pb.ListFilesResponse, lambda got: got.files))

    # ---- runs ------------------------------------------------------------------------------------------------------

    def run(self, request: pb.RunReconciliationRequest, *, is_awaited: bool) -> pb.Run:
        """Runs a period; waits for its end, or brings it as it stands."""
        run = self._call("RunReconciliation", request, pb.RunReconciliationResponse).run
        while is_awaited and run.state == "RUNNING":
            time.sleep(_LOOK_EVERY_S)
            run = self.run_of(run.run_id)
        return run

    def run_of(self, run_id: str) -> pb.Run:
        """One run."""
        return self._call("GetRun", pb.GetRunRequest(run_id=run_id), pb.GetRunResponse).run

    def runs(self, kind: pb.RunKind.ValueType) -> list[pb.Run]:
        """The newest runs: one page of them."""
        page = common_pb2.PageRequest(page_size=50)
        return list(self._call("ListRuns", pb.ListRunsRequest(page=page, kind=kind), pb.ListRunsResponse).runs)

    def differences(self, before: str, after: str) -> list[pb.RunDifference]:
        """What two runs say differently."""
        request = pb.CompareRunsRequest(before_run_id=before, after_run_id=after)
        return list(self._all("CompareRuns", request, pb.CompareRunsResponse, lambda got: got.differences))

    # ---- cases -----------------------------------------------------------------------------------------------------

    def mismatches(self, request: pb.ListMismatchesRequest, rows_max: int) -> list[pb.Mismatch]:
        """Cases, oldest first; at most so many."""
        found = self._all("ListMismatches", request, pb.ListMismatchesResponse, lambda got: got.mismatches)
        return [row for row, _ in zip(found, range(rows_max), strict=False)]

    def case(self, name: str) -> pb.GetMismatchResponse:
        """One case whole, by its id or the beginning that lists show."""
        request = pb.GetMismatchRequest(mismatch_id=self._id_of(name))
        return self._call("GetMismatch", request, pb.GetMismatchResponse)

    def act(self, method: str, request: Any, name: str, key: str) -> pb.Mismatch:
        """An act on a case, once per key ("" = a new one): the case after it. `request` lacks only these two."""
        request.mismatch_id = self._id_of(name)
        request.idempotency_key = key or f"cli-{uuid4().hex}"
        mismatch: pb.Mismatch = self._call(method, request, getattr(pb, f"{method}Response")).mismatch
        return mismatch

    def ageing(self) -> pb.GetAgeingResponse:
        """How old the open cases are."""
        return self._call("GetAgeing", pb.GetAgeingRequest(), pb.GetAgeingResponse)

    def _id_of(self, name: str) -> str:
        """The whole id for what lists show of it. Raises Refused where none or several begin so."""
        if not _SHORT.fullmatch(name):
            return name
        found: list[str] = []
        for state in (pb.MISMATCH_STATE_UNSPECIFIED, *_CLOSED):
            if not found:
                cases = self._all(
                    "ListMismatches", pb.ListMismatchesRequest(state=state), pb.ListMismatchesResponse,
                    lambda got: got.mismatches,
                )  # fmt: skip
                found = [case.mismatch_id for case in cases if digest_of(case.mismatch_id).startswith(name)]
        if len(found) != 1:
            raise Refused(f"{len(found)} cases begin with {name}: give more of the id, or all of it")
        return found[0]

    # ---- calls -----------------------------------------------------------------------------------------------------

    def _all(self, method: str, request: Any, response: type[M], rows_of: Callable[[M], Any]) -> Iterator[Any]:
        """Rows of a list, page after page."""
        request.page.page_size = _PAGE_ROWS
        while True:
            got: Any = self._call(method, request, response)
            yield from rows_of(got)
            if not got.next_page_token:
                return
            request.page.page_token = got.next_page_token

    def _call(self, method: str, request: Any, response: type[M], *, timeout_s: float = _TIMEOUT_S) -> M:
        with grpc.insecure_channel(self._settings.reconciliation_address) as channel:
            try:
                called = getattr(ReconciliationServiceStub(channel), method)
                got: M = called(request, timeout=timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                raise trouble_of(error, "reconciliation") from error
            assert isinstance(got, response)
            return got


def digest_of(mismatch_id: str) -> str:
    """The part of a case's id that tells it from all others of its kind."""
    return mismatch_id.rpartition("-")[2]


def token_of(settings: Settings, person: str, tenant: Tenant = HOUSE) -> str:
    """The person's own token, or one signed here with the development key. Raises Misconfigured where there is neither."""
    path = os.environ.get("ZEROSUM_TOKEN_FILE", "")
    if path:
        try:
            return Path(path).read_text(encoding="ascii").strip()
        except OSError as error:
            raise Misconfigured(f"ZEROSUM_TOKEN_FILE cannot be read: {error.strerror}") from error
    caller = Caller(tenant, Role.FINANCE, person or _who_is_here())
    return issuer_of(settings.data_dir).token(caller, expires_at_s=int(time.time()) + _TOKEN_LIFE_S)


def _who_is_here() -> str:
    """Who is logged in. Raises Misconfigured where this machine has no name for the account, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as nameless:  # OSError: as of Python 3.13
        raise Misconfigured(
            "--as: this account has no name here; say in whose name, or set ZEROSUM_PERSON"
        ) from nameless


def _header(path: Path, psp: str, manifest: Path | None) -> pb.ImportFileHeader:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    told = manifest.read_bytes() if manifest else b""
    return pb.ImportFileHeader(psp=psp, name=path.name, size_bytes=path.stat().st_size, sha256=digest, manifest=told)


def _chain(first: R, rest: Iterator[R]) -> Iterator[R]:
    yield first
    yield from rest
