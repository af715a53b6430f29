"""Who keeps the bytes: faults, copy-on-write, eviction and fetching, discarding, and taking all of it back."""

import numpy as np
import pytest

from engine.changes import DropPages, PutPages
from engine.errors import EngineError, PagesNeeded
from engine.geometry import TOY
from engine.invariant import InvariantError
from engine.journal import Journal
from engine.memory.eviction import evict
from engine.memory.fault import COPY, FETCH, REPLACE, REUSE, ZERO_FILL, plan_page_write, plan_write_fault
from engine.memory.frames import ABSENT, STORED, ZERO_FRAME, FramePool
from engine.memory.memory_object import MemoryObject
from engine.memory.objects import Objects
from engine.memory.page_map import LEAF_PAGES

PAGE = TOY.page_size
FRAMES = 16


class Bench:
    """Objects over one small pool."""

    def __init__(self, frames: int = FRAMES) -> None:
        self.journal = Journal()
        self.pool = FramePool(TOY, frames)
        self.objects = Objects(self.pool, self.journal)

    def volatile(self) -> MemoryObject:
        return MemoryObject(self.pool, self.journal)

    def stored(self) -> MemoryObject:
        """An object whose pages are all in the store."""
        self.objects.next_id += 1
        return self.objects.restore(self.objects.next_id - 1)

    def clean(self, pages: int) -> MemoryObject:
        """A persistent object with `pages` resident pages that the store has, page n full of n + 1."""
        obj = self.objects.create()
        txn = self.journal.begin()
        obj.write(0, memoryview(b"".join(bytes([n + 1]) * PAGE for n in range(pages))), durable=True)
        self.journal.end()
        txn.settle()
        return obj


@pytest.fixture
def bench() -> Bench:
    return Bench()


def store(obj: MemoryObject, offset: int, data: bytes, *, durable: bool = False) -> None:
    obj.write(offset, memoryview(data), durable=durable)


# -- faults ------------------------------------------------------------------------------------------------------


def test_memory_never_written_reads_as_zeros_and_costs_nothing(bench: Bench) -> None:
    obj = bench.volatile()
    assert obj.read(3, 5 * PAGE) == bytes(5 * PAGE)
    assert bench.pool.free_count == FRAMES
    assert obj.frames_for_read(0, 2).tolist() == [ZERO_FRAME, ZERO_FRAME]


def test_a_store_takes_frames_for_its_pages_only(bench: Bench) -> None:
    obj = bench.volatile()
    store(obj, 2 * PAGE - 1, b"ab")
    assert bench.pool.free_count == FRAMES - 2
    assert obj.read(PAGE, 2 * PAGE) == bytes(PAGE - 1) + b"ab" + bytes(PAGE - 1)
    store(obj, 2 * PAGE, b"c")
    assert bench.pool.free_count == FRAMES - 2


def test_a_clone_shares_until_either_side_writes(bench: Bench) -> None:
    parent = bench.volatile()
    store(parent, 0, b"p" * (3 * PAGE))
    child = parent.clone()
    assert bench.pool.free_count == FRAMES - 3
    store(child, PAGE, b"c")
    store(parent, 2 * PAGE, b"P")
    assert bench.pool.free_count == FRAMES - 5
    assert parent.read(0, 3 * PAGE) == b"p" * (2 * PAGE) + b"P" + b"p" * (PAGE - 1)
    assert child.read(0, 3 * PAGE) == b"p" * PAGE + b"c" + b"p" * (2 * PAGE - 1)
    child.release()
    parent.release()
    assert bench.pool.free_count == FRAMES


def test_the_last_holder_writes_in_place(bench: Bench) -> None:
    parent = bench.volatile()
    store(parent, 0, b"p")
    child = parent.clone()
    parent.release()
    frame = child.pages.entries(0, 1)[0]
    store(child, 1, b"c")
    assert child.pages.entries(0, 1)[0] == frame
    assert child.read(0, 2) == b"pc"


