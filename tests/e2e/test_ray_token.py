"""Whose token a Ray cluster is joined with: ours at a head of our own, its own at one that was there. Nothing is started."""

import errno
import os
from pathlib import Path

import pytest

from actors.ray_cluster import TOKEN_PATH, make_token, token_path, use_token
from zerosum.errors import Misconfigured

EXISTING = "127.0.0.1:6379"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder without keys, in a shell that says nothing of Ray; whatever is said of it later is forgotten."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", TOKEN_PATH, "RAY_worker_niceness", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path / "data"


@pytest.fixture
def operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The token of another cluster, which the shell names."""
    path = tmp_path / "operators.token"
    path.write_text("theirs")
    monkeypatch.setenv(TOKEN_PATH, str(path))
    return path


def test_an_existing_cluster_is_joined_with_the_token_that_the_shell_names(data: Path, operators: Path) -> None:
    """Ours would be the wrong one; none is made."""
    use_token(data, existing=EXISTING)

    assert (os.environ["RAY_AUTH_MODE"], os.environ[TOKEN_PATH]) == ("token", str(operators))
    assert (operators.read_text(), data.exists()) == ("theirs", False)


def test_a_head_of_our_own_has_our_token_whatever_the_shell_names(data: Path, operators: Path) -> None:
    """Verifies the test above. The token is made once, and readable by its owner only."""
    use_token(data)
    made = Path(os.environ[TOKEN_PATH])
    told = made.read_text()
    use_token(data)

    assert (made, made.stat().st_mode & 0o777, made.read_text()) == (data / "keys" / "ray.token", 0o600, told)
    assert told != operators.read_text()


def test_an_existing_cluster_without_a_named_token_is_joined_with_that_of_the_data_folder(data: Path) -> None:
    """As in docker-compose.yml: `zerosum keys` made it, and the head was started with it."""
    use_token(data)
    del os.environ[TOKEN_PATH]

    use_token(data, existing=EXISTING)

    assert os.environ[TOKEN_PATH] == str(data / "keys" / "ray.token")


@pytest.mark.parametrize("named", ["", "nowhere.token"])
def test_an_existing_cluster_whose_token_is_not_there_is_not_joined(
    data: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token made now is none that the cluster knows: said in one line, before anything is started."""
    monkeypatch.setenv(TOKEN_PATH, named)

    with pytest.raises(Misconfigured, match=f"there is no token for the Ray cluster at {EXISTING}"):
        use_token(data, existing=EXISTING)

    assert not data.exists()


def test_a_token_that_the_shell_itself_says_needs_no_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reads it first."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")

    use_token(data, existing=EXISTING)

    assert (os.environ["RAY_AUTH_MODE"], TOKEN_PATH in os.environ, data.exists()) == ("token", False, False)


def test_a_token_whose_writing_failed_is_made_whole_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty token would be taken for one at every later start, and no head of ours would come up."""
    monkeypatch.setattr(Path, "write_text", _no_room)
    monkeypatch.setattr(os, "fsync", _no_room)
    with pytest.raises(OSError, match="No space left"):
        make_token(tmp_path)
    monkeypatch.undo()
    assert not token_path(tmp_path).exists()

    make_token(tmp_path)

    assert len(token_path(tmp_path).read_text()) == 64


def test_an_empty_token_of_an_earlier_version_is_made_anew(tmp_path: Path) -> None:
    """It touched the file first and wrote it then: a death in between left it empty."""
    path = token_path(tmp_path)
    path.parent.mkdir()
    path.touch()

    make_token(tmp_path)

    assert len(path.read_text()) == 64


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
