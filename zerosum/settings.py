"""What a deployment may set, from the environment (`ZEROSUM_*`) or handed in; defaults from `limits.py`.

Invariant: secrets are never here as text, only as the folder or URL they come from; nothing here is read twice.
"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from zerosum import limits


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
    payment_port: int = 7401
    wallet_port: int = 7402
    ledger_port: int = 7403
    reconciliation_port: int = 7404
    edge_port: int = 7400
    metrics_port_offset: int = 100
    """A server's Prometheus port = its own port + this."""
    payment_address: str = "127.0.0.1:7401"
    wallet_address: str = "127.0.0.1:7402"
    ledger_address: str = "127.0.0.1:7403"
    reconciliation_address: str = "127.0.0.1:7404"

    psp_url: str = ""
    """Where Stripe's API is; empty = the real one. The simulator's address in `zerosum up` and the demo."""
    psp_api_key_file: Path | None = None
    psp_webhook_secrets_file: Path | None = None
    """One secret a line; two while rotating. Default: `keys/` in the data folder."""

    checkout_shards: int = Field(default=limits.CHECKOUT_SHARDS, ge=1, le=limits.SLOTS)
    account_shards: int = Field(default=limits.ACCOUNT_SHARDS, ge=1, le=limits.SLOTS)
    ledger_shards: int = Field(default=limits.LEDGER_SHARDS, ge=1, le=limits.SLOTS)
    admission_max: int = Field(default=2_000, ge=1)
    """Calls a server works on at once; more are RESOURCE_EXHAUSTED. 2,000 = 300/s x ~6 s."""
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
