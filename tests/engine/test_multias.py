"""multias: up to sixteen address spaces of one task, each a copy-on-write copy, none kept in step with another."""

import random

import pytest

from engine import constants as c
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import TOY, X86_64, Geometry
from tests.engine.host import BOB, FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.views_world import CREATE, CURRENT, DELETE, MIGRATE, SHARE, SWITCH_BASE, UNSHARE, World


@pytest.fixture
def world(host: Host) -> World:
    return World(host)


def test_a_slot_is_a_copy_of_the_one_that_its_maker_is_in(world: World) -> None:
    world.write(0, b"a")
    assert world.do("new_as") == 1
    world.write(0, b"b")
    world.do("switch_as", 1)
    assert world.read(0) == b"a"
    world.write(0, b"c")
    assert world.do("new_as") == 2
    world.do("switch_as", 2)
    assert world.read(0) == b"c"
    world.do("switch_as", 0)
    assert world.read(0) == b"b"
    world.do("switch_as", 0)
    assert world.read(0) == b"b"


def test_there_are_sixteen(world: World) -> None:
    assert [world.do("new_as") for _ in range(15)] == list(range(1, 16))
    assert world.refused("new_as") == "ENOENT"
    world.do("switch_as", 15)
    assert world.refused("new_as") == "ENOENT"
    for number in (-1, 16, 17, 1 << 40):
        assert world.refused("switch_as", number) == "ENOENT"
    world.do("switch_as", 7)


@pytest.mark.parametrize("number", [-1, 0, 1, 15, 16])
def test_there_is_nothing_to_switch_to_before_the_first(world: World, number: int) -> None:
    assert world.refused("switch_as", number) == "ENOENT"


def test_an_empty_slot_is_refused(world: World) -> None:
    world.do("new_as")
    assert world.refused("switch_as", 2) == "ENOENT"
    assert world.host.refused("switch_as", world.pid, 99, 1) == "ESRCH"
    assert world.host.refused("new_as", world.pid, None, cred=BOB) == "EPERM"


def test_only_what_was_mapped_shared_before_is_shared(world: World) -> None:
    world.do("mmap", world.at(0), world.length(1), RW, SHARED_MAP | FIXED)
    one = world.in_new_slot()
    world.do("mmap", world.at(1), world.length(1), RW, SHARED_MAP | FIXED, tid=one)
    for page in (0, 1, 2):
        world.write(page, b"x", one)
    assert [world.read(page) for page in range(3)] == [b"x", b"\0", b"\0"]


def test_every_call_on_memory_is_about_one_slot(world: World) -> None:
    one = world.in_new_slot()
    world.do("munmap", world.at(0), world.length(1), tid=one)
    world.do("mprotect", world.at(1), world.length(1), 1, tid=one)
    flags = c.MREMAP_MAYMOVE | c.MREMAP_FIXED
    world.do("mremap", world.at(2), world.length(1), world.length(1), flags, world.at(0), tid=one)
    assert world.arena() == [(0, 6, "rw-")]
    assert world.arena(one) == [(0, 1, "rw-"), (1, 2, "r--"), (3, 6, "rw-")]
    world.do("munmap", world.at(0), world.length(2))
    start = world.do("brk", 0)
    world.do("brk", start + world.host.page)
    assert world.do("brk", 0, tid=one) == start


def test_the_recipe_of_the_source(world: World) -> None:
    """Data goes to shared memory, slots are made until that fails, and everything shared is seen from each."""
    world.write(0, b"d")
    where = world.do("mmap", 0, world.length(1), RW, SHARED_MAP)
    world.do("write", where, b"d")
    flags = c.MREMAP_MAYMOVE | c.MREMAP_FIXED
    world.do("mremap", where, world.length(1), world.length(1), flags, world.at(0))
    numbers = []
    while True:
        try:
            numbers.append(world.do("new_as"))
        except EngineError as error:
            assert error.errno == "ENOENT"
            break
    assert numbers == list(range(1, c.SLOTS_MAX))
    last = b"d"
    for number in (*numbers, 0):
        world.do("switch_as", number)
        assert world.read(0) == last
        last = bytes([number + 1])
        world.write(0, last)


