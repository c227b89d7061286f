"""Small files that are whole or not there: keys, secrets, ports, where a system listens.

Invariant: whoever reads a path that was written here reads all of one writing, also after a death or a power cut in between.
"""

import os
import secrets
from pathlib import Path

OWNER_ONLY = 0o600
EVERYBODY_READS = 0o644


def write_whole(path: Path, content: str, *, mode: int = OWNER_ONLY) -> None:
    """Writes beside, syncs, renames over what is there, syncs the folder. UTF-8; `mode` whatever the process's mask is.

    Raises OSError (a full disk, for one): what was there is as it was, and nothing of ours is left beside it.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes renames in a folder last. Raises OSError."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
