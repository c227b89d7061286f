"""The certificate is red whenever anything speaks against it, and the report says the same without trusting any text."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from loadtest.certificate import Certificate, Event, Facts, Phase, State, certify
from loadtest.demo import Plan
from loadtest.outcome import Outcome
from loadtest.planted import Judgement, KindFound, Reconciled
from loadtest.plot import Chart, Line, Mark, Shade, draw
from loadtest.report import StatusCount, charts, render_report
from loadtest.sample import Sample
from loadtest.terminal import print_certificate

CALM = Phase(name="calm", from_ms=0, until_ms=10_000)
STORM = Phase(name="storm", from_ms=10_000, until_ms=20_000, has_faults=True)
FACTS = Facts(seed=7, command="zerosum demo --seed 7", average_batch=3.5)


def _verdict(name: str, outcome: str = "held", count: int = 0) -> dict[str, Any]:
    example = {"subject": "po-1", "problem": "twice", "expected": "1", "found": "2", "harm": "double"}
    return {
        "id": name,
        "statement": f"statement of {name}",
        "outcome": outcome,
        "examined": 10,
        "count": count,
        "by_harm": {},
        "examples": [example] if count else [],
        "notes": [],
    }


def _audit(**totals: int) -> dict[str, Any]:
    return {
        "is_clean": True,
        "violated": [],
        "verdicts": [_verdict("I1"), _verdict("I4")],
        "totals": {
            "intents": 3,
            "orders": 5,
            "effects": 5,
            "doubles": 0,
            "losses": 0,
            "stuck": 0,
            "unknown": 2,
            "unknown_attempts": 0,
            "dead_letters": 0,
            "orders_by_status": {"SUCCESS": 5},
            **totals,
        },
    }


def _certify(audit: dict[str, Any], samples: tuple[Sample, ...] = (), **options: Any) -> Certificate:
    return certify(audit=audit, samples=samples, phases=(CALM, STORM), facts=options.pop("facts", FACTS), **options)


def test_a_clean_audit_makes_a_clean_certificate() -> None:
    """Payments were made and nothing speaks against them."""
    certificate = _certify(_audit())

    assert certificate.reasons == ()
    assert (certificate.is_clean, certificate.verdict) == (True, "CLEAN")


def _violated(audit: dict[str, Any]) -> None:
    audit["is_clean"] = False
    audit["verdicts"][1] = _verdict("I4", "violated", 2)


def _not_clean_without_a_verdict(audit: dict[str, Any]) -> None:
    audit["is_clean"] = False


def _nothing_checked(audit: dict[str, Any]) -> None:
    audit["verdicts"] = [_verdict("I1", "not checked")]


def _total(name: str, value: int | None) -> Callable[[dict[str, Any]], None]:
    def change(audit: dict[str, Any]) -> None:
        audit["totals"][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_violated, "violated: I4"),
        (_not_clean_without_a_verdict, "the audit is not clean"),
        (_nothing_checked, "no invariant was checked: nothing is proved"),
        (_total("intents", 0), "no payment was made: nothing is proved"),
        (_total("effects", None), "no payment was made: nothing is proved"),
        (_total("doubles", 2), "2 charged or posted twice"),
        (_total("losses", 1), "1 lost"),
        (_total("stuck", 4), "4 stuck"),
        (_total("dead_letters", 1), "1 dead letters, which count as stuck"),
        (_total("unknown_attempts", 1), "1 attempts whose money is unknown"),
    ],
)
def test_whatever_speaks_against_it_makes_it_red(change: Callable[[dict[str, Any]], None], reason: str) -> None:
    """One reason is enough, and it is told."""
    audit = _audit()
    change(audit)
    certificate = _certify(audit)

    assert certificate.reasons == (reason,)
    assert certificate.verdict == "NOT CLEAN"


def test_what_a_run_was_to_do_and_did_not_makes_it_red() -> None:
    """A demo without its kills, or that drains for too long, proves less than it says."""
    plan = Plan(
        tps=50,
        seconds=60,
        drop_requests=0.3,
        drop_responses=0.3,
        errors=0.05,
        lose_webhooks=0.3,
        seed=1,
        kills=True,
        sabotage=None,
    )

    assert plan.undone(drained_ms=60_000, kills=2) == ()
    assert replace(plan, kills=False).undone(drained_ms=0, kills=0) == ()
    late = plan.undone(drained_ms=60_001, kills=1)
    assert late == ("not all was done 60 s after the faults' end", "1 of 2 processes were killed")
    assert plan.undone(drained_ms=None, kills=2) == late[:1]
    assert _certify(_audit(), facts=replace(FACTS, undone=late)).reasons == late


@pytest.mark.parametrize(("executing", "warnings"), [(20, 0), (19, 1)])
def test_a_kill_that_met_few_orders_is_told(executing: int, warnings: int) -> None:
    """It is to hit a shard that has twenty of them in the middle of a charge."""
    certificate = _certify(_audit(), facts=replace(FACTS, executing_at_kill=executing))

    assert (certificate.is_clean, len(certificate.warnings)) == (True, warnings)


def test_dead_letters_count_only_where_they_are_to() -> None:
    """In the demo a dead letter is stuck; in operation people decide about it."""
    assert _certify(_audit(dead_letters=1), do_dead_letters_count=False).is_clean


GOOD = Judgement((KindFound("wrong_fee", 2, 2, 2, "manual"), KindFound("day_shift", 1, 1, 1, "expected")), ())


@pytest.mark.parametrize(
    ("reconciled", "reasons"),
    [
        (Reconciled(judgement=GOOD), ()),
        (Reconciled(judgement=None, trouble="no server"), ("the settlement file was not reconciled: no server",)),
        (
            Reconciled(judgement=Judgement((), ())),
            ("no damage was planted in the settlement file: nothing is proved",),
        ),
        (
            Reconciled(
                judgement=Judgement((KindFound("wrong_fee", 2, 2, 1, "automatic"),), ("late_charge <txn> po-1",))
            ),
            (
                "1 of 2 planted discrepancies not found in their class",
                "1 discrepancies that nobody planted",
            ),
        ),
    ],
)
def test_a_reconciliation_that_misses_or_invents_makes_it_red(reconciled: Reconciled, reasons: tuple[str, ...]) -> None:
    """Planted and found must be the same; a settlement file that nobody judged proves nothing."""
    assert _certify(_audit(), facts=replace(FACTS, reconciled=reconciled)).reasons == reasons


def test_planted_and_found_stand_side_by_side_in_terminal_and_report() -> None:
    """By kind; false alarms escaped."""
    judgement = replace(GOOD, false_alarms=("late_charge <txn> po-1",))
    reconciled = Reconciled(judgement=judgement, items=1_000, explained=998, ms=1_500)
    certificate = _certify(_audit(), facts=replace(FACTS, reconciled=reconciled))
    output = StringIO()
    print_certificate(certificate, Console(file=output, width=100))
    page = render_report(certificate, ())

    assert re.search(r"wrong fee +2 +2 +2 +manual", output.getvalue())
    assert "998 of 1,000 lines and orders explained" in output.getvalue()
    assert '<td>wrong fee</td><td class="n">2</td><td class="n">2</td><td class="n">2</td><td>manual</td>' in page
    assert "late_charge &lt;txn&gt; po-1" in page


def test_without_a_damaged_file_there_is_no_table_of_it() -> None:
    """Chaos and load have a certificate too."""
    assert "Settlement <small>" not in render_report(_certify(_audit()), ())


def test_copies_told_different_things_make_it_red() -> None:
    """What the client saw counts as much as what the audit saw."""
    certificate = _certify(_audit(), facts=Facts(seed=7, command="", disagreements=1))

    assert certificate.reasons == ("1 clicks whose copies were told different things",)


def _sample(t_ms: int, latency_ms: float, outcome: Outcome, name: str = "CreatePayment") -> Sample:
    return Sample(t_ms, name, latency_ms, "OK", outcome, 1)


def test_a_journey_counts_in_the_phase_in_which_it_was_meant_to_begin() -> None:
    """A backlog that a phase has caused is its own, however late it is served."""
    certificate = _certify(
        _audit(),
        (
            _sample(9_000, 100.0, Outcome.FINAL),
            _sample(12_000, 4_000.0, Outcome.FINAL),
            _sample(15_000, 10.0, Outcome.PENDING),
            _sample(16_000, 30.0, Outcome.FINAL),
            _sample(16_000, 2.0, Outcome.READ, "GetPayment"),
            _sample(19_000, 5.0, Outcome.UNKNOWN),
        ),
    )
    calm, storm = certificate.phases

    assert (calm.submits.count, calm.submits.p50_ms, calm.submits.p99_ms) == (2, 100.0, 4_000.0)
    assert (storm.submits.count, storm.views.count, storm.pending, storm.unanswered) == (1, 1, 1, 1)
    assert (calm.rate_per_s, storm.pending_share) == (0.2, 0.5)


def test_pending_answers_without_faults_are_worth_a_warning_but_no_verdict() -> None:
    """They break a figure, not a promise about money."""
    certificate = _certify(_audit(), (_sample(5_000, 10.0, Outcome.PENDING), _sample(15_000, 10.0, Outcome.PENDING)))

    assert certificate.is_clean
    assert certificate.warnings == ("calm: 100.00% of the answers were pending, without faults",)


def test_what_was_not_checked_is_told() -> None:
    """Never passed over in silence."""
    audit = _audit()
    audit["verdicts"].append(_verdict("SETTLEMENT", "not checked"))
    certificate = _certify(audit)

    assert certificate.warnings == ("not checked, for want of a source: SETTLEMENT",)
    assert certificate.invariants[-1].state is State.NOT_CHECKED


def _printed(certificate: Certificate, width: int) -> str:
    out = StringIO()
    print_certificate(certificate, Console(file=out, width=width, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_terminal_says_in_words_what_it_says_in_colour(width: int) -> None:
    """Readable without colour, and never wider than 100 columns."""
    audit = _audit(dead_letters=1)
    _violated(audit)
    text = _printed(_certify(audit, (_sample(9_000, 100.0, Outcome.FINAL),)), width)

    for words in ("NOT CLEAN", "violated: I4", "1 dead letters", "statement of I1", "po-1", "zerosum demo --seed 7"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= min(width, 100)


def test_brackets_in_stored_text_are_not_taken_for_markup() -> None:
    """An id such as [red] is printed as it is."""
    audit = _audit()
    _violated(audit)
    audit["verdicts"][1]["examples"][0]["problem"] = "[red]twice[/red]"

    assert "[red]twice[/red]" in _printed(_certify(audit), 100)


EVIL = "<script>alert('x')</script>\"&"


def test_the_report_escapes_every_stored_text() -> None:
    """No text that came from anywhere reaches the page as markup, in tables, charts, title or command."""
    audit = _audit()
    audit["verdicts"][1] = {**_verdict("I4", "violated", 1), "statement": EVIL, "id": EVIL, "notes": [EVIL]}
    audit["verdicts"][1]["examples"] = [dict.fromkeys(("subject", "problem", "expected", "found"), EVIL)]
    certificate = certify(
        audit=audit,
        samples=(),
        phases=(Phase(name=EVIL, from_ms=0, until_ms=9_000, has_faults=True),),
        events=(Event(4_000, EVIL),),
        facts=Facts(seed=7, command=EVIL, settings={EVIL: EVIL}, faults_injected={EVIL: 1}),
    )
    page = render_report(certificate, [_sample(5_000, 10.0, Outcome.FINAL)], [StatusCount(5_000, {"SUCCESS": 1})])

    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 10
    assert not re.search(r'="[^">]*<', page)


def test_the_report_needs_nothing_but_itself() -> None:
    """One file: no address, no script, no import."""
    page = render_report(_certify(_audit()), [_sample(5_000, 10.0, Outcome.FINAL)])
    addresses = set(re.findall(r"https?://[^\"' ]+", page))

    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=|url\(|@import", page)


def test_a_report_of_a_run_without_samples_can_be_drawn() -> None:
    """A run that failed at once still has a report."""
    assert "no data" in render_report(_certify(_audit()), [])


def test_charts_hold_what_was_counted() -> None:
    """Throughput by the second, latency by two seconds with gaps, orders by status as they stood."""
    samples = [
        _sample(500, 10.0, Outcome.FINAL),
        _sample(900, 30.0, Outcome.FINAL),
        _sample(9_500, 5.0, Outcome.PENDING),
    ]
    statuses = [StatusCount(0, {"EXECUTING": 2, "SUCCESS": 0}), StatusCount(1_000, {"EXECUTING": 1, "SUCCESS": 1})]
    throughput, latency, under_way, settled = charts(_certify(_audit(), tuple(samples)), samples, statuses)

    assert throughput.lines[0].points[:2] == ((0.5, 2.0), (1.5, 0.0))
    assert [(line.name, line.points) for line in latency.lines] == [
        ("p99", ((1.0, 30.0),)),
        ("p95", ((1.0, 30.0),)),
        ("p50", ((1.0, 10.0),)),
    ]
    assert [(line.name, line.points) for line in under_way.lines] == [("EXECUTING", ((0.0, 2.0), (1.0, 1.0)))]
    assert [(line.name, line.points) for line in settled.lines] == [("SUCCESS", ((0.0, 0.0), (1.0, 1.0)))]
    assert throughput.shades == (Shade(10.0, 20.0, "faults on"),)


@pytest.mark.parametrize("is_stacked", [True, False])
@pytest.mark.parametrize("is_log", [True, False])
def test_every_point_of_a_chart_is_within_its_frame(is_stacked: bool, is_log: bool) -> None:
    """Zeros, gaps, large values and marks side by side."""
    points = tuple((float(at), value) for at, value in enumerate((0.0, 12.0, None, 99_999.0, 0.4)))
    chart = Chart(
        title="t",
        unit="u",
        lines=(Line("a", "--c1", points), Line("b", "--c2", points)),
        shades=(Shade(1.0, 2.0, "s"),),
        marks=(Mark(4.0, "m"), Mark(4.0, "n")),
        is_stacked=is_stacked,
        is_log=is_log,
    )
    drawn = draw(chart, width=500, height=200)
    corners = re.findall(r'points="([^"]+)"', drawn)

    assert corners
    for pair in " ".join(corners).split():
        x, y = (float(each) for each in pair.split(","))
        assert 0 <= x <= 500
        assert 0 <= y <= 200
