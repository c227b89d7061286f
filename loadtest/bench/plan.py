"""What one run of the load generator is to do, as its caller writes it and its process reads it: one JSON file.

Pure. Invariant: arrivals and baskets depend on the plan alone, never on how the system answers.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from loadtest.bench.sample_file import Kind
from loadtest.journeys import arrivals
from loadtest.shape import ONE_CURRENCY, Checkout, Shape, checkouts

SELLERS: Final = 1_000
WARM_UP_S: Final = 3.0
CHANNELS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One load. `target`: where it goes, several addresses with commas between. `token_file`: of the bearer token.

    `tps`: checkouts a second; `reads_per_checkout` come beside.

    `warm_up_s`: of arrivals before the `seconds` that count. `deadline_ms`: of a call, from its intended instant on.
    `in_flight_max`: calls at once; grpc.aio drops bursts of thousands, so what is beyond waits here, and its latency runs.
    """

    target: str
    token_file: str
    folder: str
    tps: float
    seconds: float
    seed: int
    run_id: str
    warm_up_s: float = WARM_UP_S
    orders: int = 1
    hot_share: float = 0.0
    reads_per_checkout: int = 0
    deadline_ms: int = 15_000
    in_flight_max: int = 2_500
    channels: int = CHANNELS

    @property
    def lanes(self) -> list[str]:
        """The address of each channel."""
        return lanes(self.target.split(","), self.channels)

    @property
    def samples(self) -> Path:
        """Where its samples go (`sample_file.py`)."""
        return Path(self.folder) / "samples.bin"

    @property
    def journal(self) -> Path:
        """Where its acknowledged checkouts go (`kept.py`)."""
        return Path(self.folder) / "acknowledged.txt"

    def schedule(self) -> list[tuple[float, Kind]]:
        """(seconds from the first arrival's clock, what is asked for), ascending: Poisson arrivals, kinds drawn by the mix."""
        chance = random.Random(f"bench/{self.seed}")
        share = 1 / (1 + self.reads_per_checkout)
        instants = arrivals(tps=self.tps / share, seconds=self.warm_up_s + self.seconds, chance=chance)
        return [(at_ms / 1_000, Kind.CHECKOUT if chance.random() < share else Kind.READ) for at_ms in instants]

    def baskets(self) -> Iterator[Checkout]:
        """Every checkout of the schedule, of as many orders each as asked for."""
        shape = Shape(
            orders_min=self.orders, orders_max=self.orders, sellers=SELLERS, hot_share=self.hot_share,
            currencies=ONE_CURRENCY,
        )  # fmt: skip
        count = sum(kind is Kind.CHECKOUT for _, kind in self.schedule())
        return islice(checkouts(shape, seed=self.seed, run_id=self.run_id), count)


def lanes(addresses: Sequence[str], channels: int = CHANNELS) -> list[str]:
    """An address for each channel: at least so many, and as many to each address."""
    return list(addresses) * -(-channels // len(addresses))


def write_plan(plan: LoadPlan) -> Path:
    """Writes it into its folder; the file's path."""
    path = Path(plan.folder) / "plan.json"
    path.write_text(json.dumps(asdict(plan)), encoding="utf-8")
    return path


def read_plan(path: Path) -> LoadPlan:
    """The plan of a file."""
    return LoadPlan(**json.loads(path.read_text(encoding="utf-8")))
