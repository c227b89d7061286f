"""The servers there are, by name. Every list of them is made from these two.

Invariant: a server's settings are named after it: `<server>_port`, `<service>_address`.
"""

from typing import Final, Literal, get_args

Service = Literal["payment", "wallet", "ledger", "reconciliation"]
SERVICES: Final[tuple[Service, ...]] = get_args(Service)
"""Those that join Ray, each with shards of its own."""

Server = Literal["payment", "wallet", "ledger", "reconciliation", "edge"]
SERVERS: Final[tuple[Server, ...]] = get_args(Server)
"""All that listen: a port each, and one for its metrics."""
