"""A file that comes in pieces: spooled to the disk, counted and hashed, and handed on only when it is whole.

Invariant: whoever gets the spooled file gets exactly the bytes its header announced; what is cut off, longer or altered ends
the call, and leaves nothing behind.
"""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from servers.door import check
from servers.status import refused
from zerosum.domain.refusal import Reason, Refusal
from zerosum.limits import SETTLEMENT_BYTES_MAX
from zerosum.v1 import reconciliation_pb2 as pb


@dataclass(frozen=True, slots=True)
class Upload:
    """A whole file: its header, its manifest as text ("" = none), and its bytes from the beginning."""

    header: pb.ImportFileHeader
    manifest: str
    content: BinaryIO


@asynccontextmanager
async def received(requests: AsyncIterator[pb.ImportFileRequest], folder: Path) -> AsyncIterator[Upload]:
    """The file while the block lasts. Memory holds one chunk; `folder` exists, and holds the rest.

    Ends the call as MALFORMED or CONTROLS_DIFFER.
    """
    header = await _header(requests)
    manifest = _text_of(header.manifest)
    with tempfile.TemporaryFile(dir=folder) as spool:
        digest, size = hashlib.sha256(), 0
        async for request in requests:
            if refusals := check(request):
                raise refused(*refusals)
            if request.WhichOneof("part") != "chunk":
                raise _malformed("header", "a second header")
            size += len(request.chunk)
            if size > header.size_bytes:
                raise _differs("header.size_bytes", "more bytes came than the header announced")
            digest.update(request.chunk)
            spool.write(request.chunk)
        if size != header.size_bytes:
            raise _differs("header.size_bytes", "fewer bytes came than the header announced")
        if digest.hexdigest() != header.sha256:
            raise _differs("header.sha256", "the bytes are not those of the header's hash")
        spool.seek(0)
        yield Upload(header, manifest, spool)


async def _header(requests: AsyncIterator[pb.ImportFileRequest]) -> pb.ImportFileHeader:
    async for request in requests:
        if refusals := check(request):
            raise refused(*refusals)
        if request.WhichOneof("part") != "header":
            raise _malformed("header", "the header comes first")
        if request.header.size_bytes > SETTLEMENT_BYTES_MAX:
            raise _malformed("header.size_bytes", "the file is too large")
        return request.header
    raise _malformed("header", "nothing came")


def _text_of(manifest: bytes) -> str:
    try:
        return manifest.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("header.manifest", "not UTF-8") from error


def _malformed(field: str, message: str) -> Exception:
    return refused(Refusal(Reason.MALFORMED, field, message))


def _differs(field: str, message: str) -> Exception:
    return refused(Refusal(Reason.CONTROLS_DIFFER, field, message))
