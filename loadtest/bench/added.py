"""What of a checkout's latency is ours: what is left of it when the PSP's own time is taken away, payment by payment.

Pure. Orders of a checkout go side by side, so that its own time at the PSP is that of its slowest order. Source: speed.md "The
bench": added latency = ours - the simulator's own log of its delay.

Invariant: what the PSP spent on a call is never counted as ours, and what we wait between two calls always is.
"""

from collections.abc import Iterable, Mapping, Sequence

from loadtest.bench.sample_file import Call, Ending
from loadtest.sample import Percentiles, percentiles
from loadtest.shape import Checkout


def added(calls: Iterable[Call], baskets: Sequence[Checkout], delays_ms: Mapping[str, int]) -> Percentiles:
    """Of checkouts with a final answer. `delays_ms`: by payment order id, of all its calls; absent where none was delayed."""
    return percentiles(
        call.latency_us / 1_000 - max(delays_ms.get(order.payment_order_id, 0) for order in baskets[call.number].orders)
        for call in calls
        if call.ending is Ending.FINAL
    )
