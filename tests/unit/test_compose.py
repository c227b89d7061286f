"""docker-compose.yml is what the Compose specification allows and what our code understands.

No container engine runs here, so this is the proof there is: every name in the file is held against the thing it names.
"""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from jsonschema import Draft201909Validator

from servers.cli import main as zerosum_command
from zerosum.service import SERVERS
from zerosum.settings import Settings
from zerosum.store.engine import database_url
from zerosum.store.role import ROLES

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "zerosum:local"}
ROLE_OF = {"payment": "payment", "wallet": "wallet", "ledger": "ledger", "reconciliation": "reconciler"}
"""Servers that join Ray, and whom each is at the database."""
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def environment(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)
    return Settings()


def commands(service: str) -> Iterator[list[str]]:
    """Each command a service runs, as words; a shell's lines one by one, `exec` and variables taken off."""
    command = SERVICES[service]["command"]
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if words[:2] != ["sh", "-ec"]:
        yield words
        return
    for line in words[2].split("&&"):
        inner = shlex.split(line)
        if inner[0] != "export":
            yield inner[1:] if inner[0] == "exec" else inner


def test_file_is_what_the_compose_specification_allows() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "compose_spec.json").read_text(encoding="utf-8"))
    extensions = {name for name in COMPOSE if name.startswith("x-")}

    errors = Draft201909Validator(schema).iter_errors(COMPOSE)
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []
    assert extensions == {"x-cockroach", "x-zerosum", "x-environment"}


def test_schema_would_see_a_mistake() -> None:
    """Verifies the test above."""
    schema = json.loads((ROOT / "tests" / "data" / "compose_spec.json").read_text(encoding="utf-8"))
    broken = {**COMPOSE, "services": {**SERVICES, "edge": {**SERVICES["edge"], "comand": ["zerosum"]}}}

    assert not Draft201909Validator(schema).is_valid(broken)


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_setting_exists_and_is_accepted(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name for name in environment(service) if name.startswith("ZEROSUM_")}
    known = {f"ZEROSUM_{name.upper()}" for name in Settings.model_fields}

    assert given - known == set()
    assert settings_of(service, monkeypatch).deployment == "compose"


@pytest.mark.parametrize(("service", "role"), ROLE_OF.items())
def test_every_server_logs_in_as_its_own_role_and_no_other(
    service: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(service, monkeypatch)
    urls = {name: url for name in ROLES if (url := getattr(settings, f"{name}_database_url"))}

    assert list(urls) == [role]
    assert settings.database_url == ""
    assert database_url(urls[role]).username == role
    assert database_url(urls[role]).query["sslmode"] == "verify-full"


def test_addresses_are_those_of_services_and_their_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("edge", monkeypatch)
    serving = {service: getattr(settings, f"{service}_port") for service in ROLE_OF}

    assert {service: getattr(settings, f"{service}_address") for service in serving} == {
        service: f"{service}:{port}" for service, port in serving.items()
    }
    assert settings.ray_address == "ray-head:6379"
    assert "--port=6379" in next(commands("ray-head"))
    simulator = list(commands("simulator"))[-1]
    assert settings.psp_url == f"http://simulator:{simulator[simulator.index('--port') + 1]}"
    webhook = f"http://edge:{settings.edge_port}/v1/webhooks/stripe"
    assert simulator[simulator.index("--webhook-url") + 1] == webhook


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_command_is_one_that_the_image_knows(service: str) -> None:
    known: dict[str, Any] = typer.main.get_command(zerosum_command).commands  # type: ignore[attr-defined]  # a group
    for words in commands(service):
        match words:
            case ["zerosum", "serve", name]:
                assert name in SERVERS
            case ["zerosum", name]:
                assert name in known
            case ["python", "-m", module, *_]:
                assert find_spec(module) is not None
            case _:
                assert words[:2] == ["ray", "start"]


def test_services_that_join_ray_start_a_node_first() -> None:
    """A process joins a cluster through a node on its own machine, which is its own container here."""
    for service in ROLE_OF:
        first, second = commands(service)
        assert first[:3] == ["ray", "start", "--address=ray-head:6379"]
        assert second == ["zerosum", "serve", service]


def test_everybody_who_talks_to_ray_has_its_token() -> None:
    """Without it whoever reaches Ray's ports runs code."""
    for service in ("ray-head", "ray-worker", *ROLE_OF):
        assert environment(service)["RAY_AUTH_MODE"] == "token"
        assert environment(service)["RAY_AUTH_TOKEN_PATH"] == "/var/lib/zerosum/keys/ray.token"


def test_dependencies_exist_and_their_conditions_can_be_met() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, name
            match how["condition"]:
                case "service_healthy":
                    assert "healthcheck" in SERVICES[needed], (name, needed)
                case "service_completed_successfully":
                    assert SERVICES[needed]["restart"] == "no", (name, needed)


def test_volumes_are_declared_and_the_authoritys_key_is_seen_by_one_job() -> None:
    mounted = {
        name: [volume.split(":")[0] for volume in service.get("volumes", [])] for name, service in SERVICES.items()
    }

    assert {volume for volumes in mounted.values() for volume in volumes} == set(COMPOSE["volumes"])
    assert [name for name, volumes in mounted.items() if "certificate-authority" in volumes] == ["certificates"]
    holders = {name for name, volumes in mounted.items() if "admin-certificates" in volumes}
    assert holders == {"certificates", "crdb-init", "migrate"}


def test_no_secret_stands_in_the_file() -> None:
    """Keys are made by jobs and read from files; ports open on loopback only."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8") + DOCKERFILE
    secret = re.compile(
        r"sk_(?:test|live)_|whsec_|eyJ|BEGIN [A-Z ]*PRIVATE|://[^\s/@:]+:[^\s/@]+@|password\s*[:=]", re.I
    )

    assert secret.findall(text) == []
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_image_holds_every_package_and_runs_as_nobody_in_particular() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")

    assert copied == {package.split(".")[0] for package in packages}
    assert [name for name in copied if f"!{name}\n" not in ignored] == []
    assert re.search(r"^FROM python:3\.11-slim$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["zerosum"]
    assert "--constraint requirements.lock" in DOCKERFILE
    assert "chown -R 10001:10001" in SERVICES["certificates"]["command"][0]
    assert "--uid 10001" in DOCKERFILE
