"""mmview, one call with seven operations: views of a task, who is in which, what differs between them."""

from everspace import (
    MMVIEW_CREATE,
    MMVIEW_CURRENT,
    MMVIEW_DELETE,
    MMVIEW_MIGRATE,
    MMVIEW_SHARE,
    MMVIEW_SWITCH_BASE,
    MMVIEW_UNSHARE,
)
from tests.conformance.support.calls import PAGE, Calls, HttpTask
from tests.conformance.support.memory import SHARED_ANON, USER_END, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

MAP_FIXED = 0x10


def create(task: Calls) -> int:
    return task.mmview(MMVIEW_CREATE)


def go(task: Calls, view: int) -> int:
    return task.mmview(MMVIEW_MIGRATE, view)


def here(task: Calls) -> int:
    return task.mmview(MMVIEW_CURRENT)


def unshare(task: Calls, page: int, count: int = 1) -> int:
    return task.mmview(MMVIEW_UNSHARE, at(page), count * PAGE)


@row("MMVIEW-CREATE-1")
def test_views_have_ascending_ids_and_the_first_is_the_base(world: World) -> None:
    assert here(world.owner) == 0
    assert [create(world.owner) for _ in range(3)] == [1, 2, 3]
    assert here(world.owner) == 0


@row("MMVIEW-CREATE-2")
def test_a_view_begins_as_what_its_creator_sees(world: World) -> None:
    """The copy is of the current view, not of the base."""
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"base")
    unshare(task, 0)
    go(task, create(task))
    task.write(at(0), b"mine")
    second = create(task)
    go(task, second)
    assert task.read(at(0), 4) == b"mine"
    task.write(at(0), b"2nd!")
    go(task, 1)
    assert task.read(at(0), 4) == b"mine"
    go(task, 0)
    assert task.read(at(0), 4) == b"base"


