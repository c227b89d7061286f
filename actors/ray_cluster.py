"""Joining a Ray cluster: always an explicit address, always with token authentication.

`python -m actors.ray_cluster <address> <deployment>` ends a deployment's shards on a cluster that lives on.

Invariant: `RAY_AUTH_MODE=token` stands in the environment before ray is imported; this module refuses to join without.
"""

import contextlib
import os
import secrets
import socket
import sys
import time
from pathlib import Path

from zerosum.errors import Misconfigured, Unavailable, ZerosumError
from zerosum.whole_file import write_whole

TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - the name of a variable
"""Ray's variable: the file that the cluster's token is in."""

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


def end_shards(address: str, deployment: str) -> int:
    """Ends what the deployment has put into the cluster at `address`, for good; how many. Nothing is lost: shards load from the
    database. Whoever serves this deployment still makes them anew at his next call. Raises as `join`."""
    join(address, deployment)
    import ray
    from ray.util import list_named_actors

    ended = 0
    for name in list_named_actors():
        with contextlib.suppress(ValueError):  # it ended meanwhile
            ray.kill(ray.get_actor(name), no_restart=True)
            ended += 1
    ray.shutdown()
    return ended


def use_token(data_dir: Path, *, existing: str = "") -> None:
    """Puts token authentication into this process's environment. Call before anything imports ray.

    A head of our own has the token in the data folder, made where there is none. `existing`: the address of a cluster that was
    there before, "" = none. It has a token already: `RAY_AUTH_TOKEN`, or in the file that `RAY_AUTH_TOKEN_PATH` names (default:
    the data folder's). Raises Misconfigured where that file is not there: one made now would be none that the cluster knows.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray spells it so
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not existing:
        make_token(data_dir)
        os.environ[TOKEN_PATH] = str(token_path(data_dir))
        return
    if os.environ.get("RAY_AUTH_TOKEN"):
        return  # the token itself, which Ray prefers to any file
    path = Path(os.environ.get(TOKEN_PATH) or token_path(data_dir))
    if not path.is_file():
        raise Misconfigured(f"there is no token for the Ray cluster at {existing}: {path} ({TOKEN_PATH}) is no file")
    os.environ[TOKEN_PATH] = str(path)


def token_path(data_dir: Path) -> Path:
    """The token of a head of our own."""
    return data_dir / "keys" / "ray.token"


def make_token(data_dir: Path) -> None:
    """Makes the cluster's token where there is none: readable by its owner only, never in a command line. Raises OSError."""
    path = token_path(data_dir)
    if not path.exists() or not path.stat().st_size:  # an empty one is no token: its writer died, or its disk was full
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, secrets.token_hex(32))


def main(address: str, deployment: str) -> int:
    """See the module. The exit status: 0, or 1 with the reason in one line."""
    try:
        ended = end_shards(address, deployment)
    except ZerosumError as trouble:
        sys.stdout.write(f"zerosum: {trouble}\n")
        return 1
    sys.stdout.write(f"zerosum: {ended} shards of {deployment!r} ended at {address}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
