"""mmview: several address spaces of one task, kept in step but for what is unshared."""

import pytest

from engine.check import check
from engine.errors import EngineError
from engine.regions.address_space import VIEW_WEIGHT
from engine.regions.limits import RESOURCES
from tests.engine.host import BOB, FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.views_world import (
    CREATE,
    CURRENT,
    DELETE,
    MIGRATE,
    SHARE,
    SWITCH_BASE,
    UNSHARE,
    World,
)


@pytest.fixture
def world(host: Host) -> World:
    return World(host)


# -- the seven operations ---------------------------------------------------------------------------------------------


def test_a_store_is_seen_in_every_view(world: World) -> None:
    world.write(0, b"a")
    first, second = world.view(CREATE), world.view(CREATE)
    one, two = world.thread(first), world.thread(second)
    for number, tid in enumerate((None, one, two)):
        world.write(0, bytes([65 + number]), tid)
        assert {world.read(0, each) for each in (None, one, two)} == {bytes([65 + number])}
    world.write(1, b"new", two)
    assert world.read(1, None, 3) == world.read(1, one, 3) == b"new"


def test_unshared_pages_are_each_view_s_own_from_its_making_on(world: World) -> None:
    world.write(0, b"a")
    world.write(2, b"s")
    world.unshare(0, 2)
    one = world.thread(world.view(CREATE))
    assert world.read(0, one) == b"a"
    world.write(0, b"b")
    world.write(1, b"1", one)
    world.write(2, b"t", one)
    assert (world.read(0), world.read(0, one)) == (b"b", b"a")
    assert (world.read(1), world.read(1, one)) == (b"\0", b"1")
    assert (world.read(2), world.read(2, one)) == (b"t", b"t")
    two = world.thread(world.view(CREATE, tid=one))
    assert (world.read(0, two), world.read(1, two)) == (b"a", b"1")
    world.write(1, b"2", two)
    assert [world.read(1, tid) for tid in (None, one, two)] == [b"\0", b"1", b"2"]


def test_ids_are_never_used_again_and_migrate_tells_the_former_one(world: World) -> None:
    assert world.view(CURRENT) == 0
    assert [world.view(CREATE) for _ in range(3)] == [1, 2, 3]
    assert (world.view(MIGRATE, 2), world.view(CURRENT)) == (0, 2)
    assert (world.view(MIGRATE, 2), world.view(MIGRATE, 0)) == (2, 2)
    assert world.view(DELETE, 3) == 0
    assert world.view(CREATE) == 4


def test_what_does_not_exist_is_refused(world: World) -> None:
    for call in (
        (MIGRATE, 1),
        (MIGRATE, -1),
        (DELETE, 7),
        (DELETE, -1),
        (7,),
        (-1,),
        (MIGRATE,),
        (DELETE,),
        (UNSHARE, 0),
    ):
        assert world.refused("mmview", *call) == "EINVAL"
    assert world.refused("mmview", DELETE, 0) == "EPERM"
    assert world.refused("mmview_delete", 0) == "EINVAL"
    assert world.refused("mmview_delete", 3) == "EINVAL"
    assert world.refused("mmview_migrate", 3) == "EINVAL"
    world.view(CREATE)
    world.view(DELETE, 1)
    assert world.refused("mmview", DELETE, 1) == "EINVAL"
    assert world.refused("mmview", MIGRATE, 1) == "EINVAL"
    assert world.host.refused("mmview", world.pid, 99, CURRENT) == "ESRCH"
    assert world.host.refused("mmview", world.pid, None, CURRENT, cred=BOB) == "EPERM"


def test_the_old_interface(world: World) -> None:
    world.host.do("mmview_unshare", world.pid, None, world.at(0), 1)
    assert world.do("mmview_create") == 1
    assert world.do("mmview_migrate", -1) == 0
    assert world.do("mmview_migrate", 1) == 0
    assert world.do("mmview_migrate", -5) == 1
    assert world.refused("mmview_unshare", world.at(1), 1) == "EPERM"
    world.do("mmview_migrate", 0)
    assert world.do("mmview_delete", 1) is None
    assert world.refused("mmview_delete", 1) == "EINVAL"


