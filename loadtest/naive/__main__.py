"""`python -m loadtest.naive --psp-url URL [--port N]`: the textbook's server as a process, for the bench.

Makes its own database beside ours on the server of NAIVE_ADMIN_URL, and prints where it listens. Ends on SIGTERM or SIGINT.

Invariant: secrets come in the environment (NAIVE_ADMIN_URL, PSP_API_KEY), never in the command line.
"""

import argparse
import asyncio
import os
import signal
import sys

import grpc

from loadtest.naive.database import CONNECTIONS, NaiveDatabase
from loadtest.naive.psp import Executor
from loadtest.naive.server import NaiveServicer
from loadtest.own_database import make_database
from servers.collector import settle
from servers.main import SERVER_OPTIONS


async def serve(options: argparse.Namespace) -> None:
    """Serves until a signal comes; what has begun finishes within 10 s."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    url = make_database(os.environ["NAIVE_ADMIN_URL"], options.database)
    database = NaiveDatabase(url, connections_max=options.connections)
    executor = Executor(os.environ["PSP_API_KEY"], options.psp_url)
    database.make_tables()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    NaiveServicer(database, executor).add_to(server)
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    settle()
    sys.stdout.write(f"naive listening on 127.0.0.1:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop(10)
    await executor.close()
    database.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.naive", description="The textbook flow, for comparison.")
    parser.add_argument("--psp-url", required=True)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the printed line names it")
    parser.add_argument("--database", default="naive", help="its name on the server")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(serve(_options()))
