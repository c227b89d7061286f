"""The way to Stripe: what the SDK has written goes over our HTTP client, and the answer comes in Stripe's own shape.

Three things that the SDK's clients leave open are settled here and in `zerosum.psp.http`: trouble while the body is read,
answers that are not Stripe's (a gateway's HTML page), and redirects, which would send a POST twice.

Invariant: `NotSent` is raised only before the first byte of the request could have left.
"""

import json
from collections.abc import Mapping

import stripe

from zerosum.psp.http import Client


class Transport:
    """The connections to Stripe, good for one event loop. `url`: its base address; the times are `Client`'s."""

    def __init__(self, url: str, *, timeout_ms: int, connect_ms: int) -> None:
        scheme, _, rest = url.partition("://")
        self._origin = f"{scheme}://{rest.partition('/')[0]}"
        self._client = Client(self._origin, timeout_ms=timeout_ms, connect_ms=connect_ms, cafile=stripe.ca_bundle_path)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request, sent once. Raises NotSent, or OutcomeUnknown: money may have moved if it was a POST.

        A request that leaves Stripe's origin, where our key must not go, is the client's `Bug`.
        """
        body = None if post_data is None else post_data.encode()
        answer = await self._client.request(method, url.removeprefix(self._origin), headers, body)
        # The SDK makes a Python warning of it, which may be an error, after the money moved.
        answer.headers.pop("stripe-notice", None)
        return as_stripe_says_it(answer.body, answer.status), answer.status, answer.headers

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def as_stripe_says_it(body: bytes, status: int) -> bytes:
    """An error that is not Stripe's JSON gets its shape: else the SDK forgets status and headers, or stumbles.

    The type `unreadable` is none of Stripe's, so that nothing is taken for a refusal that Stripe did not speak.
    """
    if status < 300:  # noqa: PLR2004 - HTTP's own number
        return body
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        return body
    return b'{"error": {"type": "unreadable", "message": "not an answer of Stripe\'s API"}}'
