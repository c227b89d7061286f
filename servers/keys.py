"""The keys of a development deployment: `zerosum keys` makes what is missing in `<data_dir>/keys/` and keeps the rest.

    jwt_private.pem      signs tokens                          jwt_public/dev.pem    verifies them
    token_<name>.jwt     one per role of the tenant "demo", one per process of the house (payment, edge, reconciler), and two
                         people of the house's finance (ada, ben), so that one can propose and another approve
    psp_api_key          the simulator's API key               psp_webhook_secrets   one a line
    psp_admin_token      opens the simulator's admin API

In production the folder comes from elsewhere: `jwt_public/` with the issuer's keys, and the tokens of the house.

Invariant: every file is readable by its owner only, complete or absent, and never changed once it is there; tokens alone
are made anew when half of their life is over.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from servers.auth import Issuer
from servers.call import HOUSE, Caller, Role
from zerosum.domain.identity import Tenant
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.whole_file import write_whole

DEMO_TENANT = Tenant("demo")
KID = "dev"
TOKEN_LIFE_S = 365 * 24 * 3_600
"""A year: development tokens are made anew at half of it, by every `zerosum keys` and `zerosum up`."""
HOUSE_PROCESSES = ("payment", "edge", "reconciler")
HOUSE_FINANCE = ("ada", "ben")


def public_keys_folder(data_dir: Path) -> Path:
    """Where the keys are that verify tokens."""
    return data_dir / "keys" / "jwt_public"


def make_keys(data_dir: Path, now: Callable[[], float] = time.time) -> None:
    """Makes every key and token that is missing. A second call changes nothing."""
    public_keys_folder(data_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = data_dir / "keys"
    folder.chmod(0o700)
    private = folder / "jwt_private.pem"
    if not private.exists():
        write_whole(private, _private_pem().decode("ascii"))
    public = public_keys_folder(data_dir) / f"{KID}.pem"
    if not public.exists():
        write_whole(public, _public_pem(private.read_bytes()).decode("ascii"))
    for name, text in (
        ("psp_api_key", f"sk_test_{secrets.token_hex(24)}"),
        ("psp_webhook_secrets", f"whsec_{secrets.token_hex(24)}\n"),
        ("psp_admin_token", secrets.token_urlsafe(24)),
    ):
        if not (folder / name).exists():
            write_whole(folder / name, text)
    _make_tokens(data_dir, int(now()))


def _make_tokens(data_dir: Path, now_s: int) -> None:
    issuer = issuer_of(data_dir)
    callers = {str(role): Caller(DEMO_TENANT, role, f"demo-{role}") for role in Role}
    callers |= {name: Caller(HOUSE, Role.SERVICE, name) for name in HOUSE_PROCESSES}
    callers |= {f"finance_{name}": Caller(HOUSE, Role.FINANCE, name) for name in HOUSE_FINANCE}
    for name, caller in callers.items():
        path = token_path(data_dir, name)
        if not path.exists() or _rest_s(path, now_s) < TOKEN_LIFE_S // 2:
            write_whole(path, issuer.token(caller, expires_at_s=now_s + TOKEN_LIFE_S))


def read_key(data_dir: Path, name: str) -> str:
    """The text of a key file. Raises Misconfigured where it is missing."""
    try:
        return (data_dir / "keys" / name).read_text(encoding="ascii").strip()
    except OSError as error:
        raise Misconfigured(f"no {name} in {data_dir / 'keys'}: run `zerosum keys`") from error


def webhook_secrets(settings: Settings) -> tuple[tuple[str, str], ...]:
    """(name, secret) of every webhook secret, two while rotating. Raises Misconfigured where there is none."""
    path = settings.psp_webhook_secrets_file
    text = path.read_text(encoding="ascii") if path else read_key(settings.data_dir, "psp_webhook_secrets")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise Misconfigured("no webhook secret: nothing a PSP sends could be believed")
    return tuple((f"secret-{number}", line) for number, line in enumerate(lines, 1))


def issuer_of(data_dir: Path) -> Issuer:
    """What signs tokens here. Raises Misconfigured where no private key is kept, as in production."""
    path = data_dir / "keys" / "jwt_private.pem"
    if not path.exists():
        told = "run `zerosum keys`, or ask your issuer for a token and put its file into ZEROSUM_TOKEN_FILE"
        raise Misconfigured(f"no {path.name} in {path.parent}: {told}")
    return Issuer(path.read_bytes(), KID)


def token_path(data_dir: Path, name: str) -> Path:
    """The file of a token: by role, or by process of the house."""
    return data_dir / "keys" / f"token_{name}.jwt"


def token_provider(data_dir: Path, name: str) -> Callable[[], str]:
    """Brings the token of that name, read again when its file was replaced. Raises Misconfigured where it is missing."""
    path = token_path(data_dir, name)
    known: tuple[int, str] = (0, "")

    def token() -> str:
        nonlocal known
        try:
            changed_at_ns = path.stat().st_mtime_ns
            if changed_at_ns != known[0]:
                known = (changed_at_ns, path.read_text(encoding="ascii").strip())
        except OSError as error:
            raise Misconfigured(f"no {path.name}: run `zerosum keys`") from error
        return known[1]

    return token


def _rest_s(path: Path, now_s: int) -> int:
    try:
        claims = jwt.decode(path.read_text(encoding="ascii").strip(), options={"verify_signature": False})
        return int(claims["exp"]) - now_s
    except (jwt.PyJWTError, KeyError, ValueError):
        return 0


def _private_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_pem(private_pem: bytes) -> bytes:
    public = load_pem_private_key(private_pem, password=None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
