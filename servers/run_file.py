"""`run.json` in the data folder: where everything of a running system listens, and as which process it runs now.

Invariant: the file is whole or not there; whoever reads it is told where it is when it cannot be read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerosum.errors import Misconfigured
from zerosum.service import SERVERS, SERVICES
from zerosum.settings import Settings
from zerosum.whole_file import EVERYBODY_READS, write_whole


def write_run_file(settings: Settings, pids: Mapping[str, int | None]) -> None:
    """Writes it anew. `pids`: by name; None where a process does not run just now. Raises OSError, on a full disk for one."""
    host = settings.reach_host
    run: dict[str, Any] = {
        "edge": f"http://{host}:{settings.edge_port}", "psp": settings.psp_url,
        "metrics": {server: settings.metrics_url_of(server) for server in SERVERS},
        **{service: f"{host}:{settings.port_of(service)}" for service in SERVICES},
        "pids": dict(pids), "ray": settings.ray_address,
    }  # fmt: skip
    write_whole(run_file_of(settings.data_dir), json.dumps(run, indent=2) + "\n", mode=EVERYBODY_READS)


def read_run_file(data_dir: Path) -> dict[str, Any]:
    """Where a running system listens. Raises Misconfigured where none runs on this data folder, or the file cannot be read."""
    path = run_file_of(data_dir)
    try:
        run = json.loads(path.read_bytes())
    except FileNotFoundError as missing:
        raise Misconfigured(f"nothing runs on {data_dir}: start it with `zerosum up`") from missing
    except ValueError as odd:  # JSONDecodeError, UnicodeDecodeError
        raise Misconfigured(_damaged(path)) from odd
    if not isinstance(run, dict) or not {"edge", "psp", "metrics", "pids"} <= run.keys():
        raise Misconfigured(_damaged(path))
    return run


def run_file_of(data_dir: Path) -> Path:
    """Its place in a data folder."""
    return data_dir / "run.json"


def _damaged(path: Path) -> str:
    return f"{path} is damaged: it is no list of what runs; start `zerosum up` anew, which writes it"
