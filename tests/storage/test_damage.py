"""Bits that flip on the disk are found by the read that meets them and by fsck, and never come out as data."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.changes import (
    CloneObject,
    DropPages,
    PutPages,
    PutSegment,
    PutSpace,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import StoreDamaged, StoreFailed, StoreUnusable
from storage.lmdb.housekeeping import Tuning
from storage.upkeep.backup import back_up
from storage.upkeep.compaction import compact
from storage.upkeep.fsck import check_dir
from storage.upkeep.repair import repair

PAGE = X86_64.page_size
SEGMENT = SegmentRecord(1, "heap", 0, 1 << 30, 0o600, 0, 0, "shared", 1)
TOLD = "page 70 of object 1 is damaged: checksum mismatch in slot 7: offset 0x46000 of segment 1$"


def content(page: int) -> bytes:
    return random.Random(page).randbytes(PAGE)


def fill(data_dir: Path, count: int) -> None:
    store = open_store(data_dir, X86_64)
    pages = tuple(range(count))
    store.commit([[PutSegment(SEGMENT), PutPages(1, pages, b"".join(map(content, pages)))]])
    store.close()


def flip(data_dir: Path, position: int) -> None:
    with (data_dir / STORE_FILE).open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 0x10]))


def test_a_flipped_bit_in_a_page(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    assert list(check_dir(tmp_path)) == []
    flip(tmp_path, (tmp_path / STORE_FILE).read_bytes().index(content(70)[1000:1064]))
    store = open_store(tmp_path, X86_64)
    with pytest.raises(StoreFailed, match=TOLD) as caught:
        store.fetch(1, range(100))
    assert (caught.value.object_id, caught.value.page) == (1, 70)
    others = [page for page in range(100) if page != 70]
    assert store.fetch(1, others) == {page: content(page) for page in others}
    store.close()
    (told,) = check_dir(tmp_path)
    assert told.startswith("page 70 of layer 1, stored in chunk 2, is damaged: checksum mismatch in slot 7: ")
    assert told.endswith("offset 0x46000 of segment 1 'heap'")


def test_a_damaged_page_can_be_written_again(data_dir: Path) -> None:
    fill(data_dir, 3)
    flip(data_dir, (data_dir / STORE_FILE).read_bytes().index(content(1)[:64]))
    store = open_store(data_dir, X86_64, tuning=Tuning(obsolete_rows=1, slack_pages=0))
    store.commit([[PutPages(1, (1,), content(9))]])
    assert store.fetch(1, range(3)) == {0: content(0), 1: content(9), 2: content(2)}
    store.commit([[DropPages(1, 0, 1), DropPages(1, 2, 1)]])
    while store.maintain():
        pass
    store.close()


def test_a_flipped_bit_in_the_header_of_a_chunk(tmp_path: Path) -> None:
    fill(tmp_path, 100)
    flip(tmp_path, (tmp_path / STORE_FILE).read_bytes().index(content(0)[:64]) - 30)
    store = open_store(tmp_path, X86_64)
    with pytest.raises(StoreFailed, match="page 5 of object 1 is damaged: checksum mismatch in the header"):
        store.fetch(1, [5])
    assert store.fetch(1, [80]) == {80: content(80)}
    store.close()
    lost = "offset 0x0 to 0x3efff of segment 1 'heap'"
    assert f"log row 00000000000000013f is damaged: checksum mismatch in the header: {lost}" in list(
        check_dir(tmp_path)
    )


def test_a_damaged_page_is_told_by_all_who_see_it(tmp_path: Path) -> None:
    """A clone has its own copy of page 5; the snapshot, and what the space was born with, have that of the first."""
    space = SpaceRecord(1, "first", 0o600, 0, 0, "shared", 1)
    clone = SpaceRecord(2, "clone", 0o600, 0, 0, "shared", 2, origin=1, birth=3)
    store = open_store(tmp_path, X86_64)
    store.commit([[PutSpace(space), PutPages(1, (5, 6), content(5) + content(6))]])
    store.commit([[CloneObject(1, 2), CloneObject(1, 3), PutSpace(clone)]])
    store.commit([[PutPages(2, (5,), content(9))]])
    store.close()
    flip(tmp_path, (tmp_path / STORE_FILE).read_bytes().index(content(5)[:64]))
    flip(tmp_path, (tmp_path / STORE_FILE).read_bytes().index(content(6)[:64]))
    first, second = list(check_dir(tmp_path))
    assert first.endswith(
        "slot 0: address 0x5000 of space 1 'first'; address 0x5000 of space 2 'clone' as it was born"
    )
    assert second.endswith(
        "slot 1: address 0x6000 of space 1 'first'; address 0x6000 of space 2 'clone'; "
        "address 0x6000 of space 2 'clone' as it was born"
    )
    store = open_store(tmp_path, X86_64)
    with pytest.raises(StoreFailed, match=r"mismatch in slot 0: address 0x5000 of space 2 as it was born$"):
        store.fetch(3, [5])
    store.close()


def test_what_may_be_done_about_a_damaged_page(tmp_path: Path) -> None:
    """As docs/operations.md says: nothing copies it, writing it anew heals it, and --repair clears away the rest."""
    fill(tmp_path, 3)
    flip(tmp_path, (tmp_path / STORE_FILE).read_bytes().index(content(1)[:64]))
    before = (tmp_path / STORE_FILE).read_bytes()
    with pytest.raises(StoreDamaged):
        back_up(tmp_path, tmp_path / "backup")
    with pytest.raises(StoreDamaged):
        compact(tmp_path)
    assert list(repair(tmp_path)) == []
    assert list(check_dir(tmp_path))
    assert len((tmp_path / STORE_FILE).read_bytes()) == len(before)
    store = open_store(tmp_path, X86_64)
    store.commit([[PutPages(1, (1,), content(9))]])
    store.close()
    assert all(problem.endswith("which is in no use") for problem in check_dir(tmp_path))
    list(repair(tmp_path))
    assert list(check_dir(tmp_path)) == []
    back_up(tmp_path, tmp_path / "backup")
    compact(tmp_path)
    store = open_store(tmp_path, X86_64)
    assert store.fetch(1, range(3)) == {0: content(0), 1: content(9), 2: content(2)}
    store.close()


def test_housekeeping_leaves_damaged_chunks_alone(tmp_path: Path) -> None:
    """Rewriting a page whose bytes are wrong would give it a good checksum."""
    fill(tmp_path, 126)
    flip(tmp_path, (tmp_path / STORE_FILE).read_bytes().index(content(0)[:64]))
    store = open_store(tmp_path, X86_64, tuning=Tuning(obsolete_rows=1, slack_pages=0))
    store.commit([[DropPages(1, 1, 62), DropPages(1, 64, 62)]])
    steps = 0
    while store.maintain():
        steps += 1
        assert steps < 50
    assert store.fetch(1, [63]) == {63: content(63)}
    with pytest.raises(StoreFailed, match="page 0 of object 1"):
        store.fetch(1, [0])
    store.close()
    assert [problem.split(",")[0] for problem in check_dir(tmp_path)] == ["page 0 of layer 1"]


def test_any_flipped_bit_is_found(tmp_path: Path, seed: int) -> None:
    """Wherever it is, fsck tells or the bit was in no use; a store that opens returns right pages or fails."""
    rng = random.Random(seed)
    fill(tmp_path, 70)
    whole = (tmp_path / STORE_FILE).read_bytes()
    used = len(whole.rstrip(b"\0"))
    for _ in range(60):
        (tmp_path / STORE_FILE).write_bytes(whole)
        flip(tmp_path, rng.randrange(used))
        problems = list(guarded(check_dir, tmp_path))
        if problems:
            continue
        store = open_store(tmp_path, X86_64)
        assert store.load().segments == [SEGMENT]
        assert store.fetch(1, range(80)) == {page: content(page) for page in range(70)}
        store.close()


def guarded(check: Callable[[Path], object], path: Path) -> list[str]:
    try:
        return list(check(path))  # type: ignore[call-overload,no-any-return]
    except StoreUnusable as error:
        return [str(error)]