def test_a_wholly_overwritten_page_is_not_copied_but_what_is_beside_it_is(bench: Bench) -> None:
    parent = bench.volatile()
    store(parent, 0, b"p" * (3 * PAGE))
    child = parent.clone()
    store(child, PAGE - 1, b"c" * (PAGE + 2))
    assert child.read(0, 3 * PAGE) == b"p" * (PAGE - 1) + b"c" * (PAGE + 2) + b"p" * (PAGE - 1)
    assert parent.read(0, 3 * PAGE) == b"p" * (3 * PAGE)


# -- the store ---------------------------------------------------------------------------------------------------


def test_lacking_pages_are_named_and_whole_pages_are_not_lacking(bench: Bench) -> None:
    obj = bench.stored()
    with pytest.raises(PagesNeeded) as need:
        obj.read(PAGE + 3, 2 * PAGE)
    assert need.value.pages == [1, 2, 3]
    with pytest.raises(PagesNeeded) as need:
        store(obj, PAGE - 1, b"x" * (2 * PAGE))
    assert need.value.pages == [0, 2]
    store(obj, PAGE, b"x" * PAGE)
    assert obj.read(PAGE, PAGE) == b"x" * PAGE


def test_fetched_bytes_are_taken_and_missing_pages_are_zeros(bench: Bench) -> None:
    obj = bench.stored()
    obj.supply(
        PagesNeeded(obj.object_id, [1, 2, LEAF_PAGES], obj.epoch, obj),
        {1: b"1" * PAGE, LEAF_PAGES: b"L" * PAGE},
    )
    assert obj.read(PAGE, 2 * PAGE) == b"1" * PAGE + bytes(PAGE)
    assert obj.read(LEAF_PAGES * PAGE, 1) == b"L"
    assert bench.pool.free_count == FRAMES - 2
    assert obj.dirty == {}


