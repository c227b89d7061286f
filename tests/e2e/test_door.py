"""What a running system keeps shut."""

import grpc
import pytest

from servers.keys import token_path
from tests.e2e.caller import Caller
from tests.e2e.process import listening
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e

RAY_METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"


@pytest.mark.parametrize("name", ["payment", "wallet", "ledger", "reconciliation", "edge", "psp", "database"])
def test_our_own_processes_listen_on_loopback_only(system: RunningSystem, name: str) -> None:
    """Security: nothing of ours is reachable from another machine unless a deployment says so. Ray, in the same processes,
    listens on every interface by its own choice: the next test."""
    offset = system.settings.metrics_port_offset
    services = ("edge", "payment", "wallet", "ledger", "reconciliation")
    doors = [getattr(system.settings, f"{service}_port") for service in services]

    listened = listening(system.pid(name))
    ours = {
        address for address, port in listened if name in ("psp", "database") or port in doors or port - offset in doors
    }

    assert listened
    assert ours == {"127.0.0.1"}


def test_ray_refuses_a_call_without_the_clusters_token(system: RunningSystem) -> None:
    """Security: whoever reaches Ray's ports, which are open on every interface, gets nowhere without the token."""
    token = (system.data / "keys" / "ray.token").read_text()
    with grpc.insecure_channel(system.run_file()["ray"]) as channel:
        call = channel.unary_unary(RAY_METHOD)

        with pytest.raises(grpc.RpcError) as stranger:
            call(b"", timeout=5.0)
        with pytest.raises(grpc.RpcError) as guesser:
            call(b"", timeout=5.0, metadata=(("authorization", "Bearer " + "0" * 64),))
        ours = call(b"", timeout=5.0, metadata=(("authorization", f"Bearer {token}"),))

    assert (stranger.value.code(), guesser.value.code()) == (grpc.StatusCode.UNAUTHENTICATED,) * 2
    assert ours != b""


@pytest.mark.parametrize("name", ["wallet", "ledger"])
def test_tenants_may_not_move_money_past_the_payment_service(system: RunningSystem, caller: Caller, name: str) -> None:
    """C3, security: wallet and ledger take postings from the payment service and the reconciler only, and ask for a token."""
    method = {
        "wallet": "/zerosum.v1.WalletService/ApplyTransfers", "ledger": "/zerosum.v1.LedgerService/PostJournals"
    }[name]  # fmt: skip
    edge = (("authorization", f"Bearer {token_path(system.data, 'edge').read_text()}"),)
    with grpc.insecure_channel(system.run_file()[name]) as channel:
        codes = [_code(channel, method, metadata) for metadata in (caller.metadata(), edge, ())]

    assert codes == ["PERMISSION_DENIED", "PERMISSION_DENIED", "UNAUTHENTICATED"]


def _code(channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...]) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", timeout=5.0, metadata=metadata)
    return str(refused.value.code().name)
