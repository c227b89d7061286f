"""What the supervisor hands on to those it starts, and what it tells of them. Nothing is started."""

import os
from pathlib import Path

import pytest

from servers.child import Child
from servers.supervisor import Simulated, System, run_until_signal
from zerosum.errors import Bug
from zerosum.settings import Settings, environment_with


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell that says more than the system's settings do, in both cases; the file it names."""
    key = tmp_path / "sk_live"
    monkeypatch.setenv("ZEROSUM_PSP_API_KEY_FILE", str(key))
    monkeypatch.setenv("zerosum_psp_webhook_secrets_file", str(key))
    monkeypatch.setenv("ZEROSUM_EDGE_PORT", "9000")
    monkeypatch.setenv("ZEROSUM_PERSON", "ada")
    return key


def _as_a_child_reads_it(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("simulated", [Simulated(), None])
def test_a_child_reads_exactly_the_settings_of_its_supervisor(
    tmp_path: Path, shell: Path, simulated: Simulated | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is none there is none here, whatever the shell says: it would be another PSP's key, another house's database."""
    given = Settings(
        data_dir=tmp_path, database_url="postgresql://nowhere", psp_api_key_file=None, psp_webhook_secrets_file=None,
        edge_port=7_400, psp_asks_first=True,
    )  # fmt: skip
    system = System(given, simulated)

    environment = system.environment()

    assert _as_a_child_reads_it(environment, monkeypatch) == system.settings
    assert str(shell) not in environment.values()


def test_beside_the_simulator_its_own_key_is_used_and_never_that_of_a_real_psp(tmp_path: Path, shell: Path) -> None:
    """The simulator knows the key in the data folder alone: with another one every charge is refused."""
    system = System(Settings(data_dir=tmp_path, database_url="postgresql://nowhere"), Simulated())

    assert (system.settings.psp_api_key_file, system.settings.psp_webhook_secrets_file) == (None, None)
    assert str(shell) not in system.environment().values()


def test_without_the_simulator_the_key_that_is_set_is_used(tmp_path: Path, shell: Path) -> None:
    """Verifies the test above."""
    system = System(Settings(data_dir=tmp_path, database_url="postgresql://nowhere"), None)

    assert system.environment()["ZEROSUM_PSP_API_KEY_FILE"] == str(shell)


def test_a_childs_environment_keeps_what_is_not_ours(tmp_path: Path) -> None:
    """Paths, locale, Ray's variables."""
    shell = {"PATH": "/bin", "RAY_AUTH_MODE": "token", "ZEROSUM_PERSON": "ada"}

    environment = environment_with(Settings(data_dir=tmp_path), shell)

    assert environment.items() >= {"PATH": "/bin", "RAY_AUTH_MODE": "token", "ZEROSUM_DATA_DIR": str(tmp_path)}.items()
    assert "ZEROSUM_PERSON" not in environment


class Unwatched(System):
    """A system that is up, of which one child's supervision meets what cannot happen."""

    has_stopped = False

    async def start(self) -> None:
        """Starts a child that ends at once."""

        def odd(_: str, code: int) -> None:
            raise ValueError(f"no child ends with {code}")

        child = Child("edge", ["true"], env={}, log=self._data / "log", on_exit=odd, on_lost=self._lose)
        await child.start()

    async def stop(self) -> None:
        """Nothing runs."""
        self.has_stopped = True


async def test_a_supervisor_that_cannot_watch_a_child_any_more_stops_everything_and_says_why(tmp_path: Path) -> None:
    """It would only seem to supervise: whoever started it is told by its exit status, and may start it again."""
    system = Unwatched(Settings(data_dir=tmp_path, database_url="postgresql://nowhere"), None)

    with pytest.raises(Bug, match="the supervision of edge failed: ValueError"):
        await run_until_signal(system, lambda: None)

    assert system.has_stopped