def test_late_bytes_do_not_replace_newer_ones(bench: Bench) -> None:
    obj = bench.stored()
    need = PagesNeeded(obj.object_id, [0, 1], obj.epoch, obj)
    store(obj, 0, b"new!" * (PAGE // 4), durable=True)
    obj.supply(need, {0: b"o" * PAGE, 1: b"o" * PAGE})
    assert obj.read(0, 2 * PAGE) == b"new!" * (PAGE // 4) + b"o" * PAGE


def test_bytes_fetched_before_an_eviction_are_ignored(bench: Bench) -> None:
    obj = bench.clean(2)
    need = PagesNeeded(obj.object_id, [0], obj.epoch, obj)
    assert evict(obj, 1) == 2
    obj.supply(need, {0: b"o" * PAGE})
    assert obj.pages.entries(0, 1).tolist() == [STORED]


def test_only_clean_pages_are_evicted(bench: Bench) -> None:
    obj = bench.clean(4)
    store(obj, PAGE, b"dirty")
    assert evict(obj, 10) == 3
    assert obj.pages.entries(0, 4).tolist()[0] == STORED
    assert obj.read(PAGE, 5) == b"dirty"
    assert evict(bench.volatile(), 10) == 0


def test_a_page_is_clean_when_its_transaction_is_settled_and_not_before(bench: Bench) -> None:
    obj = bench.objects.create()
    txn = bench.journal.begin()
    store(obj, 0, b"x", durable=True)
    bench.journal.end()
    assert evict(obj, 1) == 0
    store(obj, 1, b"relaxed")
    txn.settle()
    assert list(obj.dirty) == [0]
    obj.flush()
    assert evict(obj, 1) == 1


def test_shortage_evicts_in_turn_and_spares_what_came_last(bench: Bench) -> None:
    first, second, third = (bench.clean(5) for _ in range(3))
    assert bench.pool.free_count == 1
    store(bench.volatile(), 0, b"x" * (2 * PAGE))
    assert [obj.pages.resident() for obj in (first, second, third)] == [0, 5, 5]
    need = PagesNeeded(first.object_id, [0, 1, 2, 3, 4], first.epoch, first)
    first.supply(need, {page: bytes(PAGE) for page in range(5)})
    assert [obj.pages.resident() for obj in (first, second, third)] == [5, 0, 5]


def test_two_objects_that_fit_do_not_throw_each_other_out_for_ever() -> None:
    """Idle pages go before the pages that one access needs of two objects."""
    bench = Bench(frames=12)
    idle, left, right = bench.stored(), bench.stored(), bench.stored()
    for obj in (left, right, idle):
        obj.supply(
            PagesNeeded(obj.object_id, list(range(4)), obj.epoch, obj), {n: bytes(PAGE) for n in range(4)}
        )
    rounds = 0
    while rounds < 8:
        try:
            for obj in (left, right):
                obj.read(0, 6 * PAGE)
        except PagesNeeded as need:
            bench.objects.get(need.object_id).supply(need, {n: bytes(PAGE) for n in need.pages})
            rounds += 1
        else:
            break
    assert rounds < 8
    assert (left.pages.resident(), right.pages.resident(), idle.pages.resident()) == (6, 6, 0)


def test_a_store_into_resident_pages_evicts_nothing() -> None:
    bench = Bench(frames=8)
    obj, other = bench.clean(5), bench.clean(3)
    assert bench.pool.free_count == 0
    store(obj, 3, b"x" * (4 * PAGE), durable=True)
    assert (obj.pages.resident(), other.pages.resident()) == (5, 3)


def test_a_store_that_must_make_room_does_not_evict_its_own_page() -> None:
    bench = Bench(frames=1)
    obj = bench.clean(1)
    store(obj, 3, b"x")
    assert obj.read(0, 5) == b"\1\1\1x\1"
    with pytest.raises(EngineError, match="ENOMEM"):
        store(obj, PAGE, b"x")


def test_every_dirty_page_is_flushed_once_in_order(bench: Bench) -> None:
    obj = bench.objects.create()
    for page in (3, LEAF_PAGES + 1, 1):
        store(obj, page * PAGE, bytes([page % 251]) * PAGE)
    txn = bench.journal.begin()
    assert obj.flush(0, 4)
    assert obj.flush()
    bench.journal.end()
    puts = [(change.pages, change.data) for change in txn.changes if isinstance(change, PutPages)]
    assert puts[0] == ((1, 3), b"\1" * PAGE + b"\3" * PAGE)
    assert puts[1][0] == (LEAF_PAGES + 1,)
    txn.settle()
    assert not obj.flush()


def test_what_is_on_its_way_is_flushed_again_only_if_it_changed_or_was_taken_back(bench: Bench) -> None:
    obj = bench.objects.create()
    store(obj, 0, b"first")
    first = bench.journal.begin()
    assert obj.flush()
    bench.journal.end()
    second = bench.journal.begin()
    assert not obj.flush()
    store(obj, 0, b"second", durable=False)
    assert obj.flush()
    bench.journal.end()
    second.rollback()
    first.rollback()
    third = bench.journal.begin()
    assert obj.flush()
    bench.journal.end()
    third.settle()
    assert not obj.dirty


# -- discarding, and taking it back ------------------------------------------------------------------------------


def test_discarded_pages_read_as_zeros_and_give_their_frames_back(bench: Bench) -> None:
    obj = bench.clean(4)
    txn = bench.journal.begin()
    obj.discard(1, 2)
    bench.journal.end()
    assert txn.changes == [DropPages(obj.object_id, 1, 2)]
    assert obj.read(0, 4 * PAGE) == b"\1" * PAGE + bytes(2 * PAGE) + b"\4" * PAGE
    assert bench.pool.free_count == FRAMES - 4
    txn.settle()
    assert bench.pool.free_count == FRAMES - 2


def test_a_discard_taken_back_brings_back_bytes_frames_and_dirt(bench: Bench) -> None:
    obj = bench.clean(3)
    store(obj, PAGE, b"relaxed")
    before = obj.read(0, 3 * PAGE), dict(obj.dirty), bench.pool.free_count
    txn = bench.journal.begin()
    obj.discard(0, 1 << 40)
    store(obj, 0, b"after" * PAGE, durable=True)
    bench.journal.end()
    txn.rollback()
    assert (obj.read(0, 3 * PAGE), dict(obj.dirty), bench.pool.free_count) == before


def test_pages_discarded_before_they_were_ever_fetched_are_zeros(bench: Bench) -> None:
    obj = bench.stored()
    obj.discard(2, 3)
    obj.discard(LEAF_PAGES - 1, 2)
    obj.discard(5, 1)
    assert obj.read(2 * PAGE, 4 * PAGE) == bytes(4 * PAGE)
    assert obj.read((LEAF_PAGES - 1) * PAGE, 2 * PAGE) == bytes(2 * PAGE)
    assert obj.pages.entries(1, 6).tolist() == [STORED, *[ZERO_FRAME] * 4, STORED]
    assert obj.pages.entries(LEAF_PAGES + 1, 1).tolist() == [STORED]


def test_a_discard_of_pages_in_the_store_only_can_be_taken_back(bench: Bench) -> None:
    """A leaf that was made between the discard and its undo must not keep the hole."""
    obj = bench.stored()
    txn = bench.journal.begin()
    obj.discard(1, 4)
    store(obj, 2 * PAGE, b"x" * PAGE, durable=True)
    bench.journal.end()
    obj.supply(PagesNeeded(obj.object_id, [0], obj.epoch, obj), {0: b"0" * PAGE})
    txn.rollback()
    assert obj.pages.entries(1, 5).tolist() == [STORED] * 5
    assert obj.read(0, 1) == b"0"


def test_a_store_taken_back_leaves_no_trace(bench: Bench) -> None:
    obj = bench.clean(2)
    before = obj.read(0, 3 * PAGE), bench.pool.free_count
    txn = bench.journal.begin()
    store(obj, PAGE - 1, b"y" * (PAGE + 2), durable=True)
    bench.journal.end()
    assert obj.read(PAGE, 1) == b"y"
    txn.rollback()
    assert (obj.read(0, 3 * PAGE), bench.pool.free_count) == before
    assert txn.changes == []


def test_taking_back_restores_only_what_was_changed(bench: Bench) -> None:
    obj = bench.volatile()
    store(obj, PAGE, b"kept")
    txn = bench.journal.begin()
    obj.frames_for_write(0, 2, 0, 2 * PAGE)
    bench.journal.end()
    moved = bench.pool.allocate(1, zeroed=True)
    bench.pool.release(obj.pages.entries(1, 1))
    obj.pages.set_entries(1, moved)
    txn.rollback()
    assert obj.pages.entries(0, 2).tolist() == [ABSENT, *moved.tolist()]


def test_a_frame_bears_the_serial_of_what_may_still_be_taken_back(bench: Bench) -> None:
    obj = bench.volatile()
    store(obj, 0, b"x" * 3 * PAGE)
    frames = obj.pages.entries(0, 4)[:3]
    assert bench.pool.stamps[frames].tolist() == [0, 0, 0]
    txns = []
    for page in (2, 1, 3):
        txns.append(bench.journal.begin())
        store(obj, page * PAGE, b"y")
        bench.journal.end()
    stamps = bench.pool.stamps[obj.pages.entries(0, 4)].tolist()
    assert stamps == [0, txns[1].serial, txns[0].serial, txns[2].serial]
    assert bench.journal.oldest_open == txns[0].serial
    txns[0].settle()
    assert bench.journal.oldest_open == txns[1].serial
    txns[2].rollback()
    txns[1].settle()
    assert bench.journal.oldest_open > max(stamps)


def test_a_clone_taken_back_gives_everything_back(bench: Bench) -> None:
    parent = bench.volatile()
    store(parent, 0, b"p" * (2 * PAGE))
    txn = bench.journal.begin()
    child = parent.clone()
    store(child, 0, b"c")
    store(parent, PAGE, b"P")
    bench.journal.end()
    txn.rollback()
    assert parent.read(0, 2 * PAGE) == b"p" * (2 * PAGE)
    assert bench.pool.free_count == FRAMES - 2
    assert parent.pages.is_exclusive(0)


def test_an_object_created_and_taken_back_is_gone_and_its_id_used(bench: Bench) -> None:
    txn = bench.journal.begin()
    obj = bench.objects.create()
    store(obj, 0, b"x", durable=True)
    bench.journal.end()
    txn.rollback()
    with pytest.raises(EngineError, match="EINVAL"):
        bench.objects.get(obj.object_id)
    assert bench.pool.free_count == FRAMES
    assert bench.objects.create().object_id == obj.object_id + 1


def test_the_version_moves_with_every_store_and_discard(bench: Bench) -> None:
    obj = bench.clean(1)
    seen = [obj.version]
    for durable in (False, True):
        store(obj, 0, b"a", durable=durable)
        seen.append(obj.version)
    obj.discard(0, 1)
    seen.append(obj.version)
    assert seen == sorted(set(seen))
    obj.read(0, 1)
    assert obj.version == seen[-1]


# -- one page and many ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("refs", [1, 2])
@pytest.mark.parametrize("entry", [STORED, ABSENT, ZERO_FRAME, 7])
def test_a_write_to_one_page_is_decided_as_a_write_to_many(entry: int, refs: int, whole: bool) -> None:
    counts = np.zeros(8, np.int32)
    counts[7] = refs
    plan = plan_write_fault(np.array([entry], np.int64), counts, slice(0, int(whole)))
    lists = {ZERO_FILL: plan.zero_fill, COPY: plan.copy, REPLACE: plan.replace, FETCH: plan.fetch}
    named = [deed for deed, positions in lists.items() if len(positions)] or [REUSE]
    assert named == [plan_page_write(entry, refs if entry == 7 else 0, whole=whole)]


def test_frames_one_by_one_are_counted_as_frames_by_the_many(bench: Bench) -> None:
    pool = bench.pool
    one, many = pool.allocate_one(zeroed=True), pool.allocate(2, zeroed=True)
    pool.write(many, 0, memoryview(b"m" * (2 * PAGE)))
    pool.hold(many)
    pool.release_one(one)
    for frame in (*many.tolist(), *many.tolist()):
        pool.release_one(frame)
    assert pool.free_count == FRAMES
    with pytest.raises(InvariantError, match="I5"):
        pool.release_one(one)
    again = [pool.allocate_one(zeroed=True) for _ in range(FRAMES)]
    assert len(set(again)) == FRAMES
    assert all(not pool.pages[frame].any() for frame in again)
    assert pool.refs[again].tolist() == [1] * FRAMES
    with pytest.raises(EngineError, match="ENOMEM"):
        pool.allocate_one(zeroed=False)


@pytest.mark.parametrize("length", [1, PAGE])
def test_a_store_into_one_page_taken_back_restores_the_entry_and_lets_the_frame_go(
    bench: Bench, length: int
) -> None:
    parent = bench.volatile()
    store(parent, PAGE, b"p" * PAGE)
    child = parent.clone()
    free = bench.pool.free_count
    before = [child.pages.entry(page) for page in range(3)]
    txn = bench.journal.begin()
    frames = [child.frame_for_write(page, 0, length) for page in range(3)]
    for page, frame in enumerate(frames):
        child.store_in_page(frame * PAGE, page, memoryview(b"c" * length), durable=False)
    bench.journal.end()
    assert child.read(PAGE, PAGE) == b"c" * length + b"p" * (PAGE - length)
    assert parent.read(PAGE, PAGE) == b"p" * PAGE
    assert bench.pool.stamps[frames].tolist() == [txn.serial] * 3
    txn.rollback()
    assert [child.pages.entry(page) for page in range(3)] == before
    assert bench.pool.free_count == free
