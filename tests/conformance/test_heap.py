"""A heap inside a segment: vas_malloc and vas_free for whoever is inside, its state among the segment's own bytes."""

import itertools
from typing import Any

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE, Calls, HttpTask
from tests.conformance.support.memory import FIXED, RW, at
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_ID = 2_000_000_000
PAGES = 16


def heap_of(world: World, sid: int, by: str = "owner") -> dict[str, Any]:
    """GET /segments/{sid}/heap."""
    return dict(world.http(by).get(f"/v1/segments/{sid}/heap"))


def second_inside(world: World, vid: int) -> Calls:
    task = world.task("owner")
    task.vas_attach(0, vid, O_RDWR)
    task.vas_switch(vid)
    return task


@row("HEAP-MALLOC-1")
def test_blocks_are_in_the_segment_and_apart(world: World) -> None:
    world.inside(pages=PAGES)
    blocks = [(world.owner.vas_malloc(size), size) for size in (1, 8, 100, 4096, 17, 10_000)]
    for number, (block, size) in enumerate(blocks):
        assert block % 16 == 0
        assert BASE <= block < block + size <= BASE + PAGES * PAGE
        world.owner.write(block, bytes([number + 1]) * size)
    for number, (block, size) in enumerate(blocks):
        assert world.owner.read(block, size) == bytes([number + 1]) * size
    pairs = itertools.pairwise(sorted(blocks))
    assert all(first + size <= second for (first, size), (second, _) in pairs)


@row("HEAP-FREE-1")
def test_what_is_freed_can_be_had_again(world: World) -> None:
    _, sid = world.inside(pages=PAGES)
    empty = heap_of(world, sid) if world.owner.vas_free(world.owner.vas_malloc(1)) == 0 else {}
    blocks = [world.owner.vas_malloc(5000) for _ in range(5)]
    for block in blocks[::2] + blocks[1::2]:
        assert world.owner.vas_free(block) == 0
    assert heap_of(world, sid) == empty
    assert world.owner.vas_malloc(40_000) >= BASE


@row("HEAP-SHARED-1")
def test_another_task_frees_what_one_allocated(world: World) -> None:
    vid, _ = world.inside(sharing="shared", pages=PAGES)
    other = second_inside(world, vid)
    block = world.owner.vas_malloc(100)
    world.owner.write(block, b"handed over")
    assert other.read(block, 11) == b"handed over"
    assert other.vas_malloc(100) not in (block,)
    assert other.vas_free(block) == 0
    world.fails("EINVAL", world.owner.vas_free, block)


@row("HEAP-STATE-1")
def test_the_heap_lives_among_the_segments_bytes(world: World) -> None:
    """Copy the bytes into another segment of that place, and the heap is there."""
    _, sid = world.inside(pages=PAGES)
    block = world.owner.vas_malloc(64)
    world.owner.write(block, b"moved with the bytes")
    bytes_of_it = world.http("owner").call("GET", f"/v1/segments/{sid}/data").body
    other, twin = world.space_with_segment(pages=PAGES)
    headers = {"Content-Range": f"bytes 0-{len(bytes_of_it) - 1}/{len(bytes_of_it)}"}
    world.http("owner").call("PATCH", f"/v1/segments/{twin}/data", raw=bytes_of_it, headers=headers)
    world.owner.vas_switch(0)
    world.owner.vas_attach(0, other, O_RDWR)
    world.owner.vas_switch(other)
    assert world.owner.read(block, 20) == b"moved with the bytes"
    assert world.owner.vas_malloc(64) != block
    assert world.owner.vas_free(block) == 0


@row("HEAP-USAGE-1")
def test_usage_counts_blocks_and_bytes(world: World) -> None:
    _, sid = world.inside(pages=PAGES)
    blocks = [world.owner.vas_malloc(1000) for _ in range(3)]
    told = heap_of(world, sid)
    assert told["blocks"] == 3
    assert 3000 <= told["allocated"] <= told["size"] <= PAGES * PAGE
    world.owner.vas_free(blocks[1])
    assert heap_of(world, sid)["blocks"] == 2