# -- threads, fork, exec, exit --------------------------------------------------------------------------------------


def test_threads_have_the_slots_of_their_task(world: World) -> None:
    one = world.in_new_slot()
    two = world.host.do("thread", world.pid, one)
    world.write(0, b"1", one)
    assert (world.read(0, two), world.read(0)) == (b"1", b"\0")
    world.do("switch_as", 0, tid=two)
    assert world.read(0, two) == b"\0"
    world.do("switch_as", 1)
    assert world.read(0) == b"1"


@pytest.mark.parametrize("end", ["exit", "exec"])
def test_fixed_bug_no_slot_is_freed_twice_when_threads_share_them(world: World, end: str) -> None:
    """The source copied the pointer to the slots with each thread, and freed them at each thread's exit."""
    host = world.host
    host.do("exit", world.pid)
    free = host.machine.pool.free_count
    world = World(host)
    tids = [world.in_new_slot() for _ in range(4)]
    for number, tid in enumerate(tids):
        world.write(0, bytes([number + 1]), tid)
    host.do("exit_thread", world.pid, tids[0])
    host.do("exit_thread", world.pid, tids[2])
    assert [world.read(0, tid) for tid in (tids[1], tids[3])] == [b"\2", b"\4"]
    world.do("switch_as", 1)
    assert world.read(0) == b"\1"
    host.do(end, world.pid)
    world.check()
    assert host.machine.pool.free_count == free


def test_fixed_bug_slots_do_not_outlive_exec(world: World) -> None:
    world.in_new_slot()
    world.host.do("exec", world.pid)
    assert world.refused("switch_as", 1) == "ENOENT"
    assert world.refused("switch_as", 0) == "ENOENT"
    assert world.view(CREATE) == 1


def test_fixed_bug_the_slot_behind_the_last_one_is_not_looked_at(world: World) -> None:
    for _ in range(15):
        world.do("new_as")
    assert world.refused("new_as") == "ENOENT"
    assert world.refused("switch_as", 16) == "ENOENT"


def test_a_child_has_the_slot_that_its_parent_was_in_and_no_other(world: World) -> None:
    one = world.in_new_slot()
    world.write(0, b"1", one)
    child = world.host.do("fork", world.pid, one).pid
    assert world.host.do("read", child, None, world.at(0), 1) == b"1"
    assert world.host.refused("switch_as", child, None, 0) == "ENOENT"
    assert world.host.do("mmview", child, None, CURRENT) == 0
    assert world.host.do("new_as", child, None) == 1


# -- views and spaces -----------------------------------------------------------------------------------------------


def test_a_task_with_slots_has_no_views_and_the_reverse(world: World) -> None:
    world.unshare(0, 1)
    world.do("new_as")
    for call in (
        (CREATE,),
        (DELETE, 1),
        (CURRENT,),
        (MIGRATE, 1),
        (UNSHARE, world.at(0), 1),
        (SHARE, world.at(0), 1),
        (SWITCH_BASE,),
    ):
        assert world.refused("mmview", *call) == "EBUSY"
    assert world.refused("mmview_create") == "EBUSY"
    assert world.refused("mmview_migrate", -1) == "EBUSY"
    assert world.refused("mmview_delete", 0) == "EBUSY"
    assert world.refused("mmview_unshare", world.at(0), 1) == "EBUSY"
    assert world.refused("mmview", 7) == "EINVAL"
    world.host.do("exec", world.pid)
    world.view(CREATE)
    world.view(DELETE, 1)
    assert world.refused("new_as") == "EBUSY"
    for number in (-1, 0, 16):
        assert world.refused("switch_as", number) == "EBUSY"


def test_a_slot_keeps_what_is_unshared_apart_as_fork_does(world: World) -> None:
    world.write(0, b"u")
    world.unshare(0, 1)
    one = world.in_new_slot()
    world.write(0, b"v", one)
    assert (world.read(0), world.read(0, one)) == (b"u", b"v")


