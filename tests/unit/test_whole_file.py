"""Small files are whole or not there: keys, secrets, the token of Ray, where a system listens."""

import errno
import os
from pathlib import Path

import pytest

from zerosum.whole_file import EVERYBODY_READS, write_whole


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is written reaches the disk."""
    monkeypatch.setattr(os, "fsync", _no_room)


@pytest.mark.usefixtures("full_disk")
def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing of its own: the disk is full."""
    path = tmp_path / "port"
    path.write_text("7400\n")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "7500\n")

    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("port", "7400\n")]


@pytest.mark.parametrize("mode", [0o600, EVERYBODY_READS])
def test_a_file_is_written_with_its_mode_whatever_the_shell_masks(tmp_path: Path, mode: int) -> None:
    path, mask = tmp_path / "one", os.umask(0o077)
    try:
        write_whole(path, "ü\n", mode=mode)
    finally:
        os.umask(mask)

    assert (path.read_bytes(), path.stat().st_mode & 0o777) == ("ü\n".encode(), mode)


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
