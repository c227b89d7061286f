"""The watched folder: settlement files that somebody puts there are taken, and moved to where they belong.

    inbox/<psp>/        what comes in: a file, and its manifest where the PSP has one (`manifest_beside`)
    done/               what was taken, under the beginning of its id
    refused/            what was not, with the reason beside it

A file counts when its manifest is beside it (it comes last, and is not empty), or when it has not grown since the look before.
What is wrong with one file is told, and holds up no other: it stays where it is. Taking a large file takes minutes: what has
come under its name meanwhile, or has been written to it, stays for the next look.

Invariant: a file leaves the inbox only after it is recorded, and nothing leaves that was not read; whoever dies in between
finds it there again, and taking it a second time changes nothing.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from zerosum.errors import Retryable, RowsRefused
from zerosum.limits import SETTLEMENT_MANIFEST_BYTES_MAX
from zerosum.reconciling import Files, FileState, Imported, Incoming

_log = structlog.get_logger()

MANIFEST = ".manifest.json"
RECEIVED_BY = "inbox"
"""Who brought it, in the record."""
_ID_SHOWN = 12

_Seen = tuple[int, int]
"""Size and time of the last change: what tells whether a file has grown."""

_Read = tuple[int, ...]
"""Device, inode, size and time of the last change: what tells whether a name still stands for what was read under it."""


class Inbox:
    """One folder, looked at again and again. `root` holds inbox, done and refused; they are made where they are missing."""

    def __init__(self, root: Path, files: Files, psps: Sequence[str]) -> None:
        self._root = root
        self._files = files
        self._psps = psps
        self._seen: dict[Path, _Seen] = {}

    async def look(self) -> int:
        """Takes what is ready; how many. What cannot be taken now stays for the next look."""
        return sum([await self._take(*ready) for ready in self._ready()])

    def _ready(self) -> list[tuple[str, Path]]:
        """Files that count, with their PSPs."""
        ready = []
        for psp in self._psps:
            files = filter(_is_file, sorted(self._folder("inbox", psp).iterdir()))
            ready += [(psp, path) for path in files if self._is_ready(path)]
        return ready

    def _is_ready(self, path: Path) -> bool:
        try:
            manifest = manifest_beside(path)
            return manifest.stat().st_size > 0 if manifest else self._stands_still(path)
        except OSError as wrong:
            return _waits(path, wrong)

    def _stands_still(self, path: Path) -> bool:
        """Whether it is as it was at the look before."""
        status = path.stat()
        seen = (status.st_size, status.st_mtime_ns)
        before, self._seen[path] = self._seen.get(path), seen
        return before == seen

    async def _take(self, psp: str, path: Path) -> bool:
        try:
            manifest = manifest_beside(path)
            with path.open("rb") as content:
                read = {path: _read_of(os.fstat(content.fileno()))}
                told = ""
                if manifest is not None:
                    told, read[manifest] = _manifest_text(manifest)
                imported = await self._files.take(content, Incoming(psp, _name_of(path), told, RECEIVED_BY))
                self._seen.pop(path, None)
                self._put_away(path, read, imported)
        except (Retryable, RowsRefused, OSError) as wrong:
            return _waits(path, wrong)
        return True

    def _put_away(self, path: Path, read: Mapping[Path, _Read], imported: Imported) -> None:
        """The file before its manifest: who dies in between never leaves a file that would count without it."""
        file = imported.file
        is_refused = file.state is FileState.REFUSED
        folder = self._folder("refused" if is_refused else "done")
        prefix = file.file_id[:_ID_SHOWN]
        if is_refused:
            (folder / f"{prefix}-{path.name}.reason.txt").write_text(file.reason + "\n", encoding="utf-8")
        for each in read:
            with contextlib.nullcontext() if each == path else contextlib.suppress(FileNotFoundError):
                if _read_of(each.stat()) == read[each]:
                    each.replace(folder / f"{prefix}-{each.name}")
                else:
                    _log.warning("another file came while one was taken, and is looked at next", file=_name_of(each))
        say = _log.warning if is_refused else _log.info
        say("settlement file", file=_name_of(path), file_id=file.file_id, state=str(file.state), reason=file.reason,
            is_known=imported.is_known)  # fmt: skip

    def _folder(self, *names: str) -> Path:
        folder = self._root.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def manifest_beside(file: Path) -> Path | None:
    """Of `day.csv` the manifest `day.csv.manifest.json`, else `day.manifest.json`; None where neither is there."""
    names = (file.name + MANIFEST, file.stem + MANIFEST)
    return next((path for path in map(file.with_name, names) if path.exists()), None)


def _is_file(path: Path) -> bool:
    """A settlement file: no manifest, nothing hidden, nothing that is still being written under another name."""
    is_other = path.name.startswith(".") or path.name.endswith((MANIFEST, ".tmp", ".part"))
    return path.is_file() and not is_other


def _waits(path: Path, wrong: Exception) -> bool:
    """Not now. One that is not there any more was put away by another copy."""
    if not isinstance(wrong, FileNotFoundError):
        reason = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        _log.warning("a settlement file waits", file=_name_of(path), reason=reason)
    return False


def _name_of(path: Path) -> str:
    """Its name as text that can be stored: a name may be any bytes."""
    return os.fsencode(path.name).decode("utf-8", errors="replace")


def _manifest_text(manifest: Path) -> tuple[str, _Read]:
    """A manifest, and what was read. What is no text, or too long, is refused with its reason."""
    with manifest.open("rb") as content:
        text = content.read(SETTLEMENT_MANIFEST_BYTES_MAX + 1).decode("utf-8", errors="replace")
        return text, _read_of(os.fstat(content.fileno()))


def _read_of(status: os.stat_result) -> _Read:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
