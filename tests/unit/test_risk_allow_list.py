"""The allow-list: who stands in the file is blocked, and an unreadable file blocks everyone for now. Source: row P8."""

import os
from pathlib import Path

import pytest

from zerosum.domain.identity import CheckoutId, Tenant
from zerosum.domain.message import Verdict
from zerosum.domain.money import Money
from zerosum.domain.request import AssessRisk
from zerosum.errors import NotSent, OutcomeUnknown
from zerosum.ports import RiskAnswer, RiskCheck
from zerosum.risk.allow_list import AllowList

ALLOWED = RiskAnswer(Verdict.ALLOW, "")
BUYER_BLOCKED = RiskAnswer(Verdict.BLOCK, "buyer_blocked")
SELLER_BLOCKED = RiskAnswer(Verdict.BLOCK, "seller_blocked")


class FailingRiskCheck:
    """Implements `RiskCheck` by raising: what the rest of the house must survive."""

    def __init__(self, trouble: NotSent | OutcomeUnknown) -> None:
        self._trouble = trouble

    async def assess(self, request: AssessRisk) -> RiskAnswer:
        raise self._trouble


def request(buyer: str = "b1", *sellers: str) -> AssessRisk:
    return AssessRisk(
        Tenant("t"), CheckoutId("c1"), buyer, tuple((seller, Money(100, "EUR")) for seller in sellers or ("s1",))
    )


def written(path: Path, text: str, *, at_s: int) -> Path:
    """The file with this text and this time of change: two writes may fall into one tick of the file system's clock."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (at_s, at_s))
    return path


async def test_without_a_file_everyone_is_allowed() -> None:
    check: RiskCheck = AllowList(None)

    assert await check.assess(request()) == ALLOWED


async def test_who_stands_in_the_file_is_blocked_with_the_reason(tmp_path: Path) -> None:
    check = AllowList(written(tmp_path / "blocked", "# fraud team, case 7\n\n b-bad \r\ns-bad\n", at_s=1))

    assert await check.assess(request("b1", "s1", "s2")) == ALLOWED
    assert await check.assess(request("b-bad", "s1")) == BUYER_BLOCKED
    assert await check.assess(request("b1", "s1", "s-bad")) == SELLER_BLOCKED
    assert await check.assess(request("b-bad", "s-bad")) == BUYER_BLOCKED


async def test_the_verdict_at_once_is_the_same_and_none_where_the_file_is_away(tmp_path: Path) -> None:
    """P8: what cannot be read is no verdict; the checkout is stored and asks again."""
    check = AllowList(written(tmp_path / "blocked", "b-bad\n", at_s=1))

    assert (check.judge(request("b1")), check.judge(request("b-bad"))) == (ALLOWED, BUYER_BLOCKED)
    (tmp_path / "blocked").unlink()
    assert check.judge(request("b1")) is None


async def test_only_the_whole_account_is_meant(tmp_path: Path) -> None:
    check = AllowList(written(tmp_path / "blocked", "b1\n", at_s=1))

    assert await check.assess(request("b10")) == ALLOWED
    assert await check.assess(request("B1")) == ALLOWED
    assert await check.assess(request("#")) == ALLOWED


async def test_a_changed_file_counts_from_the_next_verdict(tmp_path: Path) -> None:
    path = written(tmp_path / "blocked", "b1\n", at_s=1)
    check = AllowList(path)
    assert await check.assess(request("b1")) == BUYER_BLOCKED

    written(path, "b2\n", at_s=2)
    assert await check.assess(request("b1")) == ALLOWED
    assert await check.assess(request("b2")) == BUYER_BLOCKED


async def test_a_file_replaced_within_one_tick_of_the_clock_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "blocked", "b1\n", at_s=1)
    check = AllowList(path)
    assert await check.assess(request("b1")) == BUYER_BLOCKED

    written(tmp_path / "next", "b2\n", at_s=1).replace(path)
    assert await check.assess(request("b1")) == ALLOWED
    assert await check.assess(request("b2")) == BUYER_BLOCKED


async def test_an_empty_file_blocks_nobody(tmp_path: Path) -> None:
    assert await AllowList(written(tmp_path / "blocked", "", at_s=1)).assess(request()) == ALLOWED


async def test_a_missing_file_gives_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(NotSent):
        await AllowList(tmp_path / "nowhere").assess(request())


async def test_a_file_that_vanishes_gives_no_verdict_and_one_that_comes_back_does(tmp_path: Path) -> None:
    """What was read before is not trusted once the file cannot be looked at."""
    path = written(tmp_path / "blocked", "b1\n", at_s=1)
    check = AllowList(path)
    assert await check.assess(request("b2")) == ALLOWED

    path.unlink()
    with pytest.raises(NotSent):
        await check.assess(request("b2"))

    written(path, "b2\n", at_s=1)
    assert await check.assess(request("b2")) == BUYER_BLOCKED


async def test_a_file_that_is_no_text_gives_no_verdict_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "blocked"
    path.write_bytes(b"b1\n\xff\xfe")
    check = AllowList(path)

    for _ in range(2):
        with pytest.raises(NotSent):
            await check.assess(request())


async def test_a_folder_in_the_place_of_the_file_gives_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(NotSent):
        await AllowList(tmp_path).assess(request())


async def test_the_error_names_neither_the_path_nor_an_account(tmp_path: Path) -> None:
    with pytest.raises(NotSent) as raised:
        await AllowList(tmp_path / "nowhere").assess(request("b-secret"))

    assert str(tmp_path) not in str(raised.value)
    assert "b-secret" not in str(raised.value)


@pytest.mark.parametrize("trouble", [NotSent("away"), OutcomeUnknown("silent")], ids=["not sent", "unknown"])
async def test_a_failing_check_raises_what_its_port_promises(trouble: NotSent | OutcomeUnknown) -> None:
    check: RiskCheck = FailingRiskCheck(trouble)

    with pytest.raises(type(trouble)):
        await check.assess(request())
