"""Only a signed, addressed and unexpired token names a caller; only the access table lets one in."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from servers.access import ACCESS, rule_of
from servers.auth import SKEW_S, TOKEN_LENGTH_MAX, Issuer, Verifier, bearer_of, load_public_keys
from servers.call import HOUSE, Caller, Role
from servers.keys import (
    HOUSE_FINANCE,
    HOUSE_PROCESSES,
    issuer_of,
    make_keys,
    public_keys_folder,
    token_path,
    token_provider,
    webhook_secrets,
)
from servers.status import Rejected
from tests.unit.server_fakes import ISSUER, NOW_S, PRIVATE_KEY, PRIVATE_PEM, TENANT, token, verifier
from zerosum.domain.identity import Tenant
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.v1 import ledger_pb2, payment_pb2, reconciliation_pb2, wallet_pb2

CLAIMS: dict[str, Any] = {
    "iss": "zerosum", "aud": "zerosum", "exp": NOW_S + 60, "sub": "shop", "tenant": "acme", "role": "service"
}  # fmt: skip


def _signed(claims: dict[str, Any], **header: Any) -> str:
    return jwt.encode(claims, PRIVATE_KEY, algorithm="EdDSA", headers={"kid": "dev"} | header)


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _refused(bad: str, by: Verifier | None = None) -> bool:
    with pytest.raises(Rejected) as caught:
        (by or verifier()).caller_of(f"Bearer {bad}")
    return caught.value.problem.row.code is grpc.StatusCode.UNAUTHENTICATED


def test_good_token_names_tenant_role_and_subject() -> None:
    """Design section 8, "Who calls"."""
    assert verifier().caller_of(f"Bearer {_signed(CLAIMS)}") == Caller(TENANT, Role.SERVICE, "shop")


def test_unsigned_token_is_refused() -> None:
    """failures.md security point 3: alg none."""
    assert _refused(jwt.encode(CLAIMS, "", algorithm="none", headers={"kid": "dev"}))
    assert _refused(f"{_part({'alg': 'none', 'kid': 'dev'})}.{_part(CLAIMS)}.")


def test_token_signed_with_the_public_key_as_a_secret_is_refused() -> None:
    """failures.md security point 3: HS256 with the public key."""
    public = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'dev'})}.{_part(CLAIMS)}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()

    assert _refused(f"{signed}.{mac}")


@pytest.mark.parametrize("missing", sorted(CLAIMS))
def test_token_without_a_claim_is_refused(missing: str) -> None:
    """failures.md security point 3: missing exp, aud and the others."""
    assert _refused(_signed({name: value for name, value in CLAIMS.items() if name != missing}))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "other"},
        {"iss": "other"},
        {"exp": NOW_S - SKEW_S},
        {"exp": "soon"},
        {"exp": True},
        {"nbf": NOW_S + SKEW_S + 1},
        {"role": "root"},
        {"role": ["admin"]},
        {"tenant": ""},
        {"tenant": "x" * 65},
        {"tenant": ["acme"]},
        {"sub": "\u0430cme"},
    ],
)
def test_token_with_a_bad_claim_is_refused(changed: dict[str, Any]) -> None:
    """failures.md security points 1 and 3: expired, wrong audience, claims that are not names."""
    assert _refused(_signed(CLAIMS | changed))


@pytest.mark.parametrize("kid", ["../../../etc/passwd", "../dev", "", "other", None, 7, ["dev"]])
def test_kid_only_picks_a_key_that_was_loaded(kid: object) -> None:
    """failures.md security point 3: kid traversal."""
    head, _, rest = _signed(CLAIMS).partition(".")
    header = json.loads(base64.urlsafe_b64decode(head + "==")) | {"kid": kid}

    assert _refused(f"{_part(header)}.{rest}")


def test_key_in_the_header_is_not_believed() -> None:
    """failures.md security point 3: jwk, jku."""
    other = Ed25519PrivateKey.generate()
    raw = base64.urlsafe_b64encode(other.public_key().public_bytes_raw()).rstrip(b"=").decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": raw}
    bad = jwt.encode(CLAIMS, other, algorithm="EdDSA", headers={"kid": "dev", "jwk": jwk, "jku": "http://evil/"})

    assert _refused(bad)


@pytest.mark.parametrize("bad", ["", "x", "a.b", "a.b.c", "\u00e9.\u00e9.\u00e9", "x" * (TOKEN_LENGTH_MAX + 1)])
def test_what_is_no_token_is_refused(bad: str) -> None:
    """Garbage is UNAUTHENTICATED and never an INTERNAL."""
    assert _refused(bad)


def test_known_token_is_refused_once_it_has_expired() -> None:
    """What is remembered about a token is not its validity."""
    now = [float(NOW_S)]
    remembering = Verifier({"dev": PRIVATE_KEY.public_key()}, now=lambda: now[0])
    good = _signed(CLAIMS)
    remembering.caller_of(f"Bearer {good}")
    now[0] = NOW_S + 60 + SKEW_S

    assert _refused(good, remembering)


def test_token_is_good_within_the_clock_skew() -> None:
    """failures.md security point 3: clock skew."""
    assert verifier(NOW_S + 60 + SKEW_S - 1).caller_of(f"Bearer {_signed(CLAIMS)}").subject == "shop"


def test_two_authorization_headers_are_none() -> None:
    """Which of them a proxy meant nobody knows."""
    assert bearer_of((("authorization", "Bearer a"), ("authorization", "Bearer b"))) == ""


# ---- the access table ----------------------------------------------------------------------------------------------


def _every_rpc() -> list[str]:
    modules = (payment_pb2, wallet_pb2, ledger_pb2, reconciliation_pb2, health_pb2, reflection_pb2)
    return [
        f"/{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


@pytest.mark.parametrize("method", _every_rpc())
def test_every_rpc_of_every_service_has_a_row(method: str) -> None:
    """failures.md security point 1: a new RPC without a row fails."""
    assert method in ACCESS


def test_rpc_without_a_row_is_refused_to_everybody() -> None:
    """Default deny."""
    rule = rule_of("/zerosum.v1.PaymentService/StealAll")

    assert not rule.is_public
    assert not any(rule.allows(Caller(tenant, role, "x")) for tenant in (TENANT, HOUSE) for role in Role)


@pytest.mark.parametrize(
    "method", ["/zerosum.v1.WalletService/ApplyTransfers", "/zerosum.v1.LedgerService/PostJournals"]
)
def test_money_is_moved_by_the_payment_process_and_the_reconciler_only(method: str) -> None:
    """Design section 8: wallet and ledger mutations accept processes of the house only: those two."""
    rule = rule_of(method)

    assert rule.allows(Caller(HOUSE, Role.SERVICE, "payment"))
    assert rule.allows(Caller(HOUSE, Role.SERVICE, "reconciler"))
    assert not rule.allows(Caller(HOUSE, Role.SERVICE, "edge"))
    assert not any(rule.allows(Caller(TENANT, role, "payment")) for role in Role)
    assert not any(rule.allows(Caller(HOUSE, role, "payment")) for role in Role if role is not Role.SERVICE)


def test_processes_of_the_house_are_no_tenant() -> None:
    """A house token opens only what names its subject."""
    opened = {method for method, rule in ACCESS.items() if rule.allows(Caller(HOUSE, Role.SERVICE, "edge"))}

    assert opened == {f"/zerosum.v1.PaymentService/ReceiveWebhook{more}" for more in ("", "s")}


def test_the_queue_opens_to_the_houses_finance_and_to_no_tenants() -> None:
    """Files span tenants: a tenant's finance would see another's money. A process of the house is no person."""
    queue = {method for method in ACCESS if method.startswith("/zerosum.v1.ReconciliationService/")}
    own_books = {
        f"/zerosum.v1.LedgerService/{name}" for name in ("GetBalance", "GetJournal", "ListEntries", "TrialBalance")
    }

    for role in Role:
        of_house = {method for method, rule in ACCESS.items() if rule.allows(Caller(HOUSE, role, "ada"))}
        assert of_house == (queue | own_books if role in {Role.FINANCE, Role.ADMIN} else set())
        assert [method for method in queue if ACCESS[method].allows(Caller(TENANT, role, "ada"))] == []


def test_matrix_of_roles_is_as_written() -> None:
    """failures.md security point 1: the matrix, as a table to be read."""
    opened = {
        role: sorted(
            method.rpartition(".")[2] for method, rule in ACCESS.items() if rule.allows(Caller(TENANT, role, "x"))
        )
        for role in Role
    }
    reads = [
        "PaymentService/GetPayment", "PaymentService/GetPaymentOrder", "PaymentService/ListPayments",
        "PaymentService/WatchPayment", "WalletService/GetWallet", "WalletService/ListEntries",
    ]  # fmt: skip
    history = ["PaymentService/GetHistory"]
    books = [f"LedgerService/{name}" for name in ("GetBalance", "GetJournal", "ListEntries", "TrialBalance")]
    refund = "PaymentService/CreateRefund"
    books += [refund, "LedgerService/CloseAccount", "WalletService/CloseAccount"]
    oncall = [f"OperatorService/{name}" for name in ("GetTodo", "ListInFlight", "ListTodos")]

    assert opened == {
        Role.SERVICE: sorted([*reads, "PaymentService/CreatePayment", refund]),
        Role.SUPPORT: sorted([*reads, *history, *oncall]),
        Role.FINANCE: sorted([*reads, *history, *books]),
        Role.ADMIN: sorted([*reads, *history, *books, *oncall, "OperatorService/ReplayTodo"]),
        Role.SELLER: [],
        Role.BUYER: [],
    }


# ---- keys ----------------------------------------------------------------------------------------------------------


def test_made_keys_verify_the_tokens_made_with_them(tmp_path: Path) -> None:
    """`zerosum keys`: a token per role of the demo tenant and per process of the house."""
    make_keys(tmp_path, now=lambda: NOW_S)
    by = Verifier(load_public_keys(public_keys_folder(tmp_path)), now=lambda: NOW_S)

    names = [*map(str, Role), *HOUSE_PROCESSES, *(f"finance_{name}" for name in HOUSE_FINANCE)]
    callers = {name: by.caller_of(f"Bearer {token_path(tmp_path, name).read_text()}") for name in names}

    assert callers["admin"] == Caller(Tenant("demo"), Role.ADMIN, "demo-admin")
    assert callers["payment"] == Caller(HOUSE, Role.SERVICE, "payment")
    assert [callers[f"finance_{name}"] for name in HOUSE_FINANCE] == [
        Caller(HOUSE, Role.FINANCE, "ada"), Caller(HOUSE, Role.FINANCE, "ben"),
    ]  # fmt: skip
    assert {callers[str(role)].role for role in Role} == set(Role)


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    """failures.md security point 11."""
    make_keys(tmp_path, now=lambda: NOW_S)

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").rglob("*") if path.is_file()}

    assert modes == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_making_keys_again_changes_nothing(tmp_path: Path) -> None:
    """Idempotent: what runs keeps working."""
    make_keys(tmp_path, now=lambda: NOW_S)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    make_keys(tmp_path, now=lambda: NOW_S + 3_600)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_old_tokens_are_made_anew_and_taken_up(tmp_path: Path) -> None:
    """A token is replaced at half of its life; who holds a provider gets the new one."""
    make_keys(tmp_path, now=lambda: NOW_S)
    provider = token_provider(tmp_path, "payment")
    first = provider()
    make_keys(tmp_path, now=lambda: NOW_S + 300 * 24 * 3_600)

    assert provider() != first
    assert provider() == token_path(tmp_path, "payment").read_text()


def test_missing_keys_are_told_before_anything_is_served(tmp_path: Path) -> None:
    """errors.py: Misconfigured."""
    for load in (lambda: load_public_keys(tmp_path), lambda: issuer_of(tmp_path), token_provider(tmp_path, "edge")):
        with pytest.raises(Misconfigured):
            load()


def test_every_webhook_secret_of_the_file_counts_while_they_rotate(tmp_path: Path) -> None:
    """failures.md security point 4: two secrets in rotation."""
    make_keys(tmp_path, now=lambda: NOW_S)
    rotating = tmp_path / "secrets"
    rotating.write_text("whsec_new\n\nwhsec_old\n")

    assert len(webhook_secrets(Settings(data_dir=tmp_path))) == 1
    assert webhook_secrets(Settings(data_dir=tmp_path, psp_webhook_secrets_file=rotating)) == (
        ("secret-1", "whsec_new"), ("secret-2", "whsec_old")
    )  # fmt: skip


def test_issuer_signs_for_whom_it_is_told() -> None:
    """The one way tokens are made here."""
    assert ISSUER.token(Caller(TENANT, Role.SERVICE, "shop"), expires_at_s=NOW_S + 3_600) == token()
    assert Issuer(PRIVATE_PEM, "dev").token(Caller(TENANT, Role.ADMIN, "a"), expires_at_s=NOW_S) != token()
