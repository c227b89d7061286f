"""A server process from start to end, the commands of the CLI, and the webhook dialect behind its door."""

import asyncio
import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from actors.answer import Applied
from servers.child import free_ports
from servers.cli import main as cli
from servers.keys import make_keys, token_path
from servers.main import Served, serve_grpc
from servers.metric import Metrics
from servers.oncall import OperatorServicer
from servers.wallet import WalletServicer
from servers.webhook import Ignored, Incoming, stripe_reader
from tests.integration.server_process import SETTINGS
from tests.unit.server_fakes import FakePaymentReader, FakeShards, FakeWalletReader, checkout, dead_todo
from zerosum.domain.identity import EntityKey, Tenant
from zerosum.domain.refusal import Refusal
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.v1 import wallet_pb2
from zerosum.v1.payment_pb2_grpc import add_OperatorServiceServicer_to_server
from zerosum.v1.wallet_pb2_grpc import WalletServiceStub, add_WalletServiceServicer_to_server

DEMO = Tenant("demo")


def _settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, metrics_port_offset=0, admission_max=10)


async def test_server_serves_counts_drains_and_closes_in_order(tmp_path: Path) -> None:
    """serve_grpc: everything a server process needs but its servicers; keys from the data folder."""
    make_keys(tmp_path)
    settings, stop, closed = Settings(data_dir=tmp_path), asyncio.Event(), []
    port = free_ports(1, settings.metrics_port_offset)
    metrics_port = port + settings.metrics_port_offset

    async def close(name: str) -> None:
        closed.append(name)

    served = Served(
        "zerosum.v1.WalletService",
        partial(add_WalletServiceServicer_to_server, WalletServicer(FakeShards(), FakeWalletReader())),
    )
    running = asyncio.ensure_future(
        serve_grpc(
            settings, "wallet", [served], port=port, metrics=Metrics(), stop=stop,
            closers=[partial(close, "shards"), partial(close, "readers")],
        )
    )  # fmt: skip
    metadata = (("authorization", f"Bearer {token_path(tmp_path, 'finance').read_text()}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        asked = wallet_pb2.GetWalletRequest(owner="seller-1", currency="USD")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await WalletServiceStub(channel).GetWallet(asked, metadata=metadata, wait_for_ready=True)
    told = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}").read())
    stop.set()
    await running

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert b'zerosum_grpc_calls_total{code="NOT_FOUND",method="/zerosum.v1.WalletService/GetWallet"} 1.0' in told
    assert closed == ["shards", "readers"]


async def test_server_without_keys_does_not_start_and_still_closes(tmp_path: Path) -> None:
    """Misconfigured before anything is served."""
    closed = []

    async def close() -> None:
        closed.append("shards")

    with pytest.raises(Misconfigured):
        await serve_grpc(_settings(tmp_path), "wallet", [], port=0, metrics=Metrics(), closers=[close])

    assert closed == ["shards"]


async def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """Two servers on one port must not share it silently."""
    make_keys(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Misconfigured):
            await serve_grpc(_settings(tmp_path), "wallet", [], port=taken.getsockname()[1], metrics=Metrics())


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_help_of_every_command_names_it() -> None:
    """Nothing heavy is imported for it: `zerosum --help` is there at once."""
    shown = CliRunner().invoke(cli, ["--help"]).output
    imported = subprocess.run(
        [sys.executable, "-c", "import servers.cli, sys; print('\\n'.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    names = {"serve", "up", "migrate", "keys", "token", "todo", "in-flight", "demo", "load", "audit"}
    assert names <= set(shown.split())
    assert not {"ray", "grpc", "sqlalchemy", "fastapi", "pydantic", "locust", "stripe"} & set(imported)


def test_keys_and_token_work_together(tmp_path: Path) -> None:
    """`zerosum keys`, then `zerosum token`."""
    made = CliRunner().invoke(cli, ["keys", "--data-dir", str(tmp_path)])
    token = CliRunner().invoke(cli, ["token", "--role", "admin", "--tenant", "acme", "--data-dir", str(tmp_path)])

    assert (made.exit_code, token.exit_code) == (0, 0)
    assert token.output.count(".") == 2


@pytest.mark.parametrize(
    "command", [["token"], ["token", "--role", "root"], ["todo", "list"], ["migrate"], ["serve", "edge"]]
)
def test_misconfigured_command_says_why_in_one_line(command: list[str], tmp_path: Path) -> None:
    """Status 2, no traceback."""
    shown = CliRunner().invoke(cli, [*command, "--data-dir", str(tmp_path)])

    assert shown.exit_code == 2
    assert shown.stderr.startswith("zerosum: ")
    assert len(shown.stderr.splitlines()) == 1


async def test_dead_letters_are_listed_shown_and_replayed_from_the_command_line(tmp_path: Path) -> None:
    """`zerosum todo list|show|replay` over gRPC with an admin token."""
    make_keys(tmp_path)
    shards = FakeShards(Applied(is_replay=False))
    reader = FakePaymentReader(checkout(tenant=DEMO), todos=[dead_todo(DEMO)])
    operator = OperatorServicer(shards=shards, reader=reader, settings=SETTINGS)
    settings, stop = Settings(data_dir=tmp_path), asyncio.Event()
    port = free_ports(1, settings.metrics_port_offset)
    served = Served("zerosum.v1.OperatorService", partial(add_OperatorServiceServicer_to_server, operator))
    running = asyncio.ensure_future(serve_grpc(settings, "payment", [served], port=port, metrics=Metrics(), stop=stop))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
    ids = ["co-1", "confirm/1/po-0"]
    commands = (["list", "--json"], ["list"], ["show", *ids, "--json"], ["replay", *ids, "--key", "act-1", "--json"])
    environment = {"ZEROSUM_PAYMENT_ADDRESS": f"127.0.0.1:{port}", "ZEROSUM_DATA_DIR": str(tmp_path), "COLUMNS": "200"}
    shown = [
        await asyncio.to_thread(CliRunner().invoke, cli, ["todo", *command], env=environment) for command in commands
    ]
    missing = await asyncio.to_thread(
        CliRunner().invoke, cli, ["todo", "show", "co-2", "confirm/1/po-0"], env=environment
    )
    stop.set()
    await running

    assert [one.exit_code for one in shown] == [0, 0, 0, 0]
    assert json.loads(shown[0].output)[0]["state"] == "DEAD"
    assert "confirm/1/po-0" in shown[1].output
    assert json.loads(shown[2].output)[0]["request"] == '{"object_id":"pi_1"}'
    assert [one.body.key for one in shards.submitted] == ["act-1"]
    assert (missing.exit_code, missing.stderr.split(":")[1].strip()) == (1, "UNKNOWN_ID")


@pytest.mark.slow
def test_edge_serves_and_ends_on_a_signal(tmp_path: Path) -> None:
    """`zerosum serve edge` in a process of its own: up, healthy, gone within its drain after SIGTERM."""
    make_keys(tmp_path)
    port = free_ports(1, Settings().metrics_port_offset)
    environment = {"PATH": "", "ZEROSUM_DATA_DIR": str(tmp_path), "ZEROSUM_EDGE_PORT": str(port)}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "servers.cli", "serve", "edge"]
    with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True) as edge:
        assert edge.stderr is not None
        try:
            first = edge.stderr.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                healthy = answer.read()
        finally:
            edge.send_signal(signal.SIGTERM)
        lines = [first, *edge.communicate(timeout=20)[1].splitlines()]

    assert healthy == b'{"status":"ok"}'
    assert [json.loads(line)["event"] for line in lines] == ["serving", "request_ended"]


# ---- Stripe's dialect behind the door ------------------------------------------------------------------------------

SECRET = "whsec_test"
NOW_S = 1_700_000_000


def _event(kind: str, metadata: dict[str, str]) -> bytes:
    intent = {
        "id": "pi_1", "object": "payment_intent", "amount": 1_250, "amount_received": 1_250, "currency": "usd",
        "status": "succeeded", "metadata": metadata,
    }  # fmt: skip
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"object": intent}}).encode()


