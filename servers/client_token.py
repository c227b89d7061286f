"""In whose name a command calls: the person's own token (`ZEROSUM_TOKEN_FILE`) wherever one is set, else one signed here.

Only a development deployment keeps the key that signs.

Invariant: a token of one's own goes before everything that could be signed, and no error shows anything of it but its tenant.
"""

import getpass
import os
import time
from pathlib import Path

import jwt

from servers.call import HOUSE, Caller, Role
from servers.keys import issuer_of
from zerosum.domain.identity import Tenant
from zerosum.errors import Misconfigured
from zerosum.settings import Settings

_VARIABLE = "ZEROSUM_TOKEN_FILE"
_LIFE_S = 3_900
"""An upload of an hour, and five minutes."""


def finance_token(settings: Settings, person: str, tenant: Tenant = HOUSE) -> str:
    """A token of finance. `person`, `tenant`: of the one signed here; person "" = whoever is logged in. A token of one's own
    says both by itself. Raises Misconfigured where there is neither key nor token.
    """
    return _own_token() or _signed(settings, Caller(tenant, Role.FINANCE, person or _who_is_here()))


def oncall_token(settings: Settings, tenant: str) -> str:
    """A token to act for that tenant. Raises Misconfigured where there is neither key nor token, and where one's own is of
    another tenant: it would act there.
    """
    own = _own_token()
    if not own:
        return _signed(settings, Caller(Tenant(tenant), Role.ADMIN, "cli"))
    theirs = _claims(own).get("tenant")
    if theirs != tenant:
        raise Misconfigured(f"--tenant {tenant}: the token of {_VARIABLE} is of tenant {theirs!r}")
    return own


def _own_token() -> str:
    """The text in the file, "" where none is set. Raises Misconfigured for a file that holds none."""
    path = os.environ.get(_VARIABLE, "")
    if not path:
        return ""
    try:
        own = Path(path).read_text(encoding="ascii").strip()
        _claims(own)
    except OSError as error:
        raise Misconfigured(f"{_VARIABLE} cannot be read: {error.strerror}") from error
    except (jwt.PyJWTError, ValueError):  # ValueError: not ASCII; both may quote what is there
        raise Misconfigured(f"{_VARIABLE}: the file holds no token") from None
    return own


def _claims(own: str) -> dict[str, object]:
    """What it says of itself. Whether that is so the server judges."""
    return dict(jwt.decode(own, options={"verify_signature": False}))


def _signed(settings: Settings, caller: Caller) -> str:
    return issuer_of(settings.data_dir).token(caller, expires_at_s=int(time.time()) + _LIFE_S)


def _who_is_here() -> str:
    """Who is logged in. Raises Misconfigured where this machine has no name for the account, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as nameless:  # OSError: as of Python 3.13
        raise Misconfigured(
            "--as: this account has no name here; say in whose name, or set ZEROSUM_PERSON"
        ) from nameless
