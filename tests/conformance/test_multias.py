"""multias: new_as and switch_as, sixteen copies of a task's address space."""

from everspace import O_RDWR
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.memory import SHARED_ANON, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

MAP_FIXED = 0x10
SLOTS = 16


@row("MULTIAS-NEW-1")
def test_slots_are_numbered_from_1_to_15(world: World) -> None:
    assert [world.owner.new_as() for _ in range(SLOTS - 1)] == list(range(1, SLOTS))


@row("MULTIAS-NEW-ENOENT-1")
def test_there_are_sixteen_with_the_original_one(world: World) -> None:
    task = world.owner
    put(task, 0)
    for _ in range(SLOTS - 1):
        task.new_as()
    for slot in (0, 7):
        task.switch_as(slot)
        world.fails("ENOENT", task.new_as)
    assert regions(task) == ["0-1 rw-p"]


@row("MULTIAS-NEW-2")
def test_new_as_stays_where_it_is(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.new_as()
    task.write(at(0), b"slot 0")
    task.switch_as(1)
    assert task.read(at(0), 6) == bytes(6)


@row("MULTIAS-NEW-3")
def test_the_copy_is_of_the_current_slot(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.switch_as(task.new_as())
    task.write(at(0), b"first")
    second = task.new_as()
    task.switch_as(0)
    assert task.read(at(0), 5) == bytes(5)
    task.switch_as(second)
    assert task.read(at(0), 5) == b"first"


@row("MULTIAS-SWITCH-1")
def test_switch_as_returns_0_also_to_the_current_slot(world: World) -> None:
    task = world.owner
    slot = task.new_as()
    put(task, 0)
    assert [task.switch_as(n) for n in (0, slot, slot, 0)] == [0, 0, 0, 0]
    assert regions(task) == ["0-1 rw-p"]


@row("MULTIAS-SWITCH-ENOENT-1")
def test_numbers_that_are_no_slot(world: World) -> None:
    task = world.owner
    task.new_as()
    for n in (-1, 2, 15, 16, 17, 2**31, -(2**62), 2**62):
        world.fails("ENOENT", task.switch_as, n)


@row("MULTIAS-SWITCH-ENOENT-2")
def test_before_the_first_new_as_there_are_no_slots_at_all(world: World) -> None:
    for n in (0, 1):
        world.fails("ENOENT", world.owner.switch_as, n)


@row("MULTIAS-PRIVATE-1")
def test_every_slot_is_private_after_new_as(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"common")
    slots = [0, task.new_as(), task.new_as()]
    for slot in slots:
        task.switch_as(slot)
        assert task.read(at(0), 6) == b"common"
        task.write(at(0), b"slot %d" % slot)
    for slot in slots:
        task.switch_as(slot)
        assert task.read(at(0), 6) == b"slot %d" % slot


@row("MULTIAS-PRIVATE-2")
def test_maps_and_unmaps_are_of_one_slot(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    slot = task.new_as()
    task.munmap(at(1), PAGE)
    put(task, 8)
    task.switch_as(slot)
    assert regions(task) == ["0-3 rw-p"]
    task.mprotect(at(0), 3 * PAGE, 1)
    task.switch_as(0)
    assert regions(task) == ["0-1 rw-p", "2-3 rw-p", "8-9 rw-p"]


@row("MULTIAS-HEAP-1")
def test_the_heap_grows_in_one_slot(world: World) -> None:
    task = world.owner
    heap = task.brk()
    slot = task.new_as()
    assert task.brk(heap + 2 * PAGE) == heap + 2 * PAGE
    task.switch_as(slot)
    assert task.brk() == heap
    assert task.brk(heap + PAGE) == heap + PAGE
    task.switch_as(0)
    assert task.brk() == heap + 2 * PAGE


@row("MULTIAS-SHARED-1")
def test_memory_mapped_shared_before_is_one_in_all_slots(world: World) -> None:
    task = world.owner
    put(task, 0, flags=SHARED_ANON | MAP_FIXED)
    slots = [0, task.new_as(), task.new_as()]
    for slot in slots:
        task.switch_as(slot)
        task.write(at(0) + slot, bytes([slot + 1]))
    for slot in slots:
        task.switch_as(slot)
        assert task.read(at(0), 4) == b"\1\2\3\0"


@row("MULTIAS-SHARED-2")
def test_memory_mapped_shared_afterwards_is_of_one_slot(world: World) -> None:
    task = world.owner
    slot = task.new_as()
    put(task, 0, flags=SHARED_ANON | MAP_FIXED)
    task.switch_as(slot)
    world.fails("EFAULT", task.read, at(0), 1)


@row("MULTIAS-RECIPE-1")
def test_the_recipe_of_the_source_shares_the_data_segment(world: World) -> None:
    """Data is copied into shared memory, which is moved over it; then copies are made until there are no more."""
    task = world.owner
    data = put(task, 0, 2)
    task.write(data, b"the program's data")
    shared = put(task, 16, 2, flags=SHARED_ANON | MAP_FIXED)
    task.write(shared, task.read(data, 2 * PAGE))
    assert task.mremap(shared, 2 * PAGE, 2 * PAGE, 3, data) == data
    made = 0
    while (refused := world.refused_or_none(task.new_as)) is None:
        made += 1
    assert (refused.errno, made) == ("ENOENT", SLOTS - 1)
    assert task.switch_as(0) == 0
    task.write(data, b"THE")
    for slot in range(SLOTS):
        task.switch_as(slot)
        assert task.read(data, 18) == b"THE program's data"


@row("MULTIAS-FORK-1")
def test_a_child_has_the_current_slot_alone(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.switch_as(task.new_as())
    task.write(at(0), b"slot 1")
    child = world.adopt(task.fork())
    assert child.read(at(0), 6) == b"slot 1"
    for n in (0, 1):
        world.fails("ENOENT", child.switch_as, n)
    assert child.new_as() == 1
    child.write(at(0), b"child!")
    assert task.read(at(0), 6) == b"slot 1"


@row("MULTIAS-EXEC-1")
def test_exec_leaves_no_slots(world: World) -> None:
    task = world.owner
    task.switch_as(task.new_as())
    task.exec()
    for n in (0, 1):
        world.fails("ENOENT", task.switch_as, n)
    assert task.new_as() == 1


@row("MULTIAS-EXIT-1", "http")
def test_exit_frees_every_slot(world: World) -> None:
    """Tasks with all their slots come and go; what they held is what they hold now: nothing."""
    vid, _ = world.space_with_segment()
    for _ in range(3):
        task = world.task("owner")
        put(task, 64, 16)
        task.vas_attach(0, vid, O_RDWR)
        for _ in range(SLOTS - 1):
            task.switch_as(task.new_as())
            task.write(at(64), b"x" * 16 * PAGE)
        task.vas_switch(vid)
        task.exit()
        assert world.owner.vas_getattr(vid).attach_count == 0
        world.fails("ESRCH", task.switch_as, 0)


@row("MULTIAS-THREAD-1")
def test_threads_are_in_slots_of_their_own(world: World) -> None:
    """The source copies a pointer to one table, and frees it twice."""
    task = world.owner
    put(task, 0)
    thread = task.thread()
    slot = task.new_as()
    assert thread.switch_as(slot) == 0
    task.write(at(0), b"in 0")
    thread.write(at(0), b"in 1")
    assert (task.read(at(0), 4), thread.read(at(0), 4)) == (b"in 0", b"in 1")
    task.switch_as(slot)
    assert task.read(at(0), 4) == b"in 1"
    thread.exit()
    task.switch_as(0)
    assert task.read(at(0), 4) == b"in 0"


@row("MULTIAS-THREAD-2")
def test_a_thread_starts_in_its_creators_slot(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.switch_as(task.new_as())
    task.write(at(0), b"slot 1")
    thread = task.thread()
    assert thread.read(at(0), 6) == b"slot 1"
    task.switch_as(0)
    assert thread.read(at(0), 6) == b"slot 1"


@row("MULTIAS-SPACE-1")
def test_every_slot_is_joined_with_the_space_that_a_thread_is_in(world: World) -> None:
    task = world.owner
    put(task, 64)
    vid, _ = world.inside()
    slot = task.new_as()
    assert task.switch_as(slot) == 0
    assert task.active_vas() == vid
    task.write(at(0), b"the space's")
    task.write(at(64), b"the slot's")
    task.switch_as(0)
    assert (task.read(at(0), 11), task.read(at(64), 10)) == (b"the space's", bytes(10))


@row("MULTIAS-SPACE-2")
def test_a_region_of_any_slot_keeps_spaces_away(world: World) -> None:
    task = world.owner
    slot = task.new_as()
    task.switch_as(slot)
    put(task, 0)
    task.switch_as(0)
    vid, _ = world.space_with_segment()
    assert world.fails("EFAULT", task.vas_attach, 0, vid, O_RDWR).names(at(0))
    task.switch_as(slot)
    task.munmap(at(0), PAGE)
    task.vas_attach(0, vid, O_RDWR)
    world.fails("EEXIST", put, task, 0)


@row("MULTIAS-EBUSY-1")
def test_a_task_with_views_has_no_slots(world: World) -> None:
    task = world.owner
    task.mmview(0)
    world.fails("EBUSY", task.new_as)
    task.exec()
    assert task.new_as() == 1


@row("MULTIAS-EPERM-1", "http")
def test_slots_of_another_uids_task_are_not_acted_on(world: World) -> None:
    world.owner.new_as()
    for account in ("other", "member"):
        stranger = HttpTask(world.http(account), world.owner.pid, world.owner.tid)
        world.fails("EPERM", stranger.new_as)
        world.fails("EPERM", stranger.switch_as, 1)
    root = HttpTask(world.http("root"), world.owner.pid, world.owner.tid)
    assert root.switch_as(1) == 0


@row("MULTIAS-EINVAL-1", "http")
def test_the_calls_judge_their_members(world: World) -> None:
    http, path = world.http("owner"), f"/v1/tasks/{world.owner.pid}"
    for body in ({}, {"n": "1"}, {"n": 1.5}, {"n": None}, {"n": 0, "more": 1}):
        world.fails("EINVAL", http.call, "POST", f"{path}/switch_as", body)
    world.fails("EINVAL", http.call, "POST", f"{path}/new_as", {"more": 1})
    world.fails("ESRCH", http.call, "POST", f"{path}/new_as", {"tid": 2_000_000_000})


@row("MULTIAS-BATCH-1", "http")
def test_an_atomic_batch_that_fails_made_no_slot(world: World) -> None:
    task = HttpTask(world.http("owner"), world.owner.pid, world.owner.tid)
    calls = [
        {"call": "new_as"}, {"call": "switch_as", "args": {"n": 1}}, {"call": "switch_as", "args": {"n": 9}},
    ]  # fmt: skip
    path = f"/v1/tasks/{task.pid}/batch?atomic=true"
    assert world.fails("ENOENT", task.http.call, "POST", path, {"calls": calls}).problem["index"] == 2
    world.fails("ENOENT", task.switch_as, 0)