@pytest.mark.parametrize("op", [UNSHARE, SHARE])
def test_ranges_that_cannot_be_unshared(world: World, op: int) -> None:
    world.host.do("munmap", world.pid, None, world.at(4), world.length(2))
    end = world.host.geometry.user_end
    for address, length in (
        (world.at(0) + 1, 1),
        (world.at(0), 0),
        (world.at(0), -1),
        (world.at(4), world.length(2)),
        (end, world.length(1)),
        (world.at(0), end),
        (-world.host.page, world.length(8)),
        (world.at(0), 1 << 64),
    ):
        assert world.refused("mmview", op, address, length) == "EINVAL", (address, length)
    world.view(CREATE)
    assert world.refused("mmview", op, world.at(0) + 1, 0) == "EPERM"


def test_a_length_is_rounded_up_and_holes_do_not_matter(world: World) -> None:
    world.host.do("munmap", world.pid, None, world.at(1), world.length(1))
    world.view(UNSHARE, world.at(0), world.length(2) + 1)
    one = world.thread(world.view(CREATE))
    for page, shared in ((0, False), (2, False), (3, True)):
        world.write(page, b"x", one)
        assert world.read(page) == (b"x" if shared else b"\0")


def test_mapped_shared_cannot_be_unshared_but_is_shared_already(world: World) -> None:
    world.host.map_at(world.pid, 1, 2, flags=SHARED_MAP)
    assert world.refused("mmview", UNSHARE, world.at(0), world.length(3)) == "EACCES"
    assert world.refused("mmview_unshare", world.at(0), world.length(3)) == "EACCES"
    assert world.view(SHARE, world.at(0), world.length(3)) == 0


def test_too_many_regions_refuse_to_unshare(world: World) -> None:
    task = world.task
    world.host.do("prlimit", world.pid, "map_count", len(task.space.vmas) + 1)
    assert world.refused("mmview", UNSHARE, world.at(1), world.length(1)) == "ENOMEM"
    world.unshare(1, 6)
    assert world.refused("mmview", SHARE, world.at(2), world.length(1)) == "ENOMEM"


def test_what_was_unshared_is_shared_again_with_the_bytes_of_the_view_that_is_left(world: World) -> None:
    world.write(0, b"a")
    world.unshare(0, 3)
    assert world.view(UNSHARE, world.at(0), world.length(3)) == 0
    one = world.thread(world.view(CREATE))
    world.write(0, b"b", one)
    world.view(MIGRATE, 1)
    world.view(SWITCH_BASE)
    assert world.refused("mmview", SHARE, world.at(0), world.length(3)) == "EPERM"
    world.view(DELETE, 0)
    assert world.view(SHARE, world.at(1), world.length(5)) == 0
    assert world.view(SHARE, world.at(0), world.length(6)) == 0
    two = world.thread(world.view(CREATE))
    assert world.read(0, two) == b"b"
    world.write(0, b"c", two)
    assert world.read(0) == world.read(0, one) == b"c"


def test_the_base_can_be_deleted_once_another_is_the_base(world: World) -> None:
    world.write(0, b"a")
    world.view(CREATE)
    assert world.view(SWITCH_BASE) == 0
    world.view(MIGRATE, 1)
    assert world.view(SWITCH_BASE) == 1
    assert world.refused("mmview", DELETE, 1) == "EPERM"
    assert world.view(DELETE, 0) == 0
    assert world.refused("mmview", MIGRATE, 0) == "EINVAL"
    world.write(1, b"b")
    assert world.read(0) == b"a"
    assert len(world.task.views) == 1


def test_a_deleted_view_lasts_until_its_last_thread_leaves(world: World) -> None:
    world.unshare(0, 1)
    task = world.task
    world.view(CREATE)
    one, two = world.thread(1), world.thread(1)
    world.write(0, b"x", one)
    world.view(DELETE, 1)
    assert world.refused("mmview", MIGRATE, 1) == "EINVAL"
    assert world.refused("mmview", MIGRATE, 1, tid=one) == "EINVAL"
    assert world.refused("mmview", SWITCH_BASE, tid=one) == "EINVAL"
    assert world.read(0, two) == b"x"
    world.write(3, b"s", two)
    assert world.read(3) == b"s"
    held = world.host.machine.pool.free_count
    world.view(MIGRATE, 0, tid=one)
    assert len(task.views) == 2
    assert world.refused("mmview", UNSHARE, world.at(2), 1) == "EPERM"
    world.host.do("exit_thread", world.pid, two)
    assert len(task.views) == 1
    assert world.host.machine.pool.free_count == held + 1
    assert world.view(UNSHARE, world.at(2), 1) == 0