@row("HEAP-WHICH-1")
def test_the_segment_is_named_when_there_are_several(world: World) -> None:
    vid, first = world.inside(pages=PAGES)
    second = world.segment(start=at(64))
    world.owner.vas_seg_attach(vid, second, O_RDWR)
    world.fails("EINVAL", world.owner.vas_malloc, 8)
    assert BASE <= world.owner.vas_malloc(8, first) < BASE + PAGES * PAGE
    block = world.owner.vas_malloc(8, second)
    assert at(64) <= block < at(68)
    assert world.owner.vas_free(block) == 0


@row("HEAP-WHICH-2")
def test_a_segment_attached_for_reading_is_not_meant(world: World) -> None:
    vid, first = world.inside(pages=PAGES)
    second = world.segment(start=at(64))
    world.owner.vas_seg_attach(vid, second, O_RDONLY)
    assert BASE <= world.owner.vas_malloc(8) < BASE + PAGES * PAGE
    world.fails("EACCES", world.owner.vas_malloc, 8, second)
    assert first != second


@row("HEAP-EINVAL-1")
def test_outside_a_space_there_is_no_heap(world: World) -> None:
    world.fails("EINVAL", world.owner.vas_malloc, 8)
    world.fails("EINVAL", world.owner.vas_free, BASE)


@row("HEAP-EINVAL-2")
def test_malloc_judges_its_arguments(world: World) -> None:
    world.inside(pages=PAGES)
    for size in (0, -1, -(2**62)):
        world.fails("EINVAL", world.owner.vas_malloc, size)
    elsewhere = world.segment(start=at(64))
    for sid in (0, -1, NO_ID, elsewhere):
        world.fails("EINVAL", world.owner.vas_malloc, 8, sid)


@row("HEAP-EINVAL-3")
def test_a_space_without_segments_has_no_heap(world: World) -> None:
    vid = world.space()
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    world.fails("EINVAL", world.owner.vas_malloc, 8)


@row("HEAP-FREE-EINVAL-1")
def test_a_foreign_pointer_is_not_freed(world: World) -> None:
    world.inside(pages=PAGES)
    block = world.owner.vas_malloc(100)
    region = world.owner.mmap(at(64), PAGE, RW, FIXED)
    (stack,) = (line for line in world.owner.maps().splitlines() if line.endswith("[stack]"))
    for foreign in (
        block + 1,
        block + 16,
        block - 16,
        BASE,
        BASE + PAGES * PAGE - 16,
        region,
        0,
        int(stack.split("-")[0], 16),
    ):
        world.fails("EINVAL", world.owner.vas_free, foreign)
    assert world.owner.vas_free(block) == 0


@row("HEAP-FREE-EINVAL-2")
def test_a_double_free_is_noticed(world: World) -> None:
    world.inside(pages=PAGES)
    blocks = [world.owner.vas_malloc(100) for _ in range(3)]
    world.owner.vas_free(blocks[1])
    world.fails("EINVAL", world.owner.vas_free, blocks[1])
    world.owner.vas_free(blocks[0])
    for block in blocks[:2]:
        world.fails("EINVAL", world.owner.vas_free, block)
    assert world.owner.vas_free(blocks[2]) == 0


@row("HEAP-ENOMEM-1")
def test_a_full_heap_is_enomem_and_stays_whole(world: World) -> None:
    _, sid = world.inside(pages=PAGES)
    world.fails("ENOMEM", world.owner.vas_malloc, PAGES * PAGE)
    world.fails("ENOMEM", world.owner.vas_malloc, 2**62)
    blocks = []
    while world.refused_or_none(lambda: blocks.append(world.owner.vas_malloc(8000))) is None:
        pass
    assert 5 <= len(blocks) <= 8
    world.fails("ENOMEM", world.owner.vas_malloc, 8000)
    assert heap_of(world, sid)["blocks"] == len(blocks)
    world.owner.vas_free(blocks[3])
    assert world.owner.vas_malloc(8000) == blocks[3]


@row("HEAP-EACCES-1")
def test_a_reader_allocates_and_frees_nothing(world: World) -> None:
    """The space attached for reading is seen before the segment is looked for."""
    vid, sid = world.inside(pages=PAGES)
    block = world.owner.vas_malloc(8)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    world.fails("EACCES", reader.vas_malloc, 8)
    world.fails("EACCES", reader.vas_malloc, 8, sid)
    world.fails("EACCES", reader.vas_malloc, 8, NO_ID)
    world.fails("EACCES", reader.vas_free, block)


