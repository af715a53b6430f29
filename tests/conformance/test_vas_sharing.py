"""Attach types and sharing, of spaces; who holds what, and until when. Segments: test_seg_attach.py."""

import itertools

import everspace
from everspace import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

TYPES = (O_RDONLY, O_WRONLY, O_RDWR)
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


@row("VAS-SHARING-EXCLUSIVE-1")
def test_many_readers_or_one_writer(world: World) -> None:
    for held, asked in itertools.product(TYPES, TYPES):
        vid = world.space(0o666)
        holder, asker = world.task("owner"), world.task("other")
        holder.vas_attach(0, vid, held)
        if held == asked == O_RDONLY:
            asker.vas_attach(0, vid, asked)
            assert world.owner.vas_getattr(vid).attach_count == 2
        else:
            world.fails("EBUSY", asker.vas_attach, 0, vid, asked)
        holder.exit()
        asker.exit()


@row("VAS-SHARING-EXCLUSIVE-2")
def test_every_reader_must_go_before_a_writer_comes(world: World) -> None:
    vid = world.space()
    readers = [world.task("owner") for _ in range(3)]
    for reader in readers:
        reader.vas_attach(0, vid, O_RDONLY)
    for reader in readers:
        world.fails("EBUSY", world.owner.vas_attach, 0, vid, O_RDWR)
        reader.vas_detach(0, vid)
    world.owner.vas_attach(0, vid, O_RDWR)


@row("VAS-SHARING-EXCLUSIVE-3")
def test_root_keeps_the_sharing_rule(world: World) -> None:
    vid = world.space()
    world.owner.vas_attach(0, vid, O_RDONLY)
    world.fails("EBUSY", world.root.vas_attach, 0, vid, O_RDWR)


@row("VAS-SHARING-HELD-1")
def test_it_is_held_from_attach_to_detach_and_not_by_the_switch(world: World) -> None:
    vid = world.space()
    second = world.task("owner")
    world.owner.vas_attach(0, vid, O_RDWR)
    world.fails("EBUSY", second.vas_attach, 0, vid, O_RDWR)
    world.owner.vas_switch(vid)
    world.owner.vas_switch(0)
    world.fails("EBUSY", second.vas_attach, 0, vid, O_RDWR)
    world.owner.vas_detach(0, vid)
    second.vas_attach(0, vid, O_RDWR)


@row("VAS-SHARING-HELD-2")
def test_exit_gives_it_back(world: World) -> None:
    vid = world.space()
    holder = world.task("owner")
    holder.vas_attach(0, vid, O_RDWR)
    holder.vas_switch(vid)
    holder.exit()
    world.owner.vas_attach(0, vid, O_RDWR)
    assert world.owner.vas_getattr(vid).attach_count == 1


@row("VAS-SHARING-SHARED-1")
def test_a_shared_space_has_any_number_of_writers(world: World) -> None:
    vid = world.space(0o666, "shared")
    for type in (O_RDWR, O_RDONLY, O_WRONLY, O_RDWR):
        world.task("other").vas_attach(0, vid, type)
    assert world.owner.vas_getattr(vid).attach_count == 4


@row("VAS-SHARING-SHARED-2")
def test_writers_of_a_shared_space_see_each_other_at_once(world: World) -> None:
    vid, _ = world.space_with_segment(sharing="shared", mode=0o666)
    one, two = world.task("owner"), world.task("other")
    for task in (one, two):
        task.vas_attach(0, vid, O_RDWR)
        task.vas_switch(vid)
    for number in range(5):
        one.write(BASE + number * 8, number.to_bytes(8, "little"))
        assert two.read(BASE + number * 8, 8) == number.to_bytes(8, "little")
        two.write(BASE + PAGE, b"ping%d" % number)
        assert one.read(BASE + PAGE, 5) == b"ping%d" % number


@row("VAS-TYPE-RO-1")
def test_a_reader_reads_and_does_not_write(world: World) -> None:
    vid, _ = world.inside()
    world.owner.write(BASE, b"bytes")
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    assert reader.read(BASE, 5) == b"bytes"
    failure = world.fails("EFAULT", reader.write, BASE + 1, b"x")
    assert failure.problem["address"] == hex(BASE + 1)
    assert reader.read(BASE, 5) == b"bytes"


