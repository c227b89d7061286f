"""The runner: carries effects to the world, outside every transaction and every slot of a batch.

Each run ends in exactly one command to its entity: what was learned, or what trouble it met. A run that waited past its
lease is dropped unrun: a later run owns the to-do by then. One that hangs is ended after two leases, so that whatever it
waits for cannot keep the others from running. Source: design section 3, step 4.

Invariant: the runner decides nothing; it holds no state that matters, and dying at any point is the same as an unknown
outcome.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from actors.shard import Clock
from actors.turn import Run
from zerosum import limits
from zerosum.crash import Point, reach
from zerosum.domain import message as m
from zerosum.domain.journal import Journal
from zerosum.domain.refusal import Refusal
from zerosum.domain.request import AssessRisk, PspRequest, PspVerb
from zerosum.domain.wallet import Transfer
from zerosum.errors import Bug, NotSent, OutcomeUnknown, PspTrouble, StoredFailure
from zerosum.ports import Done, ItemOutcome, LedgerPeer, PspGateway, RiskCheck, TryLater, WalletPeer

_log = structlog.get_logger()

_TROUBLES: tuple[tuple[type[PspTrouble], m.Trouble], ...] = (
    (StoredFailure, m.Trouble.STORED_FAILURE),
    (OutcomeUnknown, m.Trouble.OUTCOME_UNKNOWN),
    (NotSent, m.Trouble.NOT_SENT),
)
"""First match wins: the more exact class stands first."""


class Runner:
    """Runs effects of one shard, at most `EFFECTS_LIVE_MAX` at once. `tell` takes the resulting commands."""

    def __init__(
        self,
        *,
        gateway: PspGateway,
        risk: RiskCheck,
        wallet: WalletPeer,
        ledger: LedgerPeer,
        clock: Clock,
        lease_ms: int,
        tell: Callable[[m.CheckoutCommand], None],
    ) -> None:
        self._gateway = gateway
        self._risk = risk
        self._wallet = wallet
        self._ledger = ledger
        self._clock = clock
        self._lease_ms = lease_ms
        self._tell = tell
        self._permits = asyncio.Semaphore(limits.EFFECTS_LIVE_MAX)
        self._live: set[asyncio.Task[None]] = set()

    @property
    def live_count(self) -> int:
        """Effects under way or waiting for a permit."""
        return len(self._live)

    def start(self, run: Run) -> None:
        """Begins an effect."""
        lease_end_ms = self._clock.monotonic_ms() + self._lease_ms
        task = asyncio.get_running_loop().create_task(self._run(run, lease_end_ms))
        self._live.add(task)
        task.add_done_callback(self._live.discard)

    async def stop(self) -> None:
        """Abandons everything under way: each to-do's lease brings it back."""
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)

    async def _run(self, run: Run, lease_end_ms: int) -> None:
        async with self._permits:
            if self._clock.monotonic_ms() >= lease_end_ms:
                return
            try:
                async with asyncio.timeout(limits.EFFECT_HOLD_LEASES * self._lease_ms / 1_000):
                    body = await self._carry_out(run)
            except PspTrouble as trouble:
                kind = next(kind for cls, kind in _TROUBLES if isinstance(trouble, cls))
                body = self._trouble(run, kind, str(trouble), trouble.retry_after_ms)
            except TimeoutError:
                _log.error("effect hung and was ended", todo=run.todo_id, entity=run.entity.id)
                body = self._trouble(run, m.Trouble.OUTCOME_UNKNOWN, "it hung, and was ended", 0)
            except Exception as failure:  # noqa: BLE001 - the runner's outermost edge: a bug in an adapter is an unknown outcome
                _log.exception("effect failed", todo=run.todo_id, entity=run.entity.id)
                body = self._trouble(run, m.Trouble.OUTCOME_UNKNOWN, type(failure).__name__, 0)
        self._tell(m.CheckoutCommand(run.entity, body))

    async def _carry_out(self, run: Run) -> m.Inner:
        """One effect to its end; the command that tells of it."""
        match run.effect:
            case AssessRisk() as request:
                reach(Point.RISK_BEFORE)
                answer = await self._risk.assess(request)
                reach(Point.RISK_AFTER)
                return m.RecordVerdict(run.todo_id, answer.verdict, answer.reason)
            case PspRequest() as request:
                return await self._ask_psp(run, request)
            case Transfer() as transfer:
                reach(Point.WALLET_BEFORE)
                outcome = await self._wallet.apply(transfer)
                reach(Point.WALLET_AFTER)
                return self._delivered(run, outcome)
            case Journal() as journal:
                reach(Point.LEDGER_BEFORE)
                outcome = await self._ledger.post(journal)
                reach(Point.LEDGER_AFTER)
                return self._delivered(run, outcome)
            case unknown:
                raise Bug(f"no way to run {type(unknown).__name__}")

    async def _ask_psp(self, run: Run, request: PspRequest) -> m.Report:
        report = await self._gateway.call(request)
        source = m.ReportSource.POLL if request.verb is PspVerb.READ else m.ReportSource.ANSWER
        return m.Report(
            source=source, order_id=request.order_id, psp=report.psp, object_id=report.object_id, status=report.status,
            money=report.money, reference=report.reference, reason=report.reason, todo_id=run.todo_id, tries=run.tries,
            refund_key=report.refund_key, is_unrefunded=report.is_unrefunded,
        )  # fmt: skip

    def _delivered(self, run: Run, outcome: ItemOutcome) -> m.Inner:
        match outcome:
            case Done():
                return m.RecordDelivery(run.todo_id)
            case TryLater(retry_after_ms):
                return self._trouble(run, m.Trouble.NOT_SENT, "the peer asks to try later", retry_after_ms)
            case Refusal() as refusal:
                trouble = self._trouble(run, m.Trouble.REFUSED, f"{refusal.reason}: {refusal.message}", 0)
                return replace(trouble, refusal=refusal.reason)

    def _trouble(self, run: Run, kind: m.Trouble, reason: str, retry_after_ms: int) -> m.RecordTrouble:
        return m.RecordTrouble(run.todo_id, run.tries, kind, reason, retry_after_ms, self._clock.jitter_ppm())
