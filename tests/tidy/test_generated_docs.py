"""Pages that are drawn from tables say what the tables say. Method: draw again, compare. Source: design section 5."""

import re
import runpy
from pathlib import Path

from docs.reconciliation_kinds import MEANINGS, example_of
from zerosum.crash import Point
from zerosum.domain.case import Act, CaseState
from zerosum.domain.discrepancy import Kind
from zerosum.domain.order import OrderEvent, OrderStatus
from zerosum.domain.retry import BUDGETS, Budget
from zerosum.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
DRAW = runpy.run_path(str(ROOT / "docs" / "draw.py"))


def test_the_page_of_order_states_is_what_the_table_says() -> None:
    """If this fails: `python docs/draw.py`."""
    page = (ROOT / "docs" / "order-states.md").read_text(encoding="utf-8")

    assert page == DRAW["order_states"]()
    assert DRAW["main"](["--check"]) == 0


def test_the_page_of_crash_points_is_what_the_code_says() -> None:
    """If this fails: `python docs/draw.py`."""
    page = (ROOT / "docs" / "crash-points.md").read_text(encoding="utf-8")

    assert page == DRAW["crash_points"]()
    assert set(DRAW["PAIRS"]) == {str(point).partition(".")[0] for point in Point}


def test_the_page_of_case_states_is_what_the_table_says() -> None:
    """If this fails: `python docs/draw.py`."""
    page = (ROOT / "docs" / "case-states.md").read_text(encoding="utf-8")

    assert page == DRAW["case_states"]()
    assert set(DRAW["CASE_MEANINGS"]) == set(CaseState)
    assert [name for name in (*CaseState, *Act) if name not in page] == []


def test_every_status_and_event_is_on_the_page_and_every_status_is_explained() -> None:
    page = DRAW["order_states"]()

    assert set(DRAW["MEANINGS"]) == set(OrderStatus)
    assert [name for name in (*OrderStatus, *OrderEvent) if name not in page] == []


def test_the_table_of_settings_in_the_readme_is_what_the_code_reads() -> None:
    """If this fails: explain the setting in docs/draw.py, then `python docs/draw.py`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert set(DRAW["SETTINGS"]) == set(Settings.model_fields)
    assert DRAW["settings_table"]() in text
    assert DRAW["readme"](text) == text


def test_the_page_of_reconciliation_is_what_the_code_finds() -> None:
    """If this fails: explain the kind in docs/reconciliation_kinds.py, then `python docs/draw.py`."""
    page = (ROOT / "docs" / "reconciliation.md").read_text(encoding="utf-8")

    assert set(MEANINGS) == set(Kind)
    assert DRAW["reconciliation"](page) == page
    assert [kind for kind in Kind if f"#### {kind}\n" not in page] == []


def test_every_example_on_the_page_of_reconciliation_is_one_of_its_kind() -> None:
    """Method: the real matching judges each."""
    found = {kind: example_of(kind) for kind in Kind}

    assert [kind for kind, case in found.items() if case is not None and case.kind is not kind] == []
    assert [kind for kind, case in found.items() if case is None] == [Kind.PAYMENT_CASE]


def test_operations_say_of_every_kind_of_dead_letter_where_the_money_stands() -> None:
    """What has a budget without an end dies of nothing. Method: the first table below the heading, first column."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("\n## Dead letters\n")[2].partition("|---|---|---|\n")[2].partition("\n\n")[0]

    told = [kind for row in table.splitlines() for kind in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(told) == sorted(kind for kind, budget in BUDGETS.items() if budget != Budget(None, False))
