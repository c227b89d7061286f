"""Stripe's settlement report is read whole and exactly, or refused with the line and column. Source: failures.md L10."""

import io
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.psp.stripe.currency import DECIMALS, major_units
from tests.unit.settlement_sample import (
    HEADING,
    judge,
    manifest,
    payout_row,
    read,
    report,
    row,
    three_rows,
)
from zerosum.domain.identity import Tenant
from zerosum.domain.money import EXPONENTS, Money
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.domain.settlement_control import Controls, Manifest, Sums
from zerosum.limits import (
    SETTLEMENT_CELL_LENGTH_MAX,
    SETTLEMENT_LINE_BYTES_MAX,
    SETTLEMENT_MANIFEST_BYTES_MAX,
    SETTLEMENT_PAYOUTS_MAX,
)
from zerosum.psp.dialect import DIALECTS
from zerosum.psp.stripe import PSP
from zerosum.psp.stripe.amount import from_stripe
from zerosum.psp.stripe.settlement import COLUMNS, amount_of, read_lines
from zerosum.psp.stripe.settlement_manifest import read_manifest

ORDER = "payment_metadata[payment_order_id]"
NOON_MS = 1_795_694_400_000
"""2026-11-26 12:00:00 UTC."""


# ---- what is read --------------------------------------------------------------------------------------------------


