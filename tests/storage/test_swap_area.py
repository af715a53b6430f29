"""The swap area: what was stored comes back, damage and a full disk are noticed, nothing outlives the service."""

import errno
import os
import random
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.geometry import TOY, X86_64
from storage import open_store
from storage.errors import StoreUnusable
from storage.swap_area import SWAP_FILE, SwapFile, open_swap
from storage.upkeep.fsck import check_dir

PAGE = 16
SLOTS = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / SWAP_FILE


@pytest.fixture
def area(path: Path) -> Iterator[SwapFile]:
    made = SwapFile(path, PAGE, SLOTS)
    yield made
    made.close()


def page(number: int) -> bytes:
    return bytes([number % 256]) * PAGE


def pages(*numbers: int) -> memoryview:
    return memoryview(b"".join(page(number) for number in numbers))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Each pwrite and pread: its name, length and offset."""
    seen: list[tuple[str, int, int]] = []
    pwrite, pread = os.pwrite, os.pread

    def spy_pwrite(file: int, data: Any, offset: int) -> int:
        seen.append(("pwrite", len(data), offset))
        return pwrite(file, data, offset)

    def spy_pread(file: int, length: int, offset: int) -> bytes:
        seen.append(("pread", length, offset))
        return pread(file, length, offset)

    monkeypatch.setattr(os, "pwrite", spy_pwrite)
    monkeypatch.setattr(os, "pread", spy_pread)
    return seen


def test_what_is_stored_is_loaded_in_the_order_that_is_asked(area: SwapFile) -> None:
    area.store([5, 6, 7, 0], pages(1, 2, 3, 4))
    assert area.load([5, 6, 7, 0]) == bytes(pages(1, 2, 3, 4))
    assert area.load([0, 7, 5]) == bytes(pages(4, 3, 1))
    assert area.load([6, 6]) == bytes(pages(2, 2))
    area.store([6], pages(9))
    assert area.load([5, 6, 7]) == bytes(pages(1, 9, 3))
    assert area.load([]) == b""
    area.store([], memoryview(b""))


def test_an_area_is_a_dictionary(area: SwapFile) -> None:
    rng, expected = random.Random(7), dict[int, bytes]()
    for _ in range(500):
        slots = rng.sample(range(SLOTS), rng.randint(1, 20))
        if rng.random() < 0.5:
            slots.sort()
        if rng.random() < 0.6 or not expected:
            data = rng.randbytes(len(slots) * PAGE)
            area.store(slots, memoryview(data))
            expected |= {slot: data[n * PAGE : (n + 1) * PAGE] for n, slot in enumerate(slots)}
        else:
            slots = [slot for slot in slots if slot in expected]
            assert area.load(slots) == b"".join(expected[slot] for slot in slots)


def test_neighbours_travel_together(area: SwapFile, calls: list[tuple[str, int, int]]) -> None:
    area.store([3, 4, 5, 9, 10, 2], pages(1, 2, 3, 4, 5, 6))
    assert calls == [("pwrite", 48, 48), ("pwrite", 32, 144), ("pwrite", 16, 32)]
    calls.clear()
    area.load([2, 3, 4, 5, 9, 10])
    assert calls == [("pread", 64, 32), ("pread", 32, 144)]


def test_data_may_be_any_contiguous_view(area: SwapFile) -> None:
    words = memoryview(bytes(pages(1, 2))).cast("Q")
    area.store([1, 2], words)
    assert area.load([1, 2]) == bytes(pages(1, 2))


def test_short_writes_and_reads_are_continued(area: SwapFile, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:5], offset))
    area.store([1, 2], pages(1, 2))
    monkeypatch.setattr(os, "pread", lambda file, length, offset: pread(file, min(length, 7), offset))
    assert area.load([1, 2]) == bytes(pages(1, 2))


@pytest.mark.parametrize("slots", [[-1], [SLOTS], [0, SLOTS], [2**70]])
def test_slots_that_are_not_there(area: SwapFile, slots: list[int]) -> None:
    with pytest.raises(ValueError, match="slots 0 to 63"):
        area.store(slots, pages(*slots))
    with pytest.raises(ValueError, match="slots 0 to 63"):
        area.load(slots)


def test_as_many_bytes_as_slots(area: SwapFile) -> None:
    with pytest.raises(ValueError, match="17 bytes for 1 slots"):
        area.store([1], memoryview(bytes(17)))


def test_a_changed_byte_is_eio_for_that_page_alone(area: SwapFile, path: Path) -> None:
    area.store([1, 2, 3], pages(1, 2, 3))
    with path.open("r+b") as file:
        file.seek(2 * PAGE + 5)
        file.write(b"\xff")
    with pytest.raises(OSError, match="slot 2") as refused:
        area.load([1, 2, 3])
    assert refused.value.errno == errno.EIO
    assert area.load([1]) == page(1)
    assert area.load([3]) == page(3)
    area.store([2], pages(2))
    assert area.load([2]) == page(2)


def test_pages_that_changed_places_are_noticed(area: SwapFile, path: Path) -> None:
    area.store([1, 2], pages(1, 2))
    path.write_bytes(bytes(PAGE) + page(2) + page(1))
    with pytest.raises(OSError, match="slot 1"):
        area.load([1])


def test_equal_pages_in_each_others_places_are_noticed_too(area: SwapFile) -> None:
    """The slot is part of the checksum: a page that was written to the wrong slot is not taken for another."""
    area.store([1, 2], pages(7, 7))
    sums = area._sums
    assert sums[1] != sums[2]


def test_a_cut_file_is_eio(area: SwapFile, path: Path) -> None:
    area.store([1, 2], pages(1, 2))
    os.truncate(path, 2 * PAGE + 3)
    with pytest.raises(OSError, match="shorter") as refused:
        area.load([1, 2])
    assert refused.value.errno == errno.EIO
    assert area.load([1]) == page(1)


def test_a_slot_that_was_never_stored_is_eio(area: SwapFile) -> None:
    area.store([5], pages(5))
    with pytest.raises(OSError, match="slot 3"):
        area.load([3])
    with pytest.raises(OSError, match="shorter"):
        area.load([6])


def test_a_full_disk_is_enospc_and_what_is_there_stays(
    area: SwapFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    area.store([1], pages(1))
    pwrite = os.pwrite

    def full(file: int, data: Any, offset: int) -> int:
        if offset >= 20 * PAGE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space") as refused:
        area.store([2, 20], pages(2, 3))
    assert refused.value.errno == errno.ENOSPC
    assert area.load([1]) == page(1)
    monkeypatch.undo()
    area.store([2, 20], pages(4, 5))
    assert area.load([2, 20]) == bytes(pages(4, 5))


def test_a_limit_on_file_sizes_is_an_oserror(tmp_path: Path) -> None:
    """A real refusal of the kernel, in a process of its own."""
    script = """
