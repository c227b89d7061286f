"""Pages, as the wire has them: how many rows, and the opaque token that says where to go on.

Invariant: a token that we did not make is a refusal, and never reaches a reader in another shape than it left one.
"""

import base64
import binascii

from servers.status import refused
from zerosum.domain.refusal import Reason, Refusal
from zerosum.limits import PAGE_ROWS_DEFAULT
from zerosum.v1.common_pb2 import PageRequest

_MARK = b"1:"
"""The version of the token's shape."""


def rows_max_of(page: PageRequest) -> int:
    """Rows wanted; 0 on the wire is the default. The contract has checked the rest."""
    return page.page_size or PAGE_ROWS_DEFAULT


def after_of(page: PageRequest) -> str:
    """The reader's position in a token, "" for the first page. Ends the call where the token is not one of ours."""
    if not page.page_token:
        return ""
    try:
        raw = base64.b64decode(page.page_token, altchars=b"-_", validate=True)
        if raw.startswith(_MARK):
            return raw[len(_MARK) :].decode("ascii")
    except (binascii.Error, ValueError):
        pass
    raise refused(Refusal(Reason.MALFORMED, "page.page_token", "not a token of ours"))


def token_of(after: str) -> str:
    """The token for a reader's position; "" where there is no next page."""
    return base64.urlsafe_b64encode(_MARK + after.encode("ascii")).decode() if after else ""