def test_a_space_must_collide_with_no_slot(world: World) -> None:
    host, vid = world.host, world.host.space()
    other = host.task()
    host.enter(other, vid)
    host.map_at(other, 0, 1)
    host.do("exit", other)
    one = world.in_new_slot()
    world.do("munmap", world.at(0), world.length(1))
    assert host.refused("vas_attach", world.pid, vid, 2) == "EFAULT"
    world.do("munmap", world.at(0), world.length(1), tid=one)
    host.do("vas_attach", world.pid, vid, 2)
    for tid in (None, one):
        assert world.refused("mmap", world.at(0), world.length(1), RW, PRIVATE | FIXED, tid=tid) == "EEXIST"
    world.do("munmap", world.at(5), world.length(1))
    world.do("vas_switch", vid)
    assert world.refused("mmap", world.at(5), world.length(1), RW, PRIVATE | FIXED) == "EEXIST"


def test_a_thread_changes_its_slot_inside_a_space(world: World) -> None:
    host, vid = world.host, world.host.space()
    host.do("vas_attach", world.pid, vid, 2, False)
    world.do("vas_switch", vid)
    world.do("mmap", world.at(6), world.length(1), RW, PRIVATE | FIXED)
    world.write(6, b"s")
    world.write(0, b"0")
    world.do("new_as")
    world.write(0, b"1")
    world.do("switch_as", 1)
    assert (world.read(0), world.read(6)) == (b"0", b"s")
    assert host.do("active_vas", world.pid, None) == vid
    host.do("exit", world.pid)
    world.host.do("vas_delete", vid)


def test_a_slot_that_is_rolled_back_leaves_no_trace(world: World) -> None:
    world.write(0, b"a")
    machine, pid = world.host.machine, world.pid
    before, free = world.state(), machine.pool.free_count
    with machine.transaction() as txn:
        assert machine.new_as(ROOT, pid, None) == 1
        machine.switch_as(ROOT, pid, None, 1)
        machine.write(ROOT, pid, None, world.at(0), b"b")
        machine.exec(ROOT, pid)
    txn.rollback()
    world.check()
    assert (world.state(), world.read(0), machine.pool.free_count) == (before, b"a", free)
    assert world.refused("switch_as", 0) == "ENOENT"


def test_limits_are_those_of_every_slot(world: World) -> None:
    one = world.in_new_slot()
    world.host.do("prlimit", world.pid, "address_space", 0)
    for tid in (None, one):
        assert world.refused("mmap", 0, world.length(1), RW, PRIVATE, tid=tid) == "ENOMEM"


# -- beside a model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", [TOY, X86_64], ids=lambda each: each.name)
@pytest.mark.parametrize("number", range(4))
def test_random_histories_agree_with_a_model_of_bytes(geometry: Geometry, number: int) -> None:
    """Private pages are one dictionary for each slot; those mapped shared at first are one for all."""
    rng = random.Random(number)
    world = World(Host(geometry, 200 if number % 2 else 40, 0 if number % 2 else 400))
    world.do("mmap", world.at(5), world.length(1), RW, SHARED_MAP | FIXED)
    slots, threads, shared = {0: dict.fromkeys(range(5), 0)}, {world.pid: 0}, 0
    for _ in range(150):
        tid = rng.choice(list(threads))
        pages, page, byte = slots[threads[tid]], rng.randrange(6), rng.randrange(1, 256)
        match rng.randrange(7):
            case 0 if len(slots) < c.SLOTS_MAX:
                assert world.do("new_as", tid=tid) == len(slots)
                slots[len(slots)] = dict(pages)
            case 1 if len(slots) > 1:
                threads[tid] = rng.choice(list(slots))
                world.do("switch_as", threads[tid], tid=tid)
            case 2 if len(threads) < 4:
                threads[world.host.do("thread", world.pid, tid)] = threads[tid]
            case 3:
                world.do("mmap", world.at(page % 5), world.length(1), RW, PRIVATE | FIXED, tid=tid)
                pages[page % 5] = 0
            case _:
                world.write(page, bytes([byte]), tid)
                if page == 5:
                    shared = byte
                else:
                    pages[page] = byte
        for each, slot in threads.items():
            shown = [world.host.do("read", world.pid, each, world.at(number), 1)[0] for number in range(6)]
            assert shown == [*(slots[slot][number] for number in range(5)), shared]
