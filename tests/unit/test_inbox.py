"""The watched folder: a file is taken once, whoever dies, and what is wrong with one holds up no other."""

from pathlib import Path

import pytest

from actors.inbox import RECEIVED_BY, Inbox
from tests.unit.reconciler_fakes import House
from zerosum.errors import RowsRefused
from zerosum.reconciling import FileState, RunKey, RunKind

YESTERDAY = RunKey(RunKind.NIGHTLY, "stripe", "2026-11-25")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house of its own."""
    return House(tmp_path)


async def test_a_file_with_its_manifest_is_taken_at_once_and_put_away(house: House) -> None:
    house.put("day.csv", manifest='{"rows": 1}')
    taken = await Inbox(house.root, house.files, ["stripe"]).look()

    assert taken == 1
    (told,) = house.files.told
    assert (told.psp, told.name, told.manifest, told.received_by) == ("stripe", "day.csv", '{"rows": 1}', RECEIVED_BY)
    assert house.names("inbox/stripe") == []
    assert house.names("done") == ["day.csv", "day.manifest.json"]


async def test_a_manifest_may_bear_the_whole_name_of_its_file(house: House) -> None:
    """The one that does goes before the one that several files might share."""
    house.put("day.csv", manifest='{"rows": 1}').with_name("day.csv.manifest.json").write_text('{"rows": 2}')
    house.put("next.csv", b"good too").with_name("next.csv.manifest.json").write_text('{"rows": 3}')
    taken = await Inbox(house.root, house.files, ["stripe"]).look()

    assert (taken, [told.manifest for told in house.files.told]) == (2, ['{"rows": 2}', '{"rows": 3}'])
    assert house.names("inbox/stripe") == ["day.manifest.json"]
    assert house.names("done") == ["day.csv", "day.csv.manifest.json", "next.csv", "next.csv.manifest.json"]


async def test_a_file_without_manifest_counts_when_it_has_not_grown_since_the_look_before(house: House) -> None:
    inbox = Inbox(house.root, house.files, ["stripe"])
    path = house.put("day.csv", b"good")
    first = await inbox.look()
    path.write_bytes(b"good and more")
    second = await inbox.look()
    third = await inbox.look()

    assert (first, second, third) == (0, 0, 1)
    assert [row.state for row in house.files.rows.values()] == [FileState.ACCEPTED]


async def test_a_refused_file_is_put_aside_with_its_reason(house: House) -> None:
    house.put("day.csv", b"bad", manifest="{}")
    await Inbox(house.root, house.files, ["stripe"]).look()

    assert house.names("refused") == ["day.csv", "day.csv.reason.txt", "day.manifest.json"]
    assert [path.read_text() for path in (house.root / "refused").glob("*.reason.txt")] == ["rows differ\n"]


async def test_a_file_waits_in_the_inbox_while_the_database_is_away(house: House) -> None:
    """Nothing leaves before it is recorded."""
    house.put("day.csv", manifest="{}")
    house.files.away = 1
    inbox = Inbox(house.root, house.files, ["stripe"])

    assert (await inbox.look(), house.names("inbox/stripe")) == (0, ["day.csv", "day.manifest.json"])
    assert (await inbox.look(), house.names("inbox/stripe")) == (1, [])


async def test_a_copy_that_died_between_recording_and_putting_away_changes_nothing(house: House) -> None:
    """The file is still there and known by its bytes: put away, and recorded once."""
    house.put("day.csv", manifest="{}")
    await Inbox(house.root, house.files, ["stripe"]).look()
    house.put("day.csv", manifest="{}")
    again = await Inbox(house.root, house.files, ["stripe"]).look()

    assert again == 1
    assert len(house.files.rows) == 1
    assert house.names("inbox/stripe") == []


@pytest.mark.parametrize("name", [".day.csv", "day.csv.tmp", "day.csv.part", "day.manifest.json"])
async def test_what_is_no_finished_file_is_left_alone(house: House, name: str) -> None:
    house.put(name)
    inbox = Inbox(house.root, house.files, ["stripe"])
    looks = [await inbox.look() for _ in range(3)]

    assert looks == [0, 0, 0]
    assert house.names("inbox/stripe") == [name]


@pytest.mark.parametrize("trouble", [RowsRefused("22P05"), PermissionError(13, "Permission denied")])
async def test_a_file_that_cannot_be_taken_holds_up_neither_the_others_nor_what_is_due(
    house: House, trouble: Exception
) -> None:
    """One bad file in the folder: the next is taken, the day is run, what waits is sent; and it stays for people."""
    house.put("a.csv", b"odd", manifest="{}")
    house.put("b.csv", b"good", manifest="{}")
    house.files.troubles[b"odd"] = trouble
    house.outbox.waiting = 1
    reconciler = house.copy()

    await reconciler.tick()

    assert house.names("inbox/stripe") == ["a.csv", "a.manifest.json"]
    assert (reconciler.figures.files, reconciler.figures.sent) == (1, 1)
    assert (YESTERDAY, 1) in house.ran()


async def test_a_name_that_is_too_long_to_be_put_away_is_told_and_stays(house: House) -> None:
    """The file system's own limit is no reason to stop."""
    house.put("n" * 245 + ".csv")
    inbox = Inbox(house.root, house.files, ["stripe"])

    assert [await inbox.look() for _ in range(3)] == [0, 0, 0]
    assert len(house.names("inbox/stripe")) == 1


