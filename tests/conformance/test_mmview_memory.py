"""mmview and memory: what is one in all views, what is each view's own, and what children and spaces have of them."""

from everspace import MMVIEW_DELETE, MMVIEW_SHARE, MMVIEW_UNSHARE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.memory import SHARED_ANON, USER_END, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.views import create, go, here, unshare
from tests.conformance.support.world import World

MAP_FIXED = 0x10


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
