"""Refused settlement files that nothing was accepted for since: what an alert stands for, and what ends it (L10, L11).

Each test has a PSP of its own, and looks at that one's.
"""

import io

import pytest

from tests.contract.reconciliation_desk import Desk, File
from zerosum.reconciling import Incoming
from zerosum.store.reconciliation.store import Reconciliation


async def standing(desk: Desk, store: Reconciliation) -> list[str]:
    """Ids of the refused files of the PSP that stand."""
    return [file.file_id for file in await store.files.refused() if file.psp == desk.psp]


def cut(file: File, manifest: str = "") -> File:
    """Half of it."""
    return File(file.content[: len(file.content) // 2], manifest)


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_refused_file_stands_until_the_whole_one_of_its_day_is_accepted(desk: Desk, is_told: bool) -> None:
    """With and without a manifest. A file of another day is none for it."""
    store = desk.open()
    file, other = desk.file(desk.orders(7)), desk.file(desk.orders(2, day=1), day=1)

    refused = await desk.take(store, cut(file, file.manifest if is_told else ""))
    await desk.take(store, other if is_told else File(other.content, ""))
    before = await standing(desk, store)
    await desk.take(store, file if is_told else File(file.content, ""))

    assert before == [refused.file.file_id]
    assert await standing(desk, store) == []


async def test_a_refused_re_issue_stands_although_its_day_has_a_file(desk: Desk) -> None:
    """The version accepted before is what the re-issue was to correct. The next one ends it, also once it is replaced."""
    store, orders = desk.open(), desk.orders(5)
    await desk.take(store, desk.file(orders))
    second = desk.file(orders[:4])

    await desk.take(store, cut(second, second.manifest))
    before = await standing(desk, store)
    await desk.take(store, second)
    after = await standing(desk, store)
    await desk.take(store, desk.file(orders[:3]))

    assert (len(before), after) == (1, [])
    assert await standing(desk, store) == []


async def test_bytes_refused_for_their_manifest_stand_until_the_right_one_comes(desk: Desk) -> None:
    store, orders = desk.open(), desk.orders(3)
    file, other = desk.file(orders), desk.file(orders[:2])

    await desk.take(store, File(file.content, other.manifest))
    before = await standing(desk, store)
    await desk.take(store, file)

    assert (len(before), await standing(desk, store)) == (1, [])


async def test_what_nothing_could_be_read_of_stands_until_a_file_of_its_name_is_accepted_or_a_month_is_over(
    desk: Desk,
) -> None:
    """Nobody knows its day."""
    store = desk.open()
    names = ("a.csv", "b.csv")
    refused = []
    for name in names:
        content = io.BytesIO(f"{desk.psp} {name}".encode())
        refused.append((await store.files.take(content, Incoming(desk.psp, name, "", "test"))).file.file_id)
    file = desk.file(desk.orders(1))
    before = await standing(desk, store)
    await store.files.take(io.BytesIO(file.content), Incoming(desk.psp, "a.csv", file.manifest, "test"))
    after = await standing(desk, store)
    desk.rows(
        "UPDATE reconciliation.files SET decided_at_ms = decided_at_ms - CAST(31 AS INT8) * 86400000 WHERE file_id = %s",
        refused[1],
    )

    assert sorted(before) == sorted(refused)
    assert after == [refused[1]]
    assert await standing(desk, store) == []
