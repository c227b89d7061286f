"""Who calls: bearer tokens (JWT) verified by one fixed algorithm, EdDSA, against public keys of our own folder.

A token says iss, aud, exp, sub, tenant and role; its header's `kid` picks a key that was loaded at the start by name, and
nothing else of the header is believed (no alg of the caller's choice, no jku, no jwk, no path). Source: failures.md
security points 1 and 3.

Invariant: a Caller comes out of here only for a token that is signed, addressed to us and not expired.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from servers.call import Caller, Role
from servers.status import Problem, Rejected
from zerosum.domain.identity import Tenant
from zerosum.errors import Misconfigured
from zerosum.limits import ID_LENGTH_MAX

ALGORITHM = "EdDSA"
ISSUER = "zerosum"
AUDIENCE = "zerosum"
SKEW_S = 30
"""How far another machine's clock may be ahead or behind when a token expires."""
TOKEN_LENGTH_MAX = 4_096
"""A token of ours is about 350 characters; longer ones are not even decoded."""
KNOWN_MAX = 1_024
"""Verified tokens remembered: a signature costs ~280 us, a look-up 1 us. 1,024 x ~1 KB = 1 MB."""
_CLAIMS = ["iss", "aud", "exp", "sub", "tenant", "role"]
_ROLES = {str(role): role for role in Role}

PublicKeys = Mapping[str, Ed25519PublicKey]


class Verifier:
    """Turns tokens into callers. `now`: seconds since the epoch."""

    def __init__(self, keys: PublicKeys, now: Callable[[], float] = time.time) -> None:
        self._keys = dict(keys)
        self._now = now
        self._known: dict[str, tuple[Caller, float]] = {}

    def caller_of(self, authorization: str) -> Caller:
        """The caller an `authorization` header names. Raises Rejected UNAUTHENTICATED, without telling why."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_LENGTH_MAX:
            raise _unauthenticated("no bearer token")
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[token] = known
        caller, expires_at = known
        if self._now() >= expires_at + SKEW_S:
            self._known.pop(token, None)
            raise _unauthenticated("expired")
        return caller

    def _verify(self, token: str) -> tuple[Caller, float]:
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            # the expiry is held against our own clock by the caller of this method, at every call and not only at the first
            options = jwt.types.Options(require=_CLAIMS, verify_exp=False, verify_iat=False, verify_nbf=False)
            claims = jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=options)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise _unauthenticated(type(error).__name__) from error
        if "nbf" in claims and self._now() + SKEW_S < _instant(claims, "nbf"):
            raise _unauthenticated("not valid yet")
        return _caller(claims), _instant(claims, "exp")


def _caller(claims: Mapping[str, object]) -> Caller:
    tenant, subject, role = claims["tenant"], claims["sub"], _ROLES.get(str(claims["role"]))
    for text in (tenant, subject):
        if not _is_name(text):
            raise _unauthenticated("a claim is not a name")
    if role is None:
        raise _unauthenticated("an unknown role")
    return Caller(Tenant(str(tenant)), role, str(subject))


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= ID_LENGTH_MAX and text.isascii()


def _instant(claims: Mapping[str, object], name: str) -> float:
    instant = claims[name]
    if isinstance(instant, bool) or not isinstance(instant, int):
        raise _unauthenticated(f"{name} is not an instant")
    return float(instant)


def _unauthenticated(inner: str) -> Rejected:
    return Rejected(Problem("UNAUTHENTICATED", inner=inner))


def load_public_keys(folder: Path) -> PublicKeys:
    """The keys that may have signed a token: `<kid>.pem` each. Raises Misconfigured where there is none or one is odd."""
    keys: dict[str, Ed25519PublicKey] = {}
    for path in sorted(folder.glob("*.pem")):
        try:
            key = load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise Misconfigured(f"{path.name} is not a public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise Misconfigured(f"{path.name} is not an Ed25519 key")
        keys[path.stem] = key
    if not keys:
        raise Misconfigured(f"no public keys in {folder}: run `zerosum keys`, or put those of your issuer there")
    return keys


class Issuer:
    """Signs tokens: for development, and for our own processes."""

    def __init__(self, private_pem: bytes, kid: str) -> None:
        key = load_pem_private_key(private_pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise Misconfigured("the token key is not an Ed25519 key")
        self._key = key
        self._kid = kid

    def token(self, caller: Caller, *, expires_at_s: int) -> str:
        """A token for this caller until that second. Raises Misconfigured for a name that no server takes."""
        for what, name in (("tenant", caller.tenant), ("subject", caller.subject)):
            if not _is_name(name):
                raise Misconfigured(f"{what}: a name has 1 to {ID_LENGTH_MAX} ASCII characters; {name!r} is none")
        claims: dict[str, str | int] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": expires_at_s,
            "sub": caller.subject,
            "tenant": caller.tenant,
            "role": caller.role,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._kid})


def bearer_of(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The `authorization` header, "" where there is none or more than one."""
    found = [value for key, value in metadata if key == "authorization"]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else ""
