"""mmview, one call with seven operations: views of a task, who is in which, how they come and go."""

from everspace import (
    MMVIEW_CREATE,
    MMVIEW_CURRENT,
    MMVIEW_DELETE,
    MMVIEW_MIGRATE,
    MMVIEW_SWITCH_BASE,
)
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.memory import SHARED_ANON, at, put, regions
from tests.conformance.support.rows import row
from tests.conformance.support.views import create, go, here, unshare
from tests.conformance.support.world import World

MAP_FIXED = 0x10


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


@row("MMVIEW-CREATE-ENOMEM-1", "http")
def test_views_have_an_end_and_the_task_goes_on(world: World) -> None:
    """About a thousand views of a small task; whoever deletes one may make another."""
    task = HttpTask(world.http("owner"), world.owner.pid, world.owner.tid)
    results = task.batch(*[{"call": "mmview_create"}] * 2000)
    made = [result["value"] for result in results if "value" in result]
    assert len(made) > 500
    assert {result["errno"] for result in results[len(made) :]} == {"ENOMEM"}
    world.fails("ENOMEM", create, task)
    task.mmview(MMVIEW_DELETE, made[0])
    assert create(task) > made[-1]
    assert go(task, made[-1]) == 0


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
