"""One service as a command of `zerosum` calls it: blocking calls in one caller's name, lists over all their pages.

Invariant: whatever a call meets is raised as Refused or Unavailable, and an answer that did not come names the service.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from servers.problem import of_rpc
from zerosum.errors import Unavailable, ZerosumError

_PAGE_ROWS = 500


class Refused(ZerosumError):
    """The service said no; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Client:
    """A service, and who calls it. `address`: "host:port"; `token`: the bearer token; `timeout_s`: of one call.

    Each call has a channel of its own: a command makes few, and a server that came back meanwhile is found at once.
    """

    service: str
    address: str
    stub: Callable[[grpc.Channel], Any]
    token: str
    timeout_s: float = 15.0

    def call(self, method: str, request: Message | Iterator[Message], *, timeout_s: float | None = None) -> Any:
        """The answer to one call; a stream of requests is one. `timeout_s`: None = the client's.

        Raises Refused, Unavailable: after this one the call may have been served, and the same key again finds out.
        """
        with grpc.insecure_channel(self.address) as channel:
            try:
                return getattr(self.stub(channel), method)(
                    request, timeout=timeout_s or self.timeout_s, metadata=(("authorization", f"Bearer {self.token}"),)
                )
            except grpc.RpcError as error:
                raise _trouble_of(error, self.service) from error

    def rows(self, method: str, request: Any, field: str, *, rows_max: int | None = None) -> Iterator[Any]:
        """Rows of a list, page after page, at most so many. `field`: of the answer, where its rows are. Raises as `call`."""
        rest = rows_max
        while rest is None or rest > 0:
            request.page.page_size = _PAGE_ROWS if rest is None else min(_PAGE_ROWS, rest)
            answer = self.call(method, request)
            rows = getattr(answer, field)
            yield from rows
            if not answer.next_page_token:
                return
            request.page.page_token = answer.next_page_token
            rest = rest if rest is None else rest - len(rows)


def _trouble_of(error: grpc.RpcError, service: str) -> ZerosumError:
    """What a failed call is to a command: Unavailable (run it again), or Refused with the fields that are at fault."""
    problem = of_rpc(error, service=service)
    kind = Unavailable if problem.retry_after_s else Refused
    told = [f"{one.field}: {one.message}" for one in problem.errors if one.field]
    if len(told) == 1 and told[0].endswith(f": {problem.detail}"):  # the detail is the first field's
        return kind(f"{problem.reason}: {told[0]}")
    return kind(f"{problem.reason}: {problem.detail}" + (f" ({'; '.join(told)})" if told else ""))
