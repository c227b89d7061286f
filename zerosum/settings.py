"""What a deployment may set, from the environment (`ZEROSUM_*`) or handed in; defaults from `limits.py`.

Invariant: secrets are never here as text, only as the folder or URL they come from; nothing here is read twice.
"""

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from zerosum import limits
from zerosum.service import Server, Service

PREFIX: Final = "ZEROSUM_"

OTHER_VARIABLES: Final = frozenset(
    {
        "ZEROSUM_PERSON",  # `--as` of the command line
        "ZEROSUM_TOKEN_FILE",  # a person's own token, for the command line
        "ZEROSUM_TEST_COCKROACH_URL",  # tests/contract
        "ZEROSUM_TEST_SEEDS",  # tests/contract
        "ZEROSUM_WORLD_SEEDS",  # tests/world
    }
)
"""Variables of ours that are no settings. A test holds this list to the tree."""

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PORT_MAX: Final = 65_535

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")
_ANY_INTERFACE = "0.0.0.0"  # noqa: S104 - compared with, never bound by itself


class Settings(BaseSettings):
    """One deployment's settings. Every process reads the same ones; `ZEROSUM_<NAME>` in the environment sets each."""

    model_config = SettingsConfigDict(env_prefix="ZEROSUM_", extra="forbid", frozen=True)

    data_dir: Path = Path(".zerosum")
    """Everything that lives: the embedded database, keys, Ray's token, logs, the simulator's book."""
    deployment: str = "local"
    """Names this deployment in shard names and slots: two on one database fence one another, loudly."""

    database_url: str = ""
    """The migrating role's URL; empty = the embedded PostgreSQL of the data folder."""
    payment_database_url: str = ""
    wallet_database_url: str = ""
    ledger_database_url: str = ""
    reconciler_database_url: str = ""
    auditor_database_url: str = ""
    """One role a service. Set by the supervisor for the embedded database."""

    ray_address: str = ""
    """An existing cluster to join; empty = the supervisor starts its own head."""

    bind_host: str = "127.0.0.1"
    """An IPv4 address or the name of a host."""
    metrics_port_offset: int = 100
    """A server's Prometheus port = its own port + this."""
    payment_port: int = 7401
    wallet_port: int = 7402
    ledger_port: int = 7403
    reconciliation_port: int = 7404
    edge_port: int = 7400
    payment_address: str = ""
    wallet_address: str = ""
    ledger_address: str = ""
    reconciliation_address: str = ""
    """Empty: where `bind_host` and the service's port put it on this machine; filled in here."""

    psp_url: str = ""
    """Where Stripe's API is; empty = the real one. The simulator's address in `zerosum up` and the demo."""
    psp_api_key_file: Path | None = None
    psp_webhook_secrets_file: Path | None = None
    """One secret a line; two while rotating. Default: `keys/` in the data folder."""

    checkout_shards: int = Field(default=limits.CHECKOUT_SHARDS, ge=1, le=limits.SLOTS)
    account_shards: int = Field(default=limits.ACCOUNT_SHARDS, ge=1, le=limits.SLOTS)
    ledger_shards: int = Field(default=limits.LEDGER_SHARDS, ge=1, le=limits.SLOTS)
    admission_max: int = Field(default=2_000, ge=1)
    """Callers' calls a server works on at once, half of them one tenant's where others call; more are RESOURCE_EXHAUSTED.

    2,000 = 300/s x ~6 s. Our own processes have as many besides, on-call a few of its own.
    """
    answer_after_ms: int = Field(default=limits.ANSWER_AFTER_MS, ge=100)
    backoff_cap_ms: int = Field(default=limits.BACKOFF_CAP_MS, ge=1)
    effect_lease_ms: int = Field(default=limits.EFFECT_LEASE_MS, ge=100)
    psp_timeout_ms: int = Field(default=limits.PSP_TIMEOUT_MS, ge=100)
    psp_asks_first: bool = False
    """Set after a restore from backup, until reconciliation has covered the lost window: an order's first send is preceded by
    asking the PSP for its reference, and what is found is taken over instead of charged again. One call more an order."""
    in_flight_alert_ms: int = Field(default=60_000, ge=1)
    """Orders older than this and not final raise an alert."""
    settlement_dir: Path | None = None
    """Where settlement files come in (`inbox/<psp>/`) and go (`done/`, `refused/`). None: `settlement/` in the data folder."""
    settlement_file_due_ms: int = Field(default=limits.SETTLEMENT_FILE_DUE_MS, ge=0)
    settlement_line_due_ms: int = Field(default=limits.SETTLEMENT_DUE_AFTER_MS, ge=0)
    reconcile_tick_ms: int = Field(default=limits.RECONCILE_TICK_MS, ge=100)
    reconcile_lease_ms: int = Field(default=limits.RECONCILE_LEASE_MS, ge=100)
    reconcile_inside_every_h: int = Field(default=1, ge=1, le=24)
    """Counted from midnight UTC: every 5 hours is 0, 5, 10, 15, 20, and 0 again."""
    reconcile_catch_up_days: int = Field(default=limits.RECONCILE_CATCH_UP_DAYS, ge=1, le=366)
    case_alert_ms: int = Field(default=limits.CASE_ALERT_MS, ge=1)
    """Cases that are open for longer raise an alert."""
    risk_blocked_buyers_file: Path | None = None
    """The allow-list adapter's file; None = everyone is allowed."""
    log_level: str = "INFO"
    crash_dir: Path | None = None
    """For tests and drills: a folder with orders to die or stand still at named points (`crash.py`). None: never."""

    @property
    def reach_host(self) -> str:
        """The host under which this machine finds its own servers: whoever listens everywhere is on loopback, too."""
        return _reached(self.bind_host)

    def port_of(self, server: Server) -> int:
        """Where it listens."""
        port: int = getattr(self, f"{server}_port")
        return port

    def metrics_url_of(self, server: Server) -> str:
        """Its Prometheus page, as this machine reaches it."""
        return f"http://{self.reach_host}:{self.port_of(server) + self.metrics_port_offset}/metrics"

    def shards_of(self, service: Service) -> int:
        """How many shards serve it."""
        shards: dict[Service, int] = {
            "payment": self.checkout_shards, "wallet": self.account_shards, "ledger": self.ledger_shards, "reconciliation": 1,
        }  # fmt: skip
        return shards[service]

    @field_validator("bind_host")
    @classmethod
    def _is_host(cls, host: str) -> str:
        if not _HOST.fullmatch(host) or (_DIGITS_AND_DOTS.fullmatch(host) and not _is_ipv4(host)):
            raise PydanticCustomError("host", "it must be an IPv4 address or the name of a host")
        return host

    @field_validator("payment_port", "wallet_port", "ledger_port", "reconciliation_port", "edge_port")
    @classmethod
    def _has_room(cls, port: int, info: ValidationInfo) -> int:
        """The port and the one of its metrics are ports."""
        offset: int = info.data.get("metrics_port_offset", 0)  # one that is no number is told by itself
        if not 1 <= port <= PORT_MAX:
            raise PydanticCustomError("port", "it must be a port from 1 to 65535")
        if not 1 <= port + offset <= PORT_MAX:
            told = "with ZEROSUM_METRICS_PORT_OFFSET, {offset}, its metrics must have a port from 1 to 65535"
            raise PydanticCustomError("port", told, {"offset": offset})
        return port

    @field_validator("payment_address", "wallet_address", "ledger_address", "reconciliation_address")
    @classmethod
    def _is_where_it_serves(cls, address: str, info: ValidationInfo) -> str:
        host, port = (info.data.get(name) for name in ("bind_host", f"{info.field_name}".replace("_address", "_port")))
        return address or f"{_reached(str(host))}:{port}"

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, level: str) -> str:
        if level.upper() not in LOG_LEVELS:
            raise PydanticCustomError(
                "level", "there is no such level; there are {levels}", {"levels": ", ".join(LOG_LEVELS)}
            )
        return level.upper()


def environment_with(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child that is to have exactly these settings: of all others of our variables it has none.

    A setting that is None has no variable, and neither has what the shell says of it.
    """
    values = json.loads(settings.model_dump_json(exclude_none=True))
    others = {name: value for name, value in environment.items() if not name.upper().startswith(PREFIX)}
    return others | {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable that is named as if it were ours and is read by nobody: its name and the nearest one of ours.

    Its value is never told: it may be a password. Names count in any case, as they do where settings are read.
    """
    known = sorted(
        {name.upper() for name in Settings.model_fields} | {one.removeprefix(PREFIX) for one in OTHER_VARIABLES}
    )
    for name in sorted(environment):
        rest = name.upper().removeprefix(PREFIX)
        if name.upper().startswith(PREFIX) and rest not in known:
            near = get_close_matches(rest, known, n=1)
            yield f"{name} is no setting" + (f": did you mean {PREFIX}{near[0]}?" if near else "")


def _reached(bind_host: str) -> str:
    return "127.0.0.1" if bind_host == _ANY_INTERFACE else bind_host


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True