@row("VAS-TYPE-RO-2")
def test_a_reader_does_not_change_the_map_of_the_space(world: World) -> None:
    vid, _ = world.inside()
    made = world.owner.mmap(BASE + 16 * PAGE, PAGE, RW, ANON | MAP_FIXED)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    for prot in (RW, PROT_READ, PROT_NONE):
        world.fails("EACCES", reader.mprotect, made, PAGE, prot)
    world.fails("EACCES", reader.munmap, made, PAGE)
    world.fails("EACCES", reader.mmap, 0, PAGE, RW, ANON)
    world.fails("EACCES", reader.mmap, BASE + 32 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED)


@row("VAS-TYPE-RO-3")
def test_a_reader_still_changes_what_is_its_own(world: World) -> None:
    vid = world.space()
    own = world.owner.mmap(0, 4 * PAGE, RW, ANON)
    heap = world.owner.brk()
    world.owner.vas_attach(0, vid, O_RDONLY)
    world.owner.vas_switch(vid)
    world.owner.write(own, b"own")
    assert world.owner.brk(heap + PAGE) == heap + PAGE
    world.owner.mprotect(own + PAGE, PAGE, PROT_READ)
    world.owner.munmap(own + 2 * PAGE, PAGE)
    world.owner.vas_switch(0)
    assert world.owner.read(own, 3) == b"own"
    world.fails("EFAULT", world.owner.write, own + PAGE, b"x")
    world.fails("EFAULT", world.owner.read, own + 2 * PAGE, 1)


@row("VAS-TYPE-WO-1")
def test_a_write_only_attachment_counts_as_writer_and_reads(world: World) -> None:
    vid, _ = world.space_with_segment(mode=0o600)
    world.owner.vas_setattr(vid, mode=0o200)
    world.owner.vas_attach(0, vid, O_WRONLY)
    world.fails("EBUSY", world.root.vas_attach, 0, vid, O_RDONLY)
    world.owner.vas_switch(vid)
    world.owner.write(BASE, b"w")
    assert world.owner.read(BASE, 1) == b"w"


@row("VAS-LAZY-1")
def test_lazy_and_eager_differ_in_counters_and_not_in_bytes(world: World) -> None:
    """What an eager attachment builds at once, a lazy one builds when it is touched: both count it."""
    vid, _ = world.inside(sharing="shared", pages=8)
    world.owner.write(BASE, bytes(range(256)) * 16 * 8)
    http = world.http("owner")
    lazy, eager = world.task("owner"), world.task("owner")
    lazy.vas_attach(0, vid, O_RDWR)
    eager.vas_attach(0, vid, O_RDWR, lazy=False)
    counters = [http.get(f"/v1/tasks/{task.pid}")["counters"] for task in (lazy, eager)]
    assert counters[0].keys() == counters[1].keys()
    assert counters[0] != counters[1]
    kinds = [http.get(f"/v1/tasks/{task.pid}/vas/{vid}")["lazy"] for task in (lazy, eager)]
    assert kinds == [True, False]
    for task in (lazy, eager):
        task.vas_switch(vid)
    assert lazy.read(BASE, 8 * PAGE) == eager.read(BASE, 8 * PAGE) == bytes(range(256)) * 16 * 8
    touched = [http.get(f"/v1/tasks/{task.pid}")["counters"] for task in (lazy, eager)]
    assert touched[0] != counters[0]


@row("VAS-LAZY-2")
def test_a_change_by_another_is_seen_through_both_kinds(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    tasks = [world.task("owner") for _ in range(2)]
    for task, lazy in zip(tasks, (True, False), strict=True):
        task.vas_attach(0, vid, everspace.O_RDWR, lazy=lazy)
        task.vas_switch(vid)
    for text in (b"one", b"two"):
        world.owner.write(BASE + 3 * PAGE, text)
        assert [task.read(BASE + 3 * PAGE, 3) for task in tasks] == [text, text]
    made = world.owner.mmap(0, PAGE, RW, ANON)
    world.owner.write(made, b"new")
    assert [task.read(made, 3) for task in tasks] == [b"new", b"new"]