def test_a_thread_deletes_the_view_that_it_is_in(world: World) -> None:
    world.view(CREATE)
    world.view(MIGRATE, 1)
    world.view(DELETE, 1)
    assert world.view(CURRENT) == 1
    assert world.view(CREATE) == 2
    assert world.view(MIGRATE, 2) == 1
    assert sorted(world.task.views) == [0, 2]


def test_a_new_thread_starts_in_its_creator_s_view(world: World) -> None:
    world.view(CREATE)
    one = world.thread(1)
    child = world.host.do("thread", world.pid, one)
    assert world.view(CURRENT, tid=child) == 1
    assert world.view(CURRENT, tid=world.host.do("thread", world.pid)) == 0


def test_every_limit_holds_in_every_view(world: World) -> None:
    one = world.thread(world.view(CREATE))
    for resource in RESOURCES:
        former = world.host.do("prlimit", world.pid, resource)
        world.host.do("prlimit", world.pid, resource, max(former - 1, 0))
    limits = {view.space.limits for view in world.task.views.values()}
    assert len(limits) == 1
    world.host.do("prlimit", world.pid, "address_space", 0)
    for tid in (None, one):
        assert world.refused("mmap", 0, world.length(1), RW, PRIVATE, tid=tid) == "ENOMEM"


def test_so_many_views_that_memory_runs_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.regions.address_space.REGIONS_MAX", 3 * VIEW_WEIGHT + 50)
    assert [world.view(CREATE), world.view(CREATE)] == [1, 2]
    assert world.refused("mmview", CREATE) == "ENOMEM"
    world.do("munmap", world.at(0), world.length(1))
    world.view(DELETE, 1)
    assert world.view(CREATE) == 3


def test_so_many_regions_in_all_views_that_memory_runs_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.view(CREATE)
    monkeypatch.setattr("engine.regions.address_space.REGIONS_MAX", 2 * len(world.task.space.vmas) + 1)
    assert world.refused("munmap", world.at(2), world.length(1)) == "ENOMEM"
    assert world.refused("mprotect", world.at(2), world.length(1), 1) == "ENOMEM"
    assert world.refused("mmap", world.at(6), world.length(1), 1, PRIVATE | FIXED) == "ENOMEM"
    world.do("munmap", world.at(5), world.length(1))
    world.do("munmap", world.at(0), world.length(5))


def test_a_transaction_rolled_back_leaves_no_trace(world: World) -> None:
    world.write(0, b"a")
    machine, pid = world.host.machine, world.pid
    before, free = world.state(), machine.pool.free_count
    cred = machine.tasks_table.get(pid).cred
    with machine.transaction() as txn:
        machine.mmview(cred, pid, None, UNSHARE, world.at(0), world.length(2))
        assert machine.mmview(cred, pid, None, CREATE) == 1
        tid = machine.thread(cred, pid)
        machine.mmview(cred, pid, tid, MIGRATE, 1)
        machine.write(cred, pid, tid, world.at(0), b"b")
        machine.mmap(cred, pid, tid, world.at(4), world.length(1), RW, PRIVATE | FIXED)
        machine.mprotect(cred, pid, tid, world.at(1), world.length(1), 1)
        machine.mmview(cred, pid, tid, SWITCH_BASE)
        machine.mmview(cred, pid, None, MIGRATE, 1)
        machine.mmview(cred, pid, None, DELETE, 0)
        machine.mmview(cred, pid, None, SHARE, world.at(0), world.length(2))
    txn.rollback()
    assert list(check(machine)) == []
    assert (world.state(), world.read(0)) == (before, b"a")
    assert machine.pool.free_count == free
    assert world.view(CREATE) == 1


def test_a_refused_call_in_a_batch_is_an_error_of_the_engine(world: World) -> None:
    machine, pid = world.host.machine, world.pid
    with pytest.raises(EngineError, match="no view 4"), machine.transaction():
        machine.mmview(machine.tasks_table.get(pid).cred, pid, None, MIGRATE, 4)
