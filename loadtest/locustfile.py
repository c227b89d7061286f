"""Locust's side: one user that is the crowd. Run headless by `run_load`, or by hand with Locust's own web page:

    python -m locust -f loadtest/locustfile.py --host 127.0.0.1:7401 --load-profile steady-50 \\
        --load-token-file <token> --load-journal journal.jsonl

then open http://127.0.0.1:8089 and start one user: arrivals are set by the profile, never by the number of users.
Invariant: gRPC is made cooperative before anything else of gRPC happens, and no asyncio runs in this process.
"""

# ruff: noqa: E402 - the first two statements must come before every other import of grpc
import grpc.experimental.gevent

grpc.experimental.gevent.init_gevent()

import os
import random
import secrets
import signal
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import gevent
from gevent.pool import Pool
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.calls import GrpcWire, ProtoCodec
from loadtest.journal import Journal
from loadtest.journeys import Buyers, World, arrivals, dispatch
from loadtest.outcome import OK, Patience
from loadtest.profiles import PROFILES
from loadtest.run import EXIT_BROKEN, EXIT_CLEAN, EXIT_UNANSWERED
from loadtest.sample import Meter, write_status
from loadtest.shape import checkouts

LANES: Final = 2
IN_FLIGHT_MAX: Final = 5_000
"""Journeys at once: 10 s of waiting at 500/s. Beyond it arrivals wait here, and their latency shows it."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator] # Locust leaves it untyped
def add_arguments(parser: LocustArgumentParser) -> None:
    """The options of a load; Locust shows them on its web page as well. 0 = as the profile says."""
    parser.add_argument("--load-profile", choices=sorted(PROFILES), default="steady-10", help="who asks for what")
    parser.add_argument("--load-tps", type=float, default=0.0, help="arrivals a second")
    parser.add_argument("--load-seconds", type=float, default=60.0, help="how long arrivals go on")
    parser.add_argument(
        "--load-drain-seconds", type=float, default=130.0, help="how long to wait for answers after that"
    )
    parser.add_argument("--load-budget-seconds", type=float, default=120.0, help="how long a buyer tries with one key")
    parser.add_argument("--load-seed", type=int, default=1)
    parser.add_argument("--load-run-id", default="", help="stands in every id; default: drawn")
    parser.add_argument("--load-pacing", choices=("poisson", "constant"), default="poisson")
    parser.add_argument("--load-decline-share", type=float, default=0.0, help="checkouts with a declined card, 0 to 1")
    parser.add_argument("--load-challenge-share", type=float, default=0.0, help="checkouts with 3-D Secure, 0 to 1")
    parser.add_argument("--load-token-file", default="", help="the bearer token", include_in_web_ui=False)
    parser.add_argument("--load-tenant", default="", help="the tenant the token names", include_in_web_ui=False)
    parser.add_argument("--load-journal", default="", help="the client's journal", include_in_web_ui=False)
    parser.add_argument("--load-samples", default="", help="latency samples", include_in_web_ui=False)
    parser.add_argument("--load-status", default="", help="live counters, each second", include_in_web_ui=False)
    parser.add_argument("--load-parent", type=int, default=0, help="end with this process", include_in_web_ui=False)


@events.init.add_listener  # type: ignore[untyped-decorator] # Locust leaves it untyped
def end_when_broken(environment: Environment, **_: object) -> None:
    """A load that breaks off ends with EXIT_BROKEN: Locust would begin the same load again, at once and for ever."""

    def end(**_: object) -> None:
        environment.process_exit_code = EXIT_BROKEN
        if environment.runner is not None:
            gevent.spawn(environment.runner.quit)

    environment.events.user_error.add_listener(end)  # type: ignore[no-untyped-call] # Locust leaves it untyped


class Crowd(User):
    """All buyers of this process. `fixed_count`: one dispatcher begins every journey at its own instant (open loop)."""

    fixed_count = 1
    wait_time = constant(0)

    @task
    def load(self) -> None:
        """The whole load, once; then the test ends."""
        is_clean = run(self.environment)
        self.environment.process_exit_code = EXIT_CLEAN if is_clean else EXIT_UNANSWERED
        options = self.environment.parsed_options
        gevent.spawn(self.environment.runner.quit if options.headless else self.environment.runner.stop)
        gevent.sleep(IN_FLIGHT_MAX)  # until Locust ends this user


def run(environment: Environment) -> bool:
    """Arrivals, answers, counters. True: every journey got an answer and no copies of a click were told different things."""
    options = environment.parsed_options
    assert options is not None
    now_ms = _clock()
    pool = Pool(IN_FLIGHT_MAX)
    with ExitStack() as stack:
        samples = stack.enter_context(Path(options.load_samples or os.devnull).open("a", encoding="utf-8"))
        journal = stack.enter_context(Journal(Path(options.load_journal or os.devnull), tenant=options.load_tenant))
        token = Path(options.load_token_file).read_text(encoding="utf-8").strip() if options.load_token_file else ""
        target = str(environment.host).removeprefix("http://")
        wire = GrpcWire(target, token=token, lanes=LANES, now_ms=now_ms, tell=_teller(environment))
        stack.callback(wire.close)
        meter = Meter(samples, started_ms=now_ms())
        reporter = gevent.spawn(_report, meter, options, now_ms)
        # Undone from the last to the first: end journeys, end the reporter, publish once more, close the rest.
        stack.callback(_publish, meter, options, now_ms)
        stack.callback(reporter.kill)
        stack.callback(pool.kill)
        world = World(
            run_id=options.load_run_id or secrets.token_hex(4),
            wire=wire,
            codec=ProtoCodec(),
            journal=journal,
            meter=meter,
            chance=random.Random(f"buyers/{options.load_seed}"),
            patience=_patience(options),
            now_ms=now_ms,
            sleep_ms=lambda ms: gevent.sleep(ms / 1_000),
        )
        _begin(options, world, pool.spawn)
        pool.join(timeout=options.load_drain_seconds)
        meter.finish()
        status = meter.status(now_ms())
        return status.in_flight == 0 and status.unknown == 0 and status.disagreements == 0


def _begin(options: Namespace, world: World, spawn: Callable[..., object]) -> None:
    """Begins every journey of the profile, each in a greenlet of its own."""
    profile, seed = PROFILES[options.load_profile], options.load_seed
    shape = profile.shape.with_cards(
        decline_share=options.load_decline_share, challenge_share=options.load_challenge_share
    )
    instants = arrivals(
        tps=options.load_tps or profile.tps,
        seconds=options.load_seconds,
        chance=random.Random(f"arrivals/{seed}") if options.load_pacing == "poisson" else None,
    )
    baskets = checkouts(shape, seed=seed, run_id=world.run_id)
    dispatch(profile, Buyers(world), baskets, instants, world=world, spawn=spawn)


def _patience(options: Namespace) -> Patience:
    profile = PROFILES[options.load_profile]
    return Patience(
        deadline_ms=profile.deadline_ms,
        budget_ms=round(options.load_budget_seconds * 1_000),
        # An impatient buyer waits 10 ms, not 0: a shut door answers within 1 ms, and the storm is not to be our CPU.
        base_ms=50 if profile.is_patient else 10,
        is_patient=profile.is_patient,
    )


def _clock() -> Callable[[], float]:
    """Epoch milliseconds, as they were when the load began, plus what has passed since: a clock that never goes back."""
    epoch_ms, began = time.time() * 1_000, time.monotonic()
    return lambda: epoch_ms + (time.monotonic() - began) * 1_000


def _teller(environment: Environment) -> Callable[[str, float, int, str], None]:
    """Hands every request to Locust's own statistics, under the method's name."""

    def tell(method: str, duration_ms: float, size: int, code: str) -> None:
        environment.events.request.fire(  # type: ignore[no-untyped-call] # Locust leaves it untyped
            request_type="grpc",
            name=method,
            response_time=duration_ms,
            response_length=size,
            exception=None if code == OK else _NotOk(code),
            context={},
        )

    return tell


class _NotOk(Exception):
    """A request that brought another status than OK, for Locust's table of errors."""


def _report(meter: Meter, options: Namespace, now_ms: Callable[[], float]) -> None:
    """Publishes the counters each second; ends this process when the one that started it is gone."""
    while True:
        gevent.sleep(1.0)
        if options.load_parent and os.getppid() != options.load_parent:
            os.kill(os.getpid(), signal.SIGTERM)
        _publish(meter, options, now_ms)


def _publish(meter: Meter, options: Namespace, now_ms: Callable[[], float]) -> None:
    meter.flush()
    if options.load_status:
        write_status(Path(options.load_status), meter.status(now_ms()))