def test_a_row_becomes_a_line_in_our_words() -> None:
    lines, refused, _ = read(report([row(7, **{"refund_metadata[refund_key]": "r"})]))

    assert refused is None
    assert lines == [
        Line(
            psp="stripe", number=1, id="txn_7", category=Category.CHARGE, object_id="pi_7", tenant=Tenant("t"),
            checkout_id="c7", reference="o7", refund_key="r", gross=Money(10_000, "EUR"), fee_minor=320,
            net_minor=9_680, created_at_ms=NOON_MS, payout_id="po_1",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("category", Category)
def test_every_category_of_ours_is_one_of_stripes(category: Category) -> None:
    (line,), refused, _ = read(report([row(reporting_category=category.value)]))

    assert (line.category, refused) == (category, None)


@pytest.mark.slow
@given(st.permutations(HEADING), st.booleans())
def test_columns_stand_in_any_order_and_others_are_ignored(heading: list[str], has_mark: bool) -> None:
    """Spreadsheets also put a byte order mark at the beginning."""
    content = report(three_rows(), heading)

    assert read((b"\xef\xbb\xbf" if has_mark else b"") + content)[0] == read(report(three_rows()))[0]


def test_lines_end_as_on_other_systems_too() -> None:
    assert read(report(three_rows()).replace(b"\n", b"\r\n"))[0] == read(report(three_rows()))[0]


def test_a_formula_is_data_and_a_cell_may_hold_commas_quotes_and_line_feeds() -> None:
    """Security test 8: what a spreadsheet would run is a reference like any other, kept as it came."""
    formula = '=HYPERLINK("http://x","a,b")\n+1'

    (line,), refused, _ = read(report([row(1, **{ORDER: formula, "description": "@SUM(A1)"})]))

    assert (line.reference, refused) == (formula, None)


@pytest.mark.parametrize(
    ("currency", "text", "amount_minor"),
    [("usd", "-12.34", -1234), ("jpy", "500", 500), ("kwd", "1.234", 1234), ("isk", "12.00", 12), ("ugx", "-3.00", -3),
     ("mga", "12", 1200), ("eur", "0.00", 0), ("eur", "5", 500)],
)  # fmt: skip
def test_amounts_have_stripes_decimals(currency: str, text: str, amount_minor: int) -> None:
    """ISK and UGX are written with two decimals that they do not have, MGA without those that it has."""
    assert amount_of(text, currency.upper(), "gross") == Money(amount_minor, currency.upper())


@pytest.mark.slow
@given(st.sampled_from(sorted(code for code in DECIMALS if code.upper() in EXPONENTS)), st.integers(-(10**9), 10**9))
def test_what_the_psp_writes_is_read_back_to_the_minor_unit(currency: str, stripes_minor: int) -> None:
    """Method: the simulator's own writer. What our minor units cannot say is refused, never rounded."""
    expected = from_stripe(stripes_minor, currency)

    found = amount_of(major_units(stripes_minor, currency), currency.upper(), "gross")

    assert found == expected if expected is not None else isinstance(found, Refusal)


# ---- what is refused -----------------------------------------------------------------------------------------------

WRONG_CELLS = [
    ("gross", "100.01", Reason.MALFORMED, "net"),
    ("gross", "1e2", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", "\u0661\u0660\u0660.00", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", "=100.00", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", " 100.00", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", "+100.00", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", "-0.00", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", "1,00", Reason.AMOUNT_MALFORMED, "gross"),
    ("gross", "", Reason.AMOUNT_MALFORMED, "gross"),
    ("fee", "NaN", Reason.AMOUNT_MALFORMED, "fee"),
    ("fee", "3.205", Reason.AMOUNT_TOO_PRECISE, "fee"),
    ("net", "9" * 18 + ".00", Reason.AMOUNT_TOO_LARGE, "net"),
    ("currency", "EUR", Reason.CURRENCY_UNKNOWN, "currency"),
    ("currency", "xxx", Reason.CURRENCY_UNKNOWN, "currency"),
    ("created_utc", "2026-02-30 00:00:00", Reason.MALFORMED, "created_utc"),
    ("created_utc", "2026-11-26 24:00:00", Reason.MALFORMED, "created_utc"),
    ("created_utc", "2026-11-26T12:00:00Z", Reason.MALFORMED, "created_utc"),
    ("created_utc", "1969-12-31 23:59:59", Reason.MALFORMED, "created_utc"),
    ("created_utc", "2026-11-26 12:00:00\n", Reason.MALFORMED, "created_utc"),
    ("reporting_category", "payment_refund", Reason.MALFORMED, "reporting_category"),
    ("reporting_category", "Charge", Reason.MALFORMED, "reporting_category"),
    ("balance_transaction_id", "", Reason.MALFORMED, "balance_transaction_id"),
    ("balance_transaction_id", "txn 1", Reason.MALFORMED, "balance_transaction_id"),
    ("balance_transaction_id", "x" * 256, Reason.MALFORMED, "balance_transaction_id"),
    ("payment_intent_id", "pi-1", Reason.MALFORMED, "payment_intent_id"),
    (ORDER, "o" * 501, Reason.MALFORMED, ORDER),
    (ORDER, "4242 4242 4242 4242", Reason.CARD_NUMBER, ORDER),
    ("payment_intent_id", "4242424242424242", Reason.CARD_NUMBER, "payment_intent_id"),
]


@pytest.mark.parametrize(("column", "cell", "reason", "told"), WRONG_CELLS)
def test_a_cell_that_does_not_hold_is_refused_with_its_line_and_column(
    column: str, cell: str, reason: Reason, told: str
) -> None:
    lines, refused, _ = read(report([row(1), row(2, **{column: cell}), row(3)]))

    assert [line.id for line in lines] == ["txn_1"]
    assert refused is not None
    assert (refused.reason, refused.field) == (reason, f"lines[2].{told}")
    assert not cell.strip() or cell.strip() not in refused.message


@pytest.mark.parametrize("column", COLUMNS)
def test_a_heading_without_a_column_or_with_one_twice_is_refused(column: str) -> None:
    without = [name for name in HEADING if name != column]

    found = [read(report(three_rows(), heading))[1] for heading in (without, [*HEADING, column])]

    assert [(one.reason, one.field) for one in found if one] == [(Reason.MALFORMED, f"heading.{column}")] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (report([row()])[:-1], "the last line does not end: the file is cut off"),
        (report([row()]) + b"\0\n", "the line holds U+0000"),
        (report([row()]) + b"\xff\n", "the line is not UTF-8"),
        (report([row()]).decode().encode("utf-16"), "the line holds U+0000"),
        (report([row()]) + b"\n", "the line has another number of cells than the heading"),
        (report([row()]) + b'"' + b"x\n" * SETTLEMENT_LINE_BYTES_MAX, "the line is too long"),
        (report([row()]) + b"x" * (SETTLEMENT_LINE_BYTES_MAX + 1) + b"\n", "the line is too long"),
        (report([row()]) + b'"a"b,\n', "the line is not CSV as RFC 4180 has it"),
        (report([row()]) + b'"never closed\n', "the line is not CSV as RFC 4180 has it"),
        (report([row(description="x" * (SETTLEMENT_CELL_LENGTH_MAX + 1))]), "a cell is too long"),
        (report([row(reporting_category="payout", automatic_payout_id="")]), "a payout without an id"),
    ],
)
def test_bytes_that_are_no_report_are_refused(content: bytes, message: str) -> None:
    _, refused, _ = read(content)

    assert refused is not None
    assert refused.message == message


