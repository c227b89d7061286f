"""Pages, as the wire has them: how many rows, and the opaque token that says where to go on.

What a token holds is the reader's to check: what it does not know it raises as MalformedPosition, a refusal to callers.

Invariant: a token means the same position to whoever reads it, and nothing to anybody else.
"""

import base64
import binascii

from servers.status import MALFORMED_POSITION, refused
from zerosum.limits import PAGE_ROWS_DEFAULT
from zerosum.v1.common_pb2 import PageRequest


def rows_max_of(page: PageRequest) -> int:
    """Rows wanted; 0 on the wire is the default. The contract has checked the rest."""
    return page.page_size or PAGE_ROWS_DEFAULT


def after_of(page: PageRequest) -> str:
    """The reader's position in a token, "" for the first page. Ends the call where the token is not one of ours."""
    if not page.page_token:
        return ""
    try:
        return base64.b64decode(page.page_token, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise refused(MALFORMED_POSITION) from error


def id_after_of(page: PageRequest) -> str:
    """The same for a list whose position is the last row's id: any printable text is one, most are nobody's."""
    after = after_of(page)
    if not after.isprintable():
        raise refused(MALFORMED_POSITION)
    return after


def token_of(after: str) -> str:
    """The token for a reader's position; "" where there is no next page."""
    return base64.urlsafe_b64encode(after.encode("ascii")).decode() if after else ""