def _signed(body: bytes, at_s: int = NOW_S) -> dict[str, str]:
    signature = hmac.new(SECRET.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={at_s},v1={signature}", "content-type": "application/json"}


def test_signed_event_goes_to_the_checkout_it_names() -> None:
    """failures.md S4, I19: with the name of the secret that held."""
    read = stripe_reader((("secret-1", SECRET),), now_s=lambda: NOW_S)
    body = _event("payment_intent.succeeded", {"tenant": "demo", "checkout_id": "co-1", "payment_order_id": "po-0"})
    event = read(body, _signed(body))

    assert isinstance(event, Incoming)
    assert event.entity == EntityKey(DEMO, "co-1")
    assert event.report.delivery is not None
    assert event.report.delivery.verified_with == "secret-1"


def test_event_that_names_no_checkout_is_kept_under_its_own_name() -> None:
    """Unmatched events are recorded too, for people."""
    read = stripe_reader((("secret-1", SECRET),), now_s=lambda: NOW_S)
    body = _event("payment_intent.succeeded", {})
    event = read(body, _signed(body))

    assert isinstance(event, Incoming)
    assert event.entity == EntityKey(Tenant("-"), "evt_1")


def test_event_of_another_type_is_ignored_and_a_bad_signature_refused() -> None:
    """failures.md S7."""
    read = stripe_reader((("secret-1", SECRET),), now_s=lambda: NOW_S)
    body = _event("customer.created", {})

    assert read(body, _signed(body)) == Ignored("customer.created")
    assert isinstance(read(body + b" ", _signed(body)), Refusal)
    assert isinstance(read(body, _signed(body, NOW_S - 301)), Refusal)
