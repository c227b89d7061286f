"""`python -m simulator.psp --data DIR --port N --seed S`: the simulator as a process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path

from simulator.psp.book import BookBroken, BookInUse, FileBook
from simulator.psp.engine import Engine
from simulator.psp.faults import FaultPlan, Rates
from simulator.psp.idempotency import EXPIRY_MS
from simulator.psp.server import Server
from simulator.psp.stripe.payment import Behaviours
from simulator.psp.webhooks import RetryRule

# Young objects before a collection; 100,000 are some 20 MB at the most.
_COLLECT_AFTER = 100_000


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status (1: the disk failed, 2: it cannot start)."""
    options = _options()
    try:
        return asyncio.run(_run(options))
    except (BookBroken, BookInUse, OSError) as error:
        sys.stderr.write(f"psp simulator cannot run: {error}\n")
        return 2


async def _run(options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    server: Server | None = None
    book = FileBook(options.data, gather_ms=options.gather_ms, on_broken=lambda: server.stop(1) if server else None)
    engine = Engine(
        book=book,
        plan=FaultPlan(seed=options.seed, rates=options.faults),
        api_key=options.api_key,
        key_expiry_ms=options.key_expiry_ms,
        behaviours=Behaviours(
            fee_bps=options.fee_bps,
            fee_fixed_minor=options.fee_fixed,
            challenge_ms=options.challenge_ms,
            challenge_passes=options.challenge_outcome == "succeed",
            processing_ms=options.processing_ms,
            processing_passes=options.processing_outcome == "succeed",
        ),
        retry_rule=RetryRule(pause_ms=options.webhook_retry_ms, attempts_max=options.webhook_attempts),
        is_announcing=options.webhook_url is not None,
    )
    engine.restore(book.read())
    # Nothing here makes cycles, while the objects of the book are many: looking through them all costs 30 % of a call.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 100, 100)
    server = Server(
        engine,
        book,
        folder=options.data,
        admin_token=options.admin_token,
        webhook_url=options.webhook_url,
        webhook_secret=options.webhook_secret,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    return await server.serve(options.host, options.port)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator.psp", description="The PSP that misbehaves on a plan.")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the book and the settlement files")
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True, help="0 takes a free one; the printed line names it")
    add("--seed", type=int, required=True, help="every fault is drawn from it")
    add("--faults", type=_rates, default=Rates(), help='rates to begin with, as JSON: {"drop_response": 0.3}')
    add("--api-key", default=os.environ.get("PSP_API_KEY", "sk_test_simulator"))
    add("--admin-token", default=os.environ.get("PSP_ADMIN_TOKEN", "admin_simulator"))
    add("--webhook-url", type=_http_url, help="where events are posted; without it they wait in the book")
    add("--webhook-secret", default=os.environ.get("PSP_WEBHOOK_SECRET", "whsec_simulator"))
    add("--webhook-retry-ms", type=int, default=500, help="pause before the second attempt; it doubles up to 30 s")
    add("--webhook-attempts", type=int, default=16)
    add("--key-expiry-ms", type=int, default=EXPIRY_MS, help="age at which an idempotency key is forgotten")
    add("--gather-ms", type=int, default=4, help="how long a commit of the book waits for more lines")
    add("--fee-bps", type=int, default=290, help="fee in hundredths of a percent")
    add("--fee-fixed", type=int, default=30, help="fee in minor units")
    add("--challenge-ms", type=int, default=0, help="a 3-D Secure challenge ends after this; 0: only by an admin call")
    add("--challenge-outcome", choices=("succeed", "fail"), default="succeed")
    add("--processing-ms", type=int, default=1_000, help="pm_card_processing ends after this; 0: only by an admin call")
    add("--processing-outcome", choices=("succeed", "fail"), default="succeed")
    return parser.parse_args()


def _http_url(text: str) -> str:
    if not text.startswith("http://"):
        raise argparse.ArgumentTypeError("must be an http:// address")
    return text


def _rates(text: str) -> Rates:
    try:
        return Rates.parse(json.loads(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