import resource, signal, sys
from pathlib import Path
from storage.swap_area import SwapFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
area = SwapFile(Path(sys.argv[1]), 16, 64)
area.store([1], memoryview(bytes(16)))
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    area.store([9], memoryview(bytes(16)))
except OSError as error:
    print(type(error).__name__, error.errno)
print(area.load([1]) == bytes(16))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "swap")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"OSError {errno.EFBIG}", "True"]


def test_the_file_is_its_owners_alone(area: SwapFile, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_crash_left_is_gone(path: Path) -> None:
    path.write_bytes(b"secret" * 1000)
    path.chmod(0o644)
    area = SwapFile(path, PAGE, SLOTS)
    assert path.stat().st_size == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError, match="shorter"):
        area.load([0])
    area.close()


def test_nothing_is_left_when_it_is_closed(path: Path) -> None:
    area = SwapFile(path, PAGE, SLOTS)
    area.store([1], pages(1))
    area.close()
    assert not path.exists()
    area.close()
    again = SwapFile(path, PAGE, SLOTS)
    path.unlink()
    again.close()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    with pytest.raises(StoreUnusable, match="not a plain file"):
        SwapFile(path, PAGE, SLOTS)
    path.unlink()
    path.hardlink_to(victim)
    with pytest.raises(StoreUnusable, match="not a plain file"):
        SwapFile(path, PAGE, SLOTS)
    assert victim.read_bytes() == b"precious"


def test_what_is_no_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnusable, match="not a plain file"):
        SwapFile(path, PAGE, SLOTS)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(StoreUnusable, match="not a plain file"):
        SwapFile(path, PAGE, SLOTS)
    with pytest.raises(StoreUnusable, match="No such file"):
        SwapFile(tmp_path / "nowhere" / "swap", PAGE, SLOTS)


def test_a_large_area_costs_what_is_used(tmp_path: Path) -> None:
    area = SwapFile(tmp_path / "swap", X86_64.page_size, 1 << 28)
    data = os.urandom(X86_64.page_size)
    area.store([(1 << 28) - 1], memoryview(data))
    assert area.load([(1 << 28) - 1]) == data
    assert (tmp_path / "swap").stat().st_blocks * 512 < 1 << 20
    area.close()


def test_the_size_is_in_bytes_and_nothing_means_none(tmp_path: Path) -> None:
    assert open_swap(tmp_path, PAGE, 0) is None
    assert open_swap(tmp_path, PAGE, PAGE - 1) is None
    assert not (tmp_path / SWAP_FILE).exists()
    area = open_swap(tmp_path, PAGE, 10 * PAGE + 3)
    assert area is not None
    assert area.capacity == 10
    area.close()


def test_a_data_directory_with_a_swap_area_is_in_order(tmp_path: Path) -> None:
    """As after a crash: the file is there, and no part of the store."""
    directory = tmp_path / "data"
    open_store(directory, TOY).close()
    area = SwapFile(directory / SWAP_FILE, TOY.page_size, SLOTS)
    area.store([1], pages(1))
    assert list(check_dir(directory)) == []
    open_store(directory, TOY).close()
    area.close()
