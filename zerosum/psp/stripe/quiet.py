"""What the official SDK does beside every call that is for nobody, switched off once per process. Nothing else lives here.

Two of the three have no option in SDK 16, so its module's names are replaced: the lines it formats five times a call
whatever the log level (a fifth of a call's CPU, and the token of the payment method is in them), and its look through the
environment for the names of AI tools, to tell Stripe (5 %).

Invariant: what is sent to Stripe to move money, and what its answer means, is the SDK's own work.
"""

import logging

import stripe
from stripe import _api_requestor


def hush() -> None:
    """Switches off the telemetry, the log lines and the look around. A name that a later SDK lacks is let be."""
    stripe.enable_telemetry = False
    # Whatever else of the SDK may log: at DEBUG it says what it sends.
    logging.getLogger("stripe").setLevel(logging.WARNING)
    for name in ("log_debug", "log_info"):
        if hasattr(_api_requestor, name):
            setattr(_api_requestor, name, _unsaid)
    if hasattr(_api_requestor._APIRequestor, "AI_AGENTS"):
        _api_requestor._APIRequestor.AI_AGENTS = []


def _unsaid(message: str, **details: object) -> None:
    """In the place of the SDK's own log functions."""
