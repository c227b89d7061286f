"""The pages of decisions have one form, and name code that exists."""

import re
from pathlib import Path

import pytest

from tests.tidy.tree import ROOT

FOLDER = ROOT / "docs" / "adr"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
HEAD = re.compile(r"# (\d+)\. [^\n]+\n\nAccepted, [A-Z][a-z]+ \d{4}\. Code: ([^\n]*`)\.\n\n## Context\n\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_its_number_its_status_its_date_and_its_code(page: Path) -> None:
    """Then context, choice and cost, in this order; what was measured, or passed over, stands between."""
    text = page.read_text(encoding="utf-8")
    head = HEAD.match(text)
    parts = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)

    assert head is not None
    assert int(head[1]) == int(page.name[:4])
    assert (parts[:2], parts[-1]) == (["Context", "Choice"], "Cost")
    assert [named for named in re.findall(r"`([\w/]+\.py)`", head[2]) if not (ROOT / named).exists()] == []


def test_every_page_is_in_the_list_under_its_number() -> None:
    listed = re.findall(r"^(\d+)\. \[.*\]\((.*)\)$", (FOLDER / "README.md").read_text("utf-8"), flags=re.MULTILINE)

    assert [(int(number), name) for number, name in listed] == [(int(page.name[:4]), page.name) for page in PAGES]


def test_no_page_names_a_command_by_an_old_name() -> None:
    """`bench knee` is hidden: who copies it finds no help of it."""
    assert [page.name for page in PAGES if "bench knee" in page.read_text(encoding="utf-8")] == []
