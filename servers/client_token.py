"""In whose name a command calls: finance by the person's own token (`ZEROSUM_TOKEN_FILE`), or by one signed here.

Only a development deployment keeps the key that signs.

Invariant: no error shows anything of a token.
"""

import getpass
import os
import time
from pathlib import Path

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
    """An admin's token, to act for that tenant. Raises Misconfigured where no key is kept here."""
    return _signed(settings, Caller(Tenant(tenant), Role.ADMIN, "cli"))


def _own_token() -> str:
    """The text in the file, "" where none is set. Raises Misconfigured for a file that cannot be read."""
    path = os.environ.get(_VARIABLE, "")
    try:
        return Path(path).read_text(encoding="ascii").strip() if path else ""
    except OSError as error:
        raise Misconfigured(f"{_VARIABLE} cannot be read: {error.strerror}") from error


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