@row("MMVIEW-CREATE-3")
def test_every_region_is_in_a_new_view(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    put(task, 8, 1, flags=SHARED_ANON | MAP_FIXED)
    task.madvise(at(1), PAGE, 10)  # MADV_DONTFORK: views are no children
    before = task.maps()
    go(task, create(task))
    assert task.maps() == before


@row("MMVIEW-ID-1")
def test_view_ids_are_never_used_again(world: World) -> None:
    task = world.owner
    first = create(task)
    task.mmview(MMVIEW_DELETE, first)
    assert create(task) == first + 1


@row("MMVIEW-CURRENT-1")
def test_each_thread_has_its_own_current_view(world: World) -> None:
    task = world.owner
    thread = task.thread()
    first = create(task)
    assert go(thread, first) == 0
    assert (here(task), here(thread)) == (0, first)


@row("MMVIEW-MIGRATE-1")
def test_migrate_returns_the_view_before(world: World) -> None:
    task = world.owner
    first, second = create(task), create(task)
    assert [go(task, view) for view in (first, second, second, 0, 0)] == [0, first, second, second, 0]


@row("MMVIEW-MIGRATE-EINVAL-1")
def test_there_is_no_way_into_an_unknown_view(world: World) -> None:
    task = world.owner
    create(task)
    for view in (2, 99, -1, 2**31, 2**62):
        world.fails("EINVAL", go, task, view)
        assert here(task) == 0


@row("MMVIEW-MIGRATE-EINVAL-2")
def test_there_is_no_way_into_a_deleted_view(world: World) -> None:
    task = world.owner
    view = create(task)
    thread = task.thread()
    go(thread, view)
    task.mmview(MMVIEW_DELETE, view)
    world.fails("EINVAL", go, task, view)
    assert here(thread) == view
    go(thread, 0)
    world.fails("EINVAL", go, thread, view)


@row("MMVIEW-MIGRATE-EINVAL-3")
def test_views_are_of_one_task(world: World) -> None:
    create(world.owner)
    second = world.task("owner")
    world.fails("EINVAL", go, second, 1)
    assert here(second) == 0


@row("MMVIEW-DELETE-1")
def test_a_view_nobody_is_in_is_deleted(world: World) -> None:
    view = create(world.owner)
    assert world.owner.mmview(MMVIEW_DELETE, view) == 0
    world.fails("EINVAL", go, world.owner, view)


@row("MMVIEW-DELETE-EINVAL-1")
def test_what_is_no_view_is_not_deleted(world: World) -> None:
    task = world.owner
    for view in (1, 99, -1, 2**62):
        world.fails("EINVAL", task.mmview, MMVIEW_DELETE, view)
    view = create(task)
    go(task, view)
    task.mmview(MMVIEW_DELETE, view)
    world.fails("EINVAL", task.mmview, MMVIEW_DELETE, view)


@row("MMVIEW-DELETE-EPERM-1")
def test_the_base_is_not_deleted(world: World) -> None:
    task = world.owner
    world.fails("EPERM", task.mmview, MMVIEW_DELETE, 0)
    go(task, create(task))
    world.fails("EPERM", task.mmview, MMVIEW_DELETE, 0)


@row("MMVIEW-DELETE-DEFER-1")
def test_a_deleted_view_stays_for_those_who_are_inside(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    unshare(task, 0)
    view = create(task)
    threads = [task.thread(), task.thread()]
    for thread in threads:
        go(thread, view)
    threads[0].write(at(0), b"view")
    task.mmview(MMVIEW_DELETE, view)
    assert [here(thread) for thread in threads] == [view, view]
    threads[1].write(at(0) + 4, b"!")
    threads[1].write(at(1), b"shared")
    assert threads[0].read(at(0), 5) == b"view!"
    assert (task.read(at(0), 5), task.read(at(1), 6)) == (bytes(5), b"shared")


@row("MMVIEW-DELETE-DEFER-2")
def test_a_deleted_view_is_gone_with_its_last_thread(world: World) -> None:
    """As long as it is there, nothing can be unshared, since there is more than one view."""
    task = world.owner
    put(task, 0)
    view = create(task)
    threads = [task.thread(), task.thread()]
    for thread in threads:
        go(thread, view)
    task.mmview(MMVIEW_DELETE, view)
    go(threads[0], 0)
    world.fails("EPERM", unshare, task, 0)
    threads[1].exit()
    assert unshare(task, 0) == 0


@row("MMVIEW-DELETE-DEFER-3")
def test_a_thread_may_delete_the_view_it_is_in(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.write(at(0), b"still here")
    view = create(task)
    go(task, view)
    assert task.mmview(MMVIEW_DELETE, view) == 0
    assert here(task) == view
    assert task.read(at(0), 10) == b"still here"
    go(task, 0)
    world.fails("EINVAL", go, task, view)


@row("MMVIEW-SWITCH-BASE-1")
def test_the_current_view_becomes_the_base(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"before")
    view = create(task)
    go(task, view)
    task.write(at(1), b"shared")
    assert task.mmview(MMVIEW_SWITCH_BASE) == view
    assert task.mmview(MMVIEW_SWITCH_BASE) == view
    world.fails("EPERM", task.mmview, MMVIEW_DELETE, view)
    assert task.mmview(MMVIEW_DELETE, 0) == 0
    world.fails("EINVAL", go, task, 0)
    assert (task.read(at(0), 6), task.read(at(1), 6)) == (b"before", b"shared")


@row("MMVIEW-SWITCH-BASE-2")
def test_another_base_changes_no_bytes_of_any_view(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    task.write(at(0), b"old text")
    unshare(task, 0)
    view = create(task)
    go(task, view)
    task.write(at(0), b"new text")
    task.write(at(2), b"data")
    task.mmview(MMVIEW_SWITCH_BASE)
    for place, text in ((view, b"new text"), (0, b"old text")):
        go(task, place)
        assert (task.read(at(0), 8), task.read(at(2), 4)) == (text, b"data")
    task.write(at(2), b"DATA")
    go(task, view)
    assert task.read(at(2), 4) == b"DATA"


@row("MMVIEW-SWITCH-BASE-3")
def test_a_task_without_views_is_in_its_base(world: World) -> None:
    assert world.owner.mmview(MMVIEW_SWITCH_BASE) == 0
    assert here(world.owner) == 0


@row("MMVIEW-SHARED-1")
def test_a_store_to_shared_memory_is_seen_in_all_views(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    task.write(at(0), b"before")
    views = [0, create(task), create(task)]
    for number, view in enumerate(views):
        go(task, view)
        assert task.read(at(0), 6) == b"before"
        task.write(at(1) + number, bytes([number + 1]))
    for view in views:
        go(task, view)
        assert task.read(at(1), 4) == b"\1\2\3\0"


@row("MMVIEW-SHARED-2")
def test_a_map_and_an_unmap_are_one_in_all_views(world: World) -> None:
    task = world.owner
    threads = [task.thread(), task.thread()]
    for thread in threads:
        go(thread, create(task))
    put(threads[0], 0, 3)
    assert [regions(each) for each in (task, *threads)] == [["0-3 rw-p"]] * 3
    threads[1].munmap(at(1), PAGE)
    assert [regions(each) for each in (task, *threads)] == [["0-1 rw-p", "2-3 rw-p"]] * 3
    task.write(at(2), b"from the base")
    assert [each.read(at(2), 13) for each in threads] == [b"from the base"] * 2
    world.fails("EFAULT", threads[0].read, at(1), 1)


@row("MMVIEW-SHARED-3")
def test_mremap_is_one_in_all_views(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(1), b"moves")
    thread = task.thread()
    go(thread, create(task))
    assert thread.mremap(at(0), 2 * PAGE, 4 * PAGE, 3, at(16)) == at(16)
    assert regions(task) == regions(thread) == ["16-20 rw-p"]
    assert task.read(at(17), 5) == b"moves"


@row("MMVIEW-SHARED-4")
def test_the_heap_is_one_in_all_views(world: World) -> None:
    task = world.owner
    heap = task.brk()
    thread = task.thread()
    go(thread, create(task))
    assert thread.brk(heap + 2 * PAGE) == heap + 2 * PAGE
    assert task.brk() == heap + 2 * PAGE
    thread.write(heap, b"heap")
    assert task.read(heap, 4) == b"heap"
    assert task.brk(heap) == heap
    world.fails("EFAULT", thread.read, heap, 1)


@row("MMVIEW-SHARED-5")
def test_a_stack_grows_in_all_views(world: World) -> None:
    task = world.owner
    thread = task.thread()
    go(thread, create(task))
    (stack,) = (line for line in task.maps().splitlines() if line.endswith("[stack]"))
    start = int(stack.split("-")[0], 16)
    thread.write(start - 3 * PAGE, b"deep")
    assert task.read(start - 3 * PAGE, 4) == b"deep"
    assert task.maps() == thread.maps()


@row("MMVIEW-UNSHARE-1")
def test_unshared_memory_is_private_to_each_view_from_its_creation(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"old")
    assert unshare(task, 0) == 0
    task.write(at(0), b"new")
    view = create(task)
    task.write(at(0), b"base")
    go(task, view)
    assert task.read(at(0), 4) == b"new\0"
    task.write(at(0), b"view")
    task.write(at(1), b"both")
    go(task, 0)
    assert (task.read(at(0), 4), task.read(at(1), 4)) == (b"base", b"both")


@row("MMVIEW-UNSHARE-2")
def test_every_page_that_the_range_touches_is_meant(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    assert task.mmview(MMVIEW_UNSHARE, at(0), PAGE + 1) == 0
    go(task, create(task))
    task.write(at(0), b"x" * 4 * PAGE)
    go(task, 0)
    assert task.read(at(0), 4 * PAGE) == bytes(2 * PAGE) + b"x" * 2 * PAGE


@row("MMVIEW-UNSHARE-3")
def test_holes_in_the_range_do_not_matter(world: World) -> None:
    task = world.owner
    put(task, 1)
    put(task, 3)
    assert unshare(task, 0, 6) == 0
    go(task, create(task))
    for page in (1, 3):
        task.write(at(page), b"view")
    go(task, 0)
    assert [task.read(at(page), 4) for page in (1, 3)] == [bytes(4)] * 2


@row("MMVIEW-UNSHARE-4")
def test_shared_and_unshared_regions_do_not_merge(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    unshare(task, 1)
    assert regions(task) == ["0-1 rw-p", "1-2 rw-p", "2-3 rw-p"]
    assert task.mmview(MMVIEW_SHARE, at(1), PAGE) == 0
    assert regions(task) == ["0-3 rw-p"]


@row("MMVIEW-UNSHARE-EINVAL-1")
def test_unshare_and_share_judge_their_arguments(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    for op in (MMVIEW_UNSHARE, MMVIEW_SHARE):
        for addr, length in (
            (at(0) + 1, PAGE), (at(0), 0), (at(8), PAGE), (USER_END, PAGE), (USER_END - PAGE, 2 * PAGE),
            (2**64 - PAGE, PAGE), (at(0), 2**63),
        ):  # fmt: skip
            world.fails("EINVAL", task.mmview, op, addr, length)


@row("MMVIEW-UNSHARE-EPERM-1")
def test_nothing_is_unshared_or_shared_once_there_are_views(world: World) -> None:
    """It is tested first: before the address is looked at."""
    task = world.owner
    put(task, 0, 2)
    unshare(task, 0)
    view = create(task)
    for op in (MMVIEW_UNSHARE, MMVIEW_SHARE):
        for addr in (at(0), at(1), at(0) + 1, at(64)):
            world.fails("EPERM", task.mmview, op, addr, PAGE)
    task.mmview(MMVIEW_DELETE, view)
    assert unshare(task, 1) == 0


@row("MMVIEW-UNSHARE-EACCES-1")
def test_a_shared_mapping_cannot_be_unshared(world: World) -> None:
    task = world.owner
    put(task, 0)
    put(task, 1, flags=SHARED_ANON | MAP_FIXED)
    for page, count in ((1, 1), (0, 2)):
        world.fails("EACCES", unshare, task, page, count)
    go(task, create(task))
    task.write(at(0), b"still shared")
    go(task, 0)
    assert task.read(at(0), 12) == b"still shared"


@row("MMVIEW-UNSHARE-ENOMEM-1")
def test_unshare_keeps_the_limit_of_regions(world: World) -> None:
    task = world.owner
    put(task, 0, 3)
    task.prlimit("map_count", len(task.maps().splitlines()) + 1)
    world.fails("ENOMEM", unshare, task, 1)


@row("MMVIEW-SHARE-1")
def test_shared_again_memory_is_one_for_later_views(world: World) -> None:
    """The reason for the operation: a child of fork may keep marks of its parent."""
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"kept")
    unshare(task, 0, 2)
    assert task.mmview(MMVIEW_SHARE, at(0), PAGE) == 0
    assert task.mmview(MMVIEW_SHARE, at(0), PAGE) == 0
    assert task.read(at(0), 4) == b"kept"
    go(task, create(task))
    for page in (0, 1):
        task.write(at(page), b"view")
    go(task, 0)
    assert (task.read(at(0), 4), task.read(at(1), 4)) == (b"view", bytes(4))


@row("MMVIEW-MPROTECT-1")
def test_mprotect_of_shared_memory_is_for_all_views(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    thread = task.thread()
    go(thread, create(task))
    thread.mprotect(at(0), PAGE, 1)
    assert regions(task) == regions(thread) == ["0-1 r--p", "1-2 rw-p"]
    world.fails("EFAULT", task.write, at(0), b"x")


@row("MMVIEW-MPROTECT-2")
def test_mprotect_of_unshared_memory_is_for_the_current_view(world: World) -> None:
    """So one view's text can be made writable and patched while the others run theirs."""
    task = world.owner
    put(task, 0, 2, prot=5)
    unshare(task, 0)
    thread = task.thread()
    go(thread, create(task))
    thread.mprotect(at(0), PAGE, 3)
    thread.write(at(0), b"patch")
    thread.mprotect(at(0), PAGE, 5)
    world.fails("EFAULT", thread.write, at(0), b"x")
    assert (thread.read(at(0), 5), task.read(at(0), 5)) == (b"patch", bytes(5))
    thread.mprotect(at(0), PAGE, 3)
    world.fails("EFAULT", task.write, at(0), b"x")
    assert regions(task)[0].endswith("r-xp")
    assert regions(thread)[0].endswith("rw-p")


@row("MMVIEW-MPROTECT-EACCES-1")
def test_mprotect_of_mixed_memory_is_refused(world: World) -> None:
    task = world.owner
    put(task, 0, 4)
    unshare(task, 1)
    create(task)
    for first, count in ((0, 2), (1, 2), (0, 4)):
        world.fails("EACCES", task.mprotect, at(first), count * PAGE, 1)
    task.mprotect(at(2), 2 * PAGE, 1)
    task.mprotect(at(1), PAGE, 1)


@row("MMVIEW-THREAD-1")
def test_a_thread_starts_in_its_creators_view(world: World) -> None:
    task = world.owner
    view = create(task)
    go(task, view)
    assert here(task.thread()) == view


@row("MMVIEW-FORK-1")
def test_a_child_has_the_current_view_alone_as_its_base(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    unshare(task, 0)
    view = create(task)
    go(task, view)
    task.write(at(0), b"view")
    task.write(at(1), b"both")
    child = world.adopt(task.fork())
    assert here(child) == 0
    assert (child.read(at(0), 4), child.read(at(1), 4)) == (b"view", b"both")
    world.fails("EINVAL", go, child, view)
    child.write(at(1), b"mine")
    assert task.read(at(1), 4) == b"both"


@row("MMVIEW-FORK-2")
def test_a_child_keeps_the_marks(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    unshare(task, 0)
    go(task, create(task))
    child = world.adopt(task.fork())
    assert create(child) == 1
    go(child, 1)
    for page in (0, 1):
        child.write(at(page), b"view")
    go(child, 0)
    assert (child.read(at(0), 4), child.read(at(1), 4)) == (bytes(4), b"view")
    child.mmview(MMVIEW_DELETE, 1)
    assert child.mmview(MMVIEW_SHARE, at(0), PAGE) == 0


@row("MMVIEW-EXEC-1")
def test_exec_leaves_no_views(world: World) -> None:
    task = world.owner
    view = create(task)
    go(task, view)
    task.exec()
    assert here(task) == 0
    world.fails("EINVAL", go, task, view)
    put(task, 0)
    assert unshare(task, 0) == 0


@row("MMVIEW-SPACE-1")
def test_every_view_is_joined_with_the_space_that_a_thread_is_in(world: World) -> None:
    """Views are of the task, the space is the space: going into a view is not going out of the space."""
    task = world.owner
    put(task, 64)
    unshare(task, 64)
    vid, _ = world.inside()
    view = create(task)
    assert go(task, view) == 0
    assert task.active_vas() == vid
    task.write(at(0), b"the space's")
    task.write(at(64), b"the view's")
    go(task, 0)
    assert task.active_vas() == vid
    assert (task.read(at(0), 11), task.read(at(64), 10)) == (b"the space's", bytes(10))
    go(task, view)
    task.vas_switch(0)
    assert (here(task), task.read(at(64), 10)) == (view, b"the view's")
    world.fails("EFAULT", task.read, at(0), 1)


@row("MMVIEW-SPACE-2")
def test_a_region_of_any_view_keeps_spaces_away(world: World) -> None:
    """All views have one layout, so what collides with one collides with all."""
    task = world.owner
    thread = task.thread()
    go(thread, create(task))
    put(thread, 0)
    vid, _ = world.space_with_segment()
    failure = world.fails("EFAULT", task.vas_attach, 0, vid, 2)
    assert failure.names(at(0))
    thread.munmap(at(0), PAGE)
    task.vas_attach(0, vid, 2)
    world.fails("EEXIST", put, thread, 0)


@row("MMVIEW-EBUSY-1")
def test_a_task_with_slots_has_no_views(world: World) -> None:
    world.owner.new_as()
    world.fails("EBUSY", create, world.owner)
    world.owner.exec()
    assert create(world.owner) == 1


@row("MMVIEW-EINVAL-1", "http")
def test_operations_have_their_own_arguments(world: World) -> None:
    http, path = world.http("owner"), f"/v1/tasks/{world.owner.pid}/mmview"
    put(world.owner, 0)
    for body in (
        {}, {"op": 7}, {"op": -1}, {"op": "create"}, {"op": None}, {"op": 1}, {"op": 3}, {"op": 4},
        {"op": 4, "addr": hex(at(0))}, {"op": 5, "len": PAGE}, {"op": 0, "more": 1}, {"op": 3, "id": "x"},
        {"op": 3, "id": 1.5},
    ):  # fmt: skip
        world.fails("EINVAL", http.call, "POST", path, body)
    world.fails("ESRCH", http.call, "POST", path, {"op": 2, "tid": 2_000_000_000})
    world.fails("ESRCH", http.call, "POST", "/v1/tasks/2000000000/mmview", {"op": 2})


@row("MMVIEW-EPERM-1", "http")
def test_views_of_another_uids_task_are_not_acted_on(world: World) -> None:
    create(world.owner)
    for account in ("other", "member"):
        stranger = HttpTask(world.http(account), world.owner.pid, world.owner.tid)
        for args in (
            [MMVIEW_CREATE],
            [MMVIEW_CURRENT],
            [MMVIEW_MIGRATE, 1],
            [MMVIEW_DELETE, 1],
            [MMVIEW_SWITCH_BASE],
        ):
            world.fails("EPERM", stranger.mmview, *args)
    root = HttpTask(world.http("root"), world.owner.pid, world.owner.tid)
    assert go(root, 1) == 0


@row("MMVIEW-BATCH-1", "http")
def test_an_atomic_batch_that_fails_takes_back_what_views_did(world: World) -> None:
    task = HttpTask(world.http("owner"), world.owner.pid, world.owner.tid)
    put(task, 0, 2)
    unshare(task, 0)
    view = create(task)
    calls = [
        {"call": "mmview", "args": {"op": MMVIEW_CREATE}}, {"call": "mmview", "args": {"op": MMVIEW_MIGRATE, "id": view}},
        {"call": "mprotect", "args": {"addr": hex(at(0)), "length": PAGE, "prot": 1}},
        {"call": "mmview", "args": {"op": MMVIEW_SWITCH_BASE}}, {"call": "mmview", "args": {"op": MMVIEW_DELETE, "id": 0}},
        {"call": "munmap", "args": {"addr": hex(at(1)), "length": PAGE}},
        {"call": "mmview", "args": {"op": MMVIEW_MIGRATE, "id": 99}},
    ]  # fmt: skip
    path = f"/v1/tasks/{task.pid}/batch?atomic=true"
    failure = world.fails("EINVAL", task.http.call, "POST", path, {"calls": calls})
    assert failure.problem["index"] == 6
    assert here(task) == 0
    world.fails("EPERM", task.mmview, MMVIEW_DELETE, 0)
    go(task, view)
    assert regions(task) == ["0-1 rw-p", "1-2 rw-p"]
    assert create(task) == view + 1