def test_quotes_inside_cells_do_not_add_lines_up() -> None:
    """A stray quote is data; the cap is of one line, not of all that follow it."""
    rows = [row(number, description='5" screw') for number in range(1, 900)]

    lines, refused, _ = read(report(rows).replace(b'"5"" screw"', b'5" screw'))

    assert (len(lines), refused) == (899, None)


def test_memory_does_not_grow_with_the_file() -> None:
    """Reads ahead by at most one line: what the reader holds is what it has asked for."""
    content = io.BytesIO(report([row(number) for number in range(1_000)]))

    lines = read_lines(content, Controls())
    next(lines)

    assert content.tell() < 1_000


# ---- whole or not at all -------------------------------------------------------------------------------------------


def test_a_whole_file_holds_with_its_manifest_and_by_its_payouts_alone() -> None:
    content = report(three_rows())

    assert (judge(content, manifest(content, three_rows())), judge(content, None)) == (None, None)


def test_controls_add_up_what_was_read() -> None:
    _, _, controls = read(report(three_rows()))

    assert (controls.rows, dict(controls.sums)) == (4, {"EUR": Sums(10_000, 640, 9_360)})
    assert controls.period_ms == (NOON_MS, NOON_MS + 1)


@pytest.mark.slow
def test_a_file_cut_at_any_byte_is_refused_with_its_manifest_and_without() -> None:
    """The rest of a file is a file of its own now and then, but never one whose totals hold."""
    content = report(three_rows())
    told = manifest(content, three_rows())

    taken = [at for at in range(len(content)) if not (judge(content[:at], told) and judge(content[:at], None))]

    assert taken == []


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"rows": 5}, "rows"),
        ({"sums": {"eur": {"gross": "100.01", "fee": "6.40", "net": "93.60"}}}, "sums[EUR].gross"),
        ({"sums": {"eur": {"gross": "100.00", "fee": "6.41", "net": "93.60"}}}, "sums[EUR].fee"),
        ({"sums": {"eur": {"gross": "100.00", "fee": "6.40", "net": "93.61"}}}, "sums[EUR].net"),
        ({"sums": {}}, "sums[EUR].gross"),
        ({"payouts": [{"id": "po_1", "currency": "eur", "amount": "93.61"}]}, "payouts[po_1]"),
        ({"payouts": [{"id": "po_2", "currency": "eur", "amount": "1.00"}]}, "payouts[po_2]"),
        ({"sha256": "0" * 64}, "sha256"),
    ],
)
def test_a_manifest_that_says_otherwise_names_what_differs(changed: dict[str, Any], field: str) -> None:
    content = report(three_rows())

    refused = judge(content, manifest(content, three_rows(), **changed))

    assert refused is not None
    assert (refused.reason, refused.field) == (Reason.CONTROLS_DIFFER, field)


@pytest.mark.parametrize(
    "rows",
    [
        [row(1), payout_row("-96.81")],
        [row(1), payout_row("-96.80"), payout_row("-96.80")],
        [row(1), row(2, automatic_payout_id="po_2"), payout_row("-96.80")],
        [row(1, automatic_payout_id="")],
        [row(1, automatic_payout_id=""), row(2), payout_row("-96.80")],
        [],
    ],
)
def test_without_a_manifest_every_line_must_be_in_a_payout_that_adds_up(rows: list[dict[str, str]]) -> None:
    refused = judge(report(rows), None)

    assert refused is not None
    assert (refused.reason, refused.field.partition("[")[0]) == (Reason.CONTROLS_DIFFER, "payouts")