@row("HEAP-EFAULT-1")
def test_bytes_that_are_no_heap_are_left_alone(world: World) -> None:
    _, sid = world.inside(pages=PAGES)
    world.owner.write(BASE, b"somebody's own data")
    failure = world.fails("EFAULT", world.owner.vas_malloc, 8)
    assert int(failure.problem["address"], 16) in range(BASE, BASE + PAGES * PAGE)
    assert world.owner.read(BASE, 19) == b"somebody's own data"
    world.fails("EFAULT", heap_of, world, sid)


@row("HEAP-EFAULT-2")
def test_a_block_that_was_run_over_is_noticed_and_left_as_it_is(world: World) -> None:
    """A store beyond one block's end reaches the next one's state."""
    _, sid = world.inside(pages=PAGES)
    blocks = [world.owner.vas_malloc(64) for _ in range(2)]
    world.owner.write(min(blocks), b"\xff" * (max(blocks) - min(blocks)))
    before = world.http("owner").call("GET", f"/v1/segments/{sid}/data").body
    failure = world.fails("EFAULT", world.owner.vas_free, max(blocks))
    assert BASE <= int(failure.problem["address"], 16) < BASE + PAGES * PAGE
    assert world.http("owner").call("GET", f"/v1/segments/{sid}/data").body == before


@row("HEAP-EFAULT-3")
def test_a_heap_whose_beginning_is_damaged_is_used_no_more(world: World) -> None:
    _, sid = world.inside(pages=PAGES)
    block = world.owner.vas_malloc(64)
    (byte,) = world.owner.read(BASE + 20, 1)
    world.owner.write(BASE + 20, bytes([byte ^ 1]))
    before = world.http("owner").call("GET", f"/v1/segments/{sid}/data").body
    world.fails("EFAULT", world.owner.vas_malloc, 64)
    world.fails("EFAULT", world.owner.vas_free, block)
    world.fails("EFAULT", heap_of, world, sid)
    assert world.http("owner").call("GET", f"/v1/segments/{sid}/data").body == before


@row("HEAP-TINY-1")
def test_a_segment_of_one_page_has_a_heap(world: World) -> None:
    world.inside(pages=1)
    block = world.owner.vas_malloc(64)
    world.owner.write(block, b"x" * 64)
    world.fails("ENOMEM", world.owner.vas_malloc, PAGE)
    assert world.owner.vas_free(block) == 0


@row("HEAP-USAGE-EACCES-1", "http")
def test_the_heap_of_a_segment_needs_its_read_bit(world: World) -> None:
    sid = world.segment(0o640, pages=PAGES)
    world.fails("EACCES", heap_of, world, sid, "other")
    world.fails("EINVAL", heap_of, world, NO_ID)


@row("HEAP-HTTP-1", "http")
def test_the_routes_judge_their_members(world: World) -> None:
    world.inside(pages=PAGES)
    http, path = world.http("owner"), f"/v1/tasks/{world.owner.pid}/heap"
    for body in (
        {},
        {"size": "x"},
        {"size": 1.5},
        {"size": None},
        {"size": 8, "more": 1},
        {"size": 8, "sid": "x"},
    ):
        world.fails("EINVAL", http.call, "POST", path, body)
    world.fails("EINVAL", http.call, "DELETE", f"{path}/nowhere")
    stranger = HttpTask(world.http("other"), world.owner.pid, world.owner.tid)
    world.fails("EPERM", stranger.vas_malloc, 8)
    world.fails("EPERM", stranger.vas_free, BASE)
    made = http.call("POST", path, {"size": 8}).json["addr"]
    assert http.call("DELETE", f"{path}/{int(made, 16)}").status in (200, 204)


@row("HEAP-BATCH-1", "http")
def test_an_atomic_batch_that_fails_allocated_nothing(world: World) -> None:
    _, sid = world.inside(pages=PAGES)
    kept = world.owner.vas_malloc(8)
    before = heap_of(world, sid)
    calls = [
        {"call": "vas_malloc", "args": {"size": 100}}, {"call": "vas_free", "args": {"addr": hex(kept)}},
        {"call": "vas_free", "args": {"addr": hex(kept)}},
    ]  # fmt: skip
    path = f"/v1/tasks/{world.owner.pid}/batch?atomic=true"
    failure = world.fails("EINVAL", world.http("owner").call, "POST", path, {"calls": calls})
    assert failure.problem["index"] == 2
    assert heap_of(world, sid) == before
    assert world.owner.vas_free(kept) == 0
