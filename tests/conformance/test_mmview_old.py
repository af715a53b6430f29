"""mmview, the older interface of four calls: the same views under other names, and other errnos here and there."""

from everspace import MMVIEW_CREATE, MMVIEW_CURRENT, MMVIEW_MIGRATE
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.memory import SHARED_ANON, USER_END, at, put
from tests.conformance.support.rows import row
from tests.conformance.support.world import World

MAP_FIXED = 0x10


@row("MMVIEW-OLD-CREATE-1")
def test_create_returns_an_id(world: World) -> None:
    assert [world.owner.mmview_create() for _ in range(3)] == [1, 2, 3]


@row("MMVIEW-OLD-SAME-1")
def test_both_interfaces_act_on_the_same_views(world: World) -> None:
    task = world.owner
    old, new = task.mmview_create(), task.mmview(MMVIEW_CREATE)
    assert (old, new) == (1, 2)
    assert task.mmview(MMVIEW_MIGRATE, old) == 0
    assert task.mmview_migrate(new) == old
    assert task.mmview(MMVIEW_CURRENT) == new
    assert task.mmview_delete(old) == 0
    world.fails("EINVAL", task.mmview, MMVIEW_MIGRATE, old)


@row("MMVIEW-OLD-MIGRATE-1")
def test_migrate_returns_the_view_before_also_of_its_own(world: World) -> None:
    task = world.owner
    view = task.mmview_create()
    assert [task.mmview_migrate(to) for to in (view, view, 0)] == [0, view, view]


@row("MMVIEW-OLD-MIGRATE-2")
def test_a_negative_id_asks_for_the_current_view(world: World) -> None:
    task = world.owner
    view = task.mmview_create()
    assert task.mmview_migrate(-1) == 0
    task.mmview_migrate(view)
    assert [task.mmview_migrate(asked) for asked in (-1, -2, -(2**62))] == [view] * 3
    assert task.mmview(MMVIEW_CURRENT) == view


@row("MMVIEW-OLD-MIGRATE-EINVAL-1")
def test_there_is_no_way_into_what_is_no_view_or_deleted(world: World) -> None:
    task = world.owner
    view = task.mmview_create()
    task.mmview_delete(view)
    for to in (view, 2, 2**62):
        world.fails("EINVAL", task.mmview_migrate, to)


@row("MMVIEW-OLD-DELETE-1")
def test_a_view_in_use_stays_until_its_last_thread_leaves(world: World) -> None:
    task = world.owner
    put(task, 0)
    view = task.mmview_create()
    task.mmview_migrate(view)
    assert task.mmview_delete(view) == 0
    assert task.mmview_migrate(-1) == view
    world.fails("EPERM", task.mmview_unshare, at(0), PAGE)
    assert task.mmview_migrate(0) == view
    assert task.mmview_unshare(at(0), PAGE) == 0


@row("MMVIEW-OLD-DELETE-EINVAL-1")
def test_the_base_and_what_is_no_view_are_not_deleted(world: World) -> None:
    """EINVAL for the base, where the newer interface has EPERM."""
    task = world.owner
    view = task.mmview_create()
    task.mmview_delete(view)
    for bad in (0, view, 99, 2**62):
        world.fails("EINVAL", task.mmview_delete, bad)


@row("MMVIEW-OLD-DELETE-EINVAL-2")
def test_a_negative_id_deletes_nothing(world: World) -> None:
    task = world.owner
    task.mmview_migrate(task.mmview_create())
    for bad in (-1, -(2**62)):
        world.fails("EINVAL", task.mmview_delete, bad)


@row("MMVIEW-OLD-UNSHARE-1")
def test_unshared_memory_is_private_to_each_view(world: World) -> None:
    task = world.owner
    put(task, 0, 2)
    task.write(at(0), b"text")
    assert task.mmview_unshare(at(0), 1) == 0
    task.mmview_migrate(task.mmview_create())
    assert task.read(at(0), 4) == b"text"
    task.write(at(0), b"view")
    task.write(at(1), b"both")
    task.mmview_migrate(0)
    assert (task.read(at(0), 4), task.read(at(1), 4)) == (b"text", b"both")


@row("MMVIEW-OLD-UNSHARE-EPERM-1")
def test_the_number_of_views_is_seen_before_the_address(world: World) -> None:
    task = world.owner
    put(task, 0)
    task.mmview_create()
    for addr in (at(0), at(0) + 1, at(64)):
        world.fails("EPERM", task.mmview_unshare, addr, PAGE)


@row("MMVIEW-OLD-UNSHARE-EINVAL-1")
def test_unshare_judges_its_range(world: World) -> None:
    task = world.owner
    put(task, 0)
    for addr, length in ((at(0) + 1, PAGE), (at(0), 0), (at(8), PAGE), (USER_END, PAGE)):
        world.fails("EINVAL", task.mmview_unshare, addr, length)


@row("MMVIEW-OLD-UNSHARE-EACCES-1")
def test_a_shared_mapping_is_not_unshared(world: World) -> None:
    put(world.owner, 0, flags=SHARED_ANON | MAP_FIXED)
    world.fails("EACCES", world.owner.mmview_unshare, at(0), PAGE)


@row("MMVIEW-OLD-EINVAL-1", "http")
def test_the_old_calls_judge_their_members(world: World) -> None:
    task = world.owner
    http, path = world.http("owner"), f"/v1/tasks/{task.pid}"
    put(task, 0)
    for call, body in (
        ("mmview_create", {"more": 1}), ("mmview_migrate", {}), ("mmview_migrate", {"id": "x"}),
        ("mmview_delete", {}), ("mmview_delete", {"id": None}), ("mmview_unshare", {"addr": hex(at(0))}),
        ("mmview_unshare", {"len": PAGE}), ("mmview_unshare", {"addr": "here", "len": PAGE}),
    ):  # fmt: skip
        world.fails("EINVAL", http.call, "POST", f"{path}/{call}", body)
    stranger = HttpTask(world.http("other"), task.pid, task.tid)
    world.fails("EPERM", stranger.mmview_create)
    world.fails("EPERM", stranger.mmview_migrate, -1)