@pytest.mark.parametrize("name", ["day.manifest.json", "day.csv.manifest.json"])
async def test_a_manifest_that_is_still_empty_is_waited_for(house: House, name: str) -> None:
    """Whoever writes it has only opened it: the file does not count without it."""
    path = house.put("day.csv")
    manifest = path.with_name(name)
    manifest.touch()
    inbox = Inbox(house.root, house.files, ["stripe"])
    before = [await inbox.look() for _ in range(3)]
    manifest.write_text("{}")

    assert (before, await inbox.look()) == ([0, 0, 0], 1)
    assert [told.manifest for told in house.files.told] == ["{}"]


async def test_who_dies_while_a_refused_file_is_put_away_leaves_no_file_without_its_manifest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: the process ends at each of the two moves. Without the manifest the file might count."""
    moves = 0

    def dies(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves % 2 == 0:
            raise MemoryError("the process is gone")
        return self.rename(target)

    house.put("day.csv", b"bad", manifest="{}")
    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(MemoryError):
        await Inbox(house.root, house.files, ["stripe"]).look()

    assert house.names("inbox/stripe") == ["day.manifest.json"]


@pytest.mark.parametrize("is_in_place", [False, True], ids=["renamed over", "written on"])
async def test_a_file_that_comes_under_the_name_of_one_that_is_being_taken_is_taken_next(
    house: House, is_in_place: bool
) -> None:
    """Reading takes minutes for a large file. Put away under the id of the first, the second would never be imported."""
    path = house.put("day.csv", b"first")
    inbox = Inbox(house.root, house.files, ["stripe"])
    await inbox.look()

    def comes() -> None:
        target = path if is_in_place else path.with_name("day.csv.part")
        target.write_bytes(b"second, longer")
        target.rename(path)

    house.files.while_taking = comes
    looks = [await inbox.look()]
    house.files.while_taking = None
    waits = house.names("inbox/stripe")
    looks += [await inbox.look() for _ in range(2)]

    assert (looks, waits) == ([1, 0, 1], ["day.csv"])
    assert [len(house.files.rows), house.names("inbox/stripe")] == [2, []]
    assert [each.read_bytes() for each in (house.root / "done").iterdir()] == [b"second, longer"]


async def test_a_manifest_that_comes_with_the_next_file_while_one_is_taken_stays_with_that_file(house: House) -> None:
    """What nobody has read is not put away: neither the file nor what says that it is whole."""
    path = house.put("day.csv", b"first", manifest='{"version": 1}')
    inbox = Inbox(house.root, house.files, ["stripe"])

    def comes() -> None:
        for name, content in (("day.csv", b"second"), ("day.manifest.json", b'{"version": 2}')):
            path.with_name("next.part").write_bytes(content)
            path.with_name("next.part").rename(path.with_name(name))

    house.files.while_taking = comes
    first = await inbox.look()
    house.files.while_taking = None
    second = await inbox.look()

    assert (first, second) == (1, 1)
    assert [told.manifest for told in house.files.told] == ['{"version": 1}', '{"version": 2}']
    assert house.names("inbox/stripe") == []
