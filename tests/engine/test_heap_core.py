"""The allocator alone, over plain bytes: against a naive model, from every side of small heaps, and with damaged bytes."""

import itertools
import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.heap import check, draft, heap, layout
from engine.heap.heap import ForeignError, NoRoomError
from engine.heap.layout import BLOCK_HEADER, DamagedError


class Bytes:
    """A segment's bytes in one array; counts the pages that are read and written."""

    def __init__(self, size: int, page_size: int = 4096) -> None:
        self.size = size
        self.page_size = page_size
        self.data = bytearray(size)
        self.touched: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self._touch(offset, length)
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        assert offset // self.page_size == (offset + len(data) - 1) // self.page_size, "one page at a time"
        self._touch(offset, len(data))
        self.data[offset : offset + len(data)] = data

    def _touch(self, offset: int, length: int) -> None:
        if length:
            self.touched.update(range(offset // self.page_size, (offset + length - 1) // self.page_size + 1))


class Sparse(Bytes):
    """A segment that is too large to be written out."""

    def __init__(self, size: int, page_size: int = 4096) -> None:
        super().__init__(0, page_size)
        self.size = size
        self.pages: dict[int, bytearray] = {}

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self._touch(offset, length)
        return bytes(self._byte(at) for at in range(offset, offset + length))

    def write(self, offset: int, data: bytes) -> None:
        self._touch(offset, len(data))
        page = self.pages.setdefault(offset // self.page_size, bytearray(self.page_size))
        low = offset % self.page_size
        assert low + len(data) <= self.page_size
        page[low : low + len(data)] = data

    def _byte(self, at: int) -> int:
        page = self.pages.get(at // self.page_size)
        return 0 if page is None else page[at % self.page_size]


class Model:
    """What is live and what it holds. Each step is compared with the heap."""

    def __init__(self, memory: Bytes) -> None:
        self.memory = memory
        self.live: dict[int, bytes] = {}
        self.count = 0

    def malloc(self, size: int) -> int | None:
        """Allocate and fill; None if it is full, and then the heap says so beforehand."""
        largest = heap.usage(self.memory).largest_free
        try:
            where = heap.malloc(self.memory, size)
        except NoRoomError:
            assert size > largest
            return None
        assert where % 16 == 0
        assert layout.first_block(self.memory.size) <= where
        assert where + size <= self.memory.size
        for other, held in self.live.items():
            assert where + size <= other or other + len(held) <= where, "two live blocks overlap"
        self.count += 1
        self.live[where] = random.Random(self.count).randbytes(size)
        self.memory.data[where : where + size] = self.live[where]
        return where

    def free(self, where: int) -> None:
        held = self.live.pop(where)
        assert self.memory.data[where : where + len(held)] == held, "what was stored is not there any more"
        heap.free(self.memory, where)

    def check(self) -> None:
        assert list(check.problems(self.memory)) == []
        told = heap.usage(self.memory)
        assert told.blocks == len(self.live)
        assert told.size == told.overhead + told.allocated + told.free
        assert told.allocated >= sum(max(-(-len(held) // 16) * 16, 16) + 16 for held in self.live.values())
        for where, held in self.live.items():
            assert self.memory.data[where : where + len(held)] == held

    def empty(self) -> None:
        """Free all: one free block remains, everything."""
        for where in list(self.live):
            self.free(where)
        self.check()
        told = heap.usage(self.memory)
        assert (told.blocks, told.free_blocks, told.allocated) == (0, 0, 0)
        assert told.largest_free == told.free - BLOCK_HEADER


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("size", "page", "most"),
    [(1024, 16, 64), (4096, 4096, 700), (65536, 4096, 9000), (1 << 20, 65536, 99999)],
)
def test_random_calls_agree_with_a_naive_model(seed: int, size: int, page: int, most: int) -> None:
    rng = random.Random(seed)
    model = Model(Bytes(size, page))
    for step in range(300):
        if model.live and rng.random() < 0.45:
            model.free(rng.choice(list(model.live)))
        else:
            model.malloc(int(most ** rng.random()))
        if step % 20 == 0:
            model.check()
    model.check()
    model.empty()


def test_every_short_history_of_a_small_heap() -> None:
    sizes = (1, 40, 100)
    for length in (1, 2, 3, 4, 5):
        for steps in itertools.product((*sizes, -1, -2), repeat=length):
            model = Model(Bytes(560, 16))
            for step in steps:
                if step > 0:
                    model.malloc(step)
                elif model.live:
                    model.free(sorted(model.live)[0 if step == -1 else -1])
            model.check()
            model.empty()


def test_every_order_of_freeing_joins_everything() -> None:
    for order in itertools.permutations(range(6)):
        model = Model(Bytes(2048))
        places = [model.malloc(20 + 30 * number) for number in range(6)]
        for number in order:
            where = places[number]
            assert where is not None
            model.free(where)
            model.check()
        model.empty()


def test_the_same_size_finds_the_place_that_it_left() -> None:
    memory = Bytes(1 << 20)
    places = [heap.malloc(memory, 1030) for _ in range(50)]
    for where in places[:40:2]:
        heap.free(memory, where)
    again = {heap.malloc(memory, 1030) for _ in range(20)}
    assert again == set(places[:40:2])


def test_what_a_split_leaves_is_used() -> None:
    memory = Bytes(1 << 16)
    hole, _ = heap.malloc(memory, 2000), heap.malloc(memory, 10)
    heap.free(memory, hole)
    parts = [heap.malloc(memory, 100) for _ in range(16)]
    assert all(hole <= part < hole + 2000 for part in parts)


def test_the_smallest_heap_and_what_is_too_small_for_one() -> None:
    for size in range(16, 512, 16):
        memory = Bytes(size, 16)
        room = heap.usage(memory).largest_free
        if room:
            assert heap.malloc(memory, room) + room <= size
        with pytest.raises(NoRoomError):
            heap.malloc(Bytes(size, 16), room + 1)
    assert heap.usage(Bytes(240, 16)).largest_free == 0
    assert heap.usage(Bytes(256, 16)).largest_free == 16


def test_a_heap_of_terabytes_touches_a_few_pages() -> None:
    memory = Sparse((1 << 47) - (1 << 16))
    one = heap.malloc(memory, 1 << 40)
    two = heap.malloc(memory, 100)
    three = heap.malloc(memory, 1 << 45)
    assert one + (1 << 40) <= two < two + 100 <= three
    memory.touched.clear()
    heap.free(memory, one)
    four = heap.malloc(memory, 1 << 39)
    assert four == one
    heap.malloc(memory, 1 << 38)
    assert len(memory.touched) <= 8
    assert len(memory.pages) <= 12


def test_a_call_touches_few_pages_however_many_blocks_there_are() -> None:
    memory = Bytes(8 << 20)
    rng = random.Random(1)
    live = [heap.malloc(memory, rng.randrange(1, 2000)) for _ in range(4000)]
    rng.shuffle(live)
    for where in live[:2000]:
        memory.touched.clear()
        heap.free(memory, where)
        assert len(memory.touched) <= 10
    for _ in range(500):
        memory.touched.clear()
        heap.malloc(memory, rng.randrange(1, 2000))
        assert len(memory.touched) <= 10
    assert list(check.problems(memory)) == []


def test_the_bytes_mean_the_same_elsewhere_and_copied() -> None:
    model = Model(Bytes(8192))
    for size in (10, 200, 3000):
        model.malloc(size)
    copy = Model(Bytes(8192, 64))
    copy.memory.data[:] = model.memory.data
    copy.live = dict(model.live)
    model.empty()
    copy.check()
    copy.malloc(500)
    copy.empty()


# -- wrong pointers ----------------------------------------------------------------------------------------------


def filled(size: int = 4096) -> tuple[Bytes, list[int]]:
    memory = Bytes(size)
    return memory, [heap.malloc(memory, length) for length in (30, 100, 500, 50, 20, 300)]


def test_what_was_not_given_out_cannot_be_freed() -> None:
    memory, places = filled()
    before = bytes(memory.data)
    for where in range(memory.size + 64):
        if where not in places:
            with pytest.raises(ForeignError):
                heap.free(memory, where)
    with pytest.raises(ForeignError):
        heap.free(memory, -16)
    assert memory.data == before
    with pytest.raises(ForeignError, match="nothing was allocated"):
        heap.free(Bytes(4096), 512)


def test_nothing_is_freed_twice_whatever_it_was_joined_with() -> None:
    for order in itertools.permutations(range(6), 3):
        memory, places = filled()
        for number in order:
            heap.free(memory, places[number])
        before = bytes(memory.data)
        for number in order:
            with pytest.raises(ForeignError):
                heap.free(memory, places[number])
        assert memory.data == before


def test_an_overrun_is_found_by_who_frees_what_it_hit() -> None:
    for number in range(6):
        memory, places = filled()
        where = places[number]
        memory.data[where - 16 : where] = b"overrun overrun!"
        for other in (number - 1, number):
            if other >= 0:
                with pytest.raises(DamagedError) as found:
                    heap.free(memory, places[other])
                assert found.value.offset == where - 16


def test_bytes_that_are_no_heap_are_left_alone() -> None:
    for at in (0, 7, 79, 80, layout.first_block(4096) - 1):
        memory = Bytes(4096)
        memory.data[at] = 1
        before = bytes(memory.data)
        with pytest.raises(DamagedError):
            heap.malloc(memory, 1)
        with pytest.raises(DamagedError):
            heap.free(memory, 800)
        with pytest.raises(DamagedError):
            heap.usage(memory)
        assert memory.data == before
    memory = Bytes(4096)
    memory.data[layout.first_block(4096)] = 1
    assert heap.malloc(memory, 1) == layout.first_block(4096) + BLOCK_HEADER


# -- damage ------------------------------------------------------------------------------------------------------


def scene() -> tuple[Bytes, dict[int, int]]:
    """A heap with live blocks (offset -> bytes), free ones, and lists of several."""
    memory = Bytes(4096, 256)
    places = {heap.malloc(memory, length): length for length in (40, 60, 40, 60, 40, 60, 300, 300, 20)}
    for number, where in enumerate(list(places)):
        if number in (0, 2, 4, 6):
            heap.free(memory, where)
            del places[where]
    return memory, places


def structures(memory: Bytes) -> Iterator[int]:
    """Offsets of every byte of a header, a row or links that means something."""
    found = draft.open_draft(memory)
    assert found is not None
    yield from range(layout.HEADER_SIZE)
    for number in range(layout.rows_for(memory.size)):
        if found.header.row_map >> number & 1:
            yield from range(layout.row_offset(number), layout.row_offset(number) + layout.ROW_SIZE)
    for offset, block in check.walk(found):
        yield from range(offset, offset + (BLOCK_HEADER if block.live else 2 * BLOCK_HEADER))


def same_or_refused(memory: Bytes, live: dict[int, int], rng: random.Random) -> None:
    """Calls on damaged bytes are refused without a change, or done, and never give out live memory."""
    live = dict(live)
    for _ in range(24):
        before = bytes(memory.data)
        where = rng.choice(list(live)) if live and rng.random() < 0.5 else None
        size = rng.randrange(1, 200)
        try:
            if where is None:
                given = heap.malloc(memory, size)
            else:
                heap.free(memory, where)
        except (DamagedError, ForeignError, NoRoomError):
            assert memory.data == before
            continue
        if where is not None:
            del live[where]
            continue
        assert given is not None
        assert all(given + size <= at or at + held <= given for at, held in live.items()), (
            "live memory given out"
        )
        live[given] = size


def test_a_flipped_byte_of_a_checked_structure_is_never_believed() -> None:
    healthy, live = scene()
    for at in structures(healthy):
        rng = random.Random(at)
        memory = Bytes(healthy.size, healthy.page_size)
        memory.data[:] = healthy.data
        memory.data[at] ^= rng.randrange(1, 256)
        assert list(check.problems(memory)), f"byte {at:#x} is not checked"
        same_or_refused(memory, live, rng)


def test_random_damage_is_never_believed() -> None:
    healthy, live = scene()
    for seed in range(400):
        rng = random.Random(seed)
        memory = Bytes(healthy.size, healthy.page_size)
        memory.data[:] = healthy.data
        start, length = rng.randrange(memory.size), rng.randrange(1, 40)
        junk = rng.choice([bytes(length), rng.randbytes(length), healthy.data[:length]])[
            : memory.size - start
        ]
        memory.data[start : start + len(junk)] = junk
        if any(memory.data[: layout.first_block(memory.size)]):  # all zeros are a new heap
            same_or_refused(memory, live, rng)


# -- the models themselves ---------------------------------------------------------------------------------------

CANARIES = {
    "a block that is not wiped when it is joined": ("draft.wipe(end)\n", "pass\n"),
    "what remains of a block is given away": (
        "generous if block.size - generous >= MIN_BLOCK else block.size",
        "block.size",
    ),
    "the block behind is not told": ("behind.prev = rest", "pass"),
    "one unit too few": ("size + BLOCK_HEADER + UNIT - 1", "size + BLOCK_HEADER - 1"),
    "neighbours are not joined": ("if not before.live:", "if False:"),
    "a list keeps its first block": ("row.heads[column] = links.next", "pass"),
    "what is live counts twice": ("header.allocated -= block.size", "pass"),
}


@pytest.mark.parametrize("name", CANARIES)
def test_a_canary_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = CANARIES[name]
    source = Path(heap.__file__).read_text()
    assert right in source
    spoiled: dict[str, Any] = {"__name__": "engine.heap.spoiled"}
    sys.modules["engine.heap.spoiled"] = types.ModuleType("engine.heap.spoiled")  # dataclasses look it up
    try:
        exec(compile(source.replace(right, wrong), "spoiled.py", "exec"), spoiled)
    finally:
        del sys.modules["engine.heap.spoiled"]
    for call in ("malloc", "free", "usage"):
        monkeypatch.setattr(heap, call, spoiled[call])
    for raised in ("NoRoomError", "ForeignError"):
        monkeypatch.setitem(globals(), raised, spoiled[raised])
    with pytest.raises((AssertionError, DamagedError, ForeignError, pytest.fail.Exception)):
        for seed in range(12):
            test_random_calls_agree_with_a_naive_model(seed, 4096, 4096, 700)
        test_the_same_size_finds_the_place_that_it_left()
        test_what_a_split_leaves_is_used()
        test_nothing_is_freed_twice_whatever_it_was_joined_with()
