"""The SDK at its desk: it writes each kind of request once, reads every error, and sends nothing itself.

Given a request the SDK flattens and quotes the parameters and joins the headers anew, and looks at an answer field by field:
30 to 75 µs of CPU a call, as much as all the rest. So each kind of request is written by it once, with marks where text
differs from call to call, and then filled in; and an answer that is no error needs no more than JSON's own reader.

Invariant: a filled-in request is, byte for byte, the one that the SDK in use would have written (tests compare them, so an
upgrade is seen), and what an error means is told by the SDK alone.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

import stripe

from zerosum.errors import Bug

_KEY: Final = "Idempotency-Key"
_SOME_KEY: Final = "some-key"
_ID_AT: Final = 3
"""Where a path holds an object's id: `/v1/payment_intents/<id>/confirm`."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII)
"""Text that stands for itself in a path, a query and a form. A request with any other in it is left to the SDK."""

Answer = tuple[bytes, int, Mapping[str, str]]
"""Body, status and headers, as the SDK takes them from its HTTP client."""

_NOTHING: Final[Answer] = (b"{}", 200, {})


class Written(NamedTuple):
    """A request as the SDK hands it to its HTTP client. `body` is None for a GET."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None


class Desk(stripe.HTTPClient):
    """The SDK's client over an HTTP client that sends nothing: it keeps what it is given, and answers what it is told."""

    name = "zerosum"

    def __init__(self, api_key: str, url: str) -> None:
        super().__init__()
        self._sdk = stripe.StripeClient(api_key, base_addresses={"api": url}, http_client=self, max_network_retries=0)
        self._stencils: dict[object, Written] = {}
        self._written = Written("", "", {}, None)
        self._answer: Answer = _NOTHING

    def write(self, method: str, path: str, key: str, parameters: Mapping[str, object]) -> Written:
        """A request under `key` ("" for a GET). Text in the parameters may be any; all else is part of the kind."""
        texts: list[str] = []
        steps = path.split("/")
        if len(steps) > _ID_AT:
            steps[_ID_AT] = _mark(steps[_ID_AT], texts)
        marked = _mark(parameters, texts)
        if _PLAIN.fullmatch("".join(texts)) is None:
            return self._ask_sdk(method, path, key, parameters)
        kind = f"{method} {bool(key)} {steps} {marked}"
        stencil = self._stencils.get(kind)
        if stencil is None:
            stencil = self._stencils[kind] = self._stencil(method, "/".join(steps), key and _SOME_KEY, marked)
        headers = {**stencil.headers, _KEY: key} if key else stencil.headers
        body = stencil.body and stencil.body.format(*texts)
        return Written(stencil.method, stencil.url.format(*texts), headers, body)

    def tell(self, error: Answer) -> NoReturn:
        """Raises what the SDK makes of an answer that is no success, or stumbles over in it."""
        self._answer = error
        try:
            self._sdk.raw_request("get", "/v1")
        finally:
            self._answer = _NOTHING
        raise Bug("the SDK takes an error for a success")

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: object = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """Called by the SDK in the place of the network."""
        self._written = Written(method, url, headers or {}, post_data if isinstance(post_data, str) else None)
        body, status, answer_headers = self._answer
        return body.decode(errors="replace"), status, answer_headers

    def _ask_sdk(self, method: str, path: str, key: str, parameters: Mapping[str, object]) -> Written:
        options = {"idempotency_key": key} if key else {}
        self._sdk.raw_request(method, path, **parameters, **options)
        return self._written

    def _stencil(self, method: str, path: str, key: str, parameters: Mapping[str, object]) -> Written:
        _, url, headers, body = self._ask_sdk(method, path, key, parameters)
        if headers.get(_KEY, "") != key:
            raise Bug("the SDK sends its keys in another way")
        return Written(method, _unquoted(url), dict(headers), body and _unquoted(body))


def _mark(value: Any, texts: list[str]) -> Any:
    """The value with marks, `{0}`, `{1}`, .., in the place of its texts, which are put down in this order."""
    match value:
        case str():
            texts.append(value)
            return f"{{{len(texts) - 1}}}"
        case dict():
            return {name: _mark(held, texts) for name, held in value.items()}
        case list():
            return [_mark(held, texts) for held in value]
        case _:
            return value


def _unquoted(template: str) -> str:
    """The marks as `str.format` knows them; no other brace can be in what the SDK has quoted."""
    return template.replace("%7B", "{").replace("%7D", "}")
