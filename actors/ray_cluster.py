"""Joining a Ray cluster: always an explicit address, always with token authentication.

Invariant: `RAY_AUTH_MODE=token` stands in the environment before ray is imported; this module refuses to join without.
"""

import os
import secrets
import socket
import time
from pathlib import Path

from zerosum.errors import Misconfigured, Unavailable

PROBE_TIMEOUT_S = 2.0
JOIN_PATIENCE_S = 10.0
PROBE_EVERY_S = 0.2
"""A head that starts takes 6 to 10 s to listen. Waiting for it costs nothing; starting this process again costs 2 s of CPU."""


def join(address: str, deployment: str) -> None:
    """Connects this process to the cluster at `address` ("host:port"), in the deployment's namespace.

    Raises Misconfigured without token authentication, Unavailable where nobody listens within 10 s (a joiner facing a
    dead head would block for about 40 s, so the port is probed first) or the cluster refuses.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise Misconfigured("RAY_AUTH_MODE must be 'token': without it whoever reaches Ray's ports runs code")
    _await_head(address)
    import ray

    try:
        ray.init(address=address, namespace=namespace(deployment), log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError) as failure:
        raise Unavailable(f"cannot join Ray at {address}: {failure}") from failure


def _await_head(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise Misconfigured(f"not the address of a Ray head, host:port: {address!r}")
    end_s = time.monotonic() + JOIN_PATIENCE_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=PROBE_TIMEOUT_S).close()
        except OSError as failure:
            if time.monotonic() > end_s:
                raise Unavailable(f"no Ray head answers at {address}") from failure
            time.sleep(PROBE_EVERY_S)  # nothing else runs in this process yet
        else:
            return


def namespace(deployment: str) -> str:
    """Two deployments on one cluster do not see each other's shards."""
    return f"zerosum-{deployment}"


def use_token(data_dir: Path) -> None:
    """Puts token authentication into this process's environment. Call before anything imports ray."""
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(data_dir / "keys" / "ray.token")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray spells it so
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def make_token(data_dir: Path) -> None:
    """Makes the cluster's token where there is none: readable by its owner only, never in a command line."""
    path = data_dir / "keys" / "ray.token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