def test_an_empty_day_is_whole_where_the_manifest_says_so() -> None:
    content = report([])

    assert judge(content, manifest(content, [], sums={}, payouts=[])) is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"report_type": "balance"}, "manifest.report_type"),
        ({"rows": True}, "manifest.rows"),
        ({"rows": -1}, "manifest.rows"),
        ({"version": 0}, "manifest.version"),
        ({"version": 2**31}, "manifest.version"),
        ({"period": {"from_ms": 5, "to_ms": 10**15}}, "manifest.period"),
        ({"sha256": "x"}, "manifest.sha256"),
        ({"period": {"from_ms": 5, "to_ms": 5}}, "manifest.period"),
        ({"period": None}, "manifest.period"),
        ({"sums": []}, "manifest.sums"),
        ({"sums": {"EUR": {}}}, "manifest.sums"),
        ({"sums": {"eur": {"gross": 1, "fee": 1, "net": 1}}}, "manifest.sums"),
        ({"sums": {"eur": {"gross": "1e2", "fee": "1", "net": "1"}}}, "manifest.sums.amount"),
        ({"payouts": {}}, "manifest.payouts"),
        ({"payouts": [1]}, "manifest.payouts[0]"),
        ({"payouts": [{"id": "po 1"}]}, "manifest.payouts[0]"),
        ({"payouts": [{"id": "po_1", "currency": "eur", "amount": 1}]}, "manifest.payouts[0]"),
    ],
)
def test_a_manifest_that_is_not_as_agreed_is_refused_with_its_path(changed: dict[str, Any], field: str) -> None:
    refused = read_manifest(manifest(report([]), [], **changed))

    assert isinstance(refused, Refusal)
    assert refused.field == field


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"1", b'{"rows": ' + b"9" * 5_000 + b"}"])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    assert isinstance(read_manifest(content), Refusal)


# ---- whatever comes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_corruptions_end_in_a_refusal_or_in_the_same_lines(seed: int) -> None:
    """1,000 in all: bytes flipped, cut out, doubled and moved. With its manifest no altered file is ever taken."""
    chance = random.Random(seed)
    content = report(three_rows())
    told = manifest(content, three_rows())

    for _ in range(100):
        spoiled = _spoiled(content, chance)
        assert (judge(spoiled, told) is None) == (spoiled == content)
        assert judge(told, None) is not None


def _spoiled(content: bytes, chance: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.randrange(len(made)) for _ in range(2))
        match chance.randrange(4):
            case 0:
                made[at] = chance.randrange(256)
            case 1:
                del made[at:end]
            case 2:
                made[at:at] = made[at:end]
            case _:
                made += made[at:end]
        made = made or bytearray(b"x")
    return bytes(made)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_nothing_but_a_refusal_comes_of_chance(content: bytes) -> None:
    lines, refused, _ = read(content)

    assert (lines, refused is not None) == ([], True)


junk = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()


@pytest.mark.slow
@given(
    st.sampled_from(["rows", "sums", "payouts", "sha256", "version", "period", "report_type"]),
    junk | st.lists(junk, max_size=2) | st.dictionaries(st.sampled_from(["eur", "from_ms", "id"]), junk, max_size=2),
)
def test_nothing_but_a_refusal_or_a_manifest_comes_of_one_with_junk_in_it(name: str, value: object) -> None:
    assert isinstance(read_manifest(manifest(report([]), [], **{name: value})), Manifest | Refusal)


def test_our_psp_has_a_dialect() -> None:
    assert set(DIALECTS) == {PSP}
    assert DIALECTS[PSP].read_lines is read_lines


def test_a_file_of_more_payouts_than_anybody_makes_is_refused_before_it_fills_the_memory() -> None:
    (line,), _, _ = read(report([row(1)]))
    controls = Controls()

    refused = [controls.add(replace(line, payout_id=f"po_{number}")) for number in range(SETTLEMENT_PAYOUTS_MAX + 1)]

    assert [one.reason for one in refused if one] == [Reason.MALFORMED]
    assert refused[-1] is not None


def test_a_manifest_of_more_payouts_than_anybody_makes_is_refused() -> None:
    payouts = [
        {"id": f"po_{number}", "currency": "eur", "amount": "1.00"} for number in range(SETTLEMENT_PAYOUTS_MAX + 1)
    ]

    refused = read_manifest(manifest(report([]), [], payouts=payouts))

    assert isinstance(refused, Refusal)
    assert refused.field == "manifest.payouts"


def test_a_manifest_that_is_too_large_is_not_even_read() -> None:
    refused = read_manifest(manifest(report([]), []) + b" " * SETTLEMENT_MANIFEST_BYTES_MAX)

    assert isinstance(refused, Refusal)
    assert (refused.field, refused.message) == ("manifest", "the manifest is too large")
