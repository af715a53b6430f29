"""Views and attached spaces; and what the sources of mmview once did wrong."""

import pytest

from engine.credentials import ROOT
from engine.union import Union
from tests.engine.host import FIXED, PRIVATE, RW, SHARED_MAP, Host
from tests.engine.views_world import CREATE, DELETE, MIGRATE, SWITCH_BASE, World


@pytest.fixture
def world(host: Host) -> World:
    return World(host)


# -- inside spaces --------------------------------------------------------------------------------------------------


def attached(world: World, page: int = 6) -> int:
    """A space with one page, attached; its id."""
    host = world.host
    vid, other = host.space(), host.task()
    host.enter(other, vid)
    host.map_at(other, page, page + 1)
    host.do("exit", other)
    host.do("vas_attach", world.pid, vid, 2)
    return vid


def test_a_thread_migrates_inside_a_space(world: World) -> None:
    vid = attached(world)
    world.unshare(0, 1)
    one = world.in_new_view()
    for tid in (None, one):
        world.do("vas_switch", vid, tid=tid)
    world.write(0, b"0")
    world.write(0, b"1", one)
    world.write(6, b"s", one)
    assert world.read(6) == b"s"
    assert world.view(MIGRATE, 1) == 0
    assert world.host.do("active_vas", world.pid, None) == vid
    assert (world.read(0), world.read(6)) == (b"1", b"s")
    world.do("vas_switch", 0)
    assert world.refused("read", world.at(6), 1) == "EFAULT"
    assert world.read(0) == b"1"


def test_views_are_made_and_deleted_inside_spaces(world: World) -> None:
    vid = attached(world)
    world.do("vas_switch", vid)
    world.write(6, b"s")
    one = world.in_new_view()
    world.do("vas_switch", vid, tid=one)
    assert world.read(6, one) == b"s"
    world.view(DELETE, 1)
    world.write(6, b"t")
    assert world.read(6, one) == b"t"
    assert world.host.refused("vas_detach", world.pid, vid) == "EBUSY"
    world.host.do("exit_thread", world.pid, one)
    world.do("vas_switch", 0)
    world.host.do("vas_detach", world.pid, vid)
    world.check()
    space = world.host.machine.spaces.registry.get(vid).memory
    assert (space.peers, space.unions) == ([], [])


def test_what_collides_is_refused_from_every_view(world: World) -> None:
    vid = attached(world)
    one = world.in_new_view()
    for tid in (None, one):
        assert world.refused("mmap", world.at(6), world.length(1), RW, PRIVATE | FIXED, tid=tid) == "EEXIST"
        world.do("vas_switch", vid, tid=tid)
        assert world.refused("mmap", world.at(0), world.length(1), RW, PRIVATE | FIXED, tid=tid) == "EEXIST"
        world.do("vas_switch", 0, tid=tid)
    world.host.do("vas_detach", world.pid, vid)
    world.do("mmap", world.at(6), world.length(1), RW, PRIVATE | FIXED, tid=one)
    assert world.host.refused("vas_attach", world.pid, vid, 2) == "EFAULT"
    world.view(MIGRATE, 1)
    world.view(SWITCH_BASE)
    world.view(DELETE, 0)
    world.view(MIGRATE, 1, tid=one)
    assert world.host.refused("vas_attach", world.pid, vid, 2) == "EFAULT"


def test_who_waits_for_a_space_hears_when_a_thread_leaves_it(world: World) -> None:
    vid, left = attached(world), list[int]()
    world.host.machine.tasks_table.on_leave.append(left.append)
    one = world.in_new_view()
    world.do("vas_switch", vid, tid=one)
    assert left == []
    world.view(MIGRATE, 0, tid=one)
    assert left == []
    world.do("vas_switch", 0, tid=one)
    assert left == [vid]
    world.do("vas_switch", vid, tid=one)
    world.host.do("exit_thread", world.pid, one)
    world.do("vas_switch", vid)
    world.host.do("exec", world.pid)
    assert left.count(vid) == 3


# -- what the source once did wrong ---------------------------------------------------------------------------------


def test_fixed_bug_a_retried_fault_works_whichever_view_it_began_in(world: World) -> None:
    """A fault that has to wait is begun anew (VM_FAULT_RETRY): from the base, and from another view."""
    for page in range(4):
        world.write(page, bytes([65 + page]))
    world.host.do("vas_exec", world.pid, world.host.do("vas_fork", world.pid))
    one = world.in_new_view()
    fetches = world.host.fetches
    assert world.read(0) == b"A"
    assert world.read(0, one) == b"A"
    world.write(1, b"!", one)
    assert world.read(1, None, 2) == b"!\0"
    assert world.host.fetches > fetches


def test_fixed_bug_a_shared_anonymous_mapping_is_one_for_all_views(world: World) -> None:
    one = world.in_new_view()
    world.do("mmap", world.at(2), world.length(2), RW, SHARED_MAP | FIXED, tid=one)
    world.write(2, b"a")
    assert world.read(2, one) == b"a"
    shown = {id(world.task.thread(tid).view.space.vmas.find(world.at(2)).obj) for tid in (None, one)}  # type: ignore[union-attr]
    assert len(shown) == 1
    child = world.host.do("fork", world.pid, one).pid
    world.host.do("write", child, None, world.at(3), b"c")
    assert world.read(3) == world.read(3, one) == b"c"


def test_fixed_bug_the_old_page_does_not_come_back_after_a_copy(world: World) -> None:
    """After a fork a store copies the page: who had the old one must see the new one from then on."""
    world.write(0, b"a")
    one = world.in_new_view()
    assert world.read(0, one) == b"a"
    child = world.host.do("fork", world.pid).pid
    assert world.read(0, one) == world.read(0) == b"a"
    world.write(0, b"b")
    assert world.read(0, one) == b"b"
    world.write(0, b"c", one)
    assert world.read(0) == b"c"
    assert world.host.do("read", child, None, world.at(0), 1) == b"a"


def test_fixed_bug_no_translation_is_dropped_without_need(world: World) -> None:
    """Storing again to a page that is there takes no other view's translations away; nor does reading."""
    one = world.in_new_view()
    world.write(0, b"a")
    world.write(0, b"b", one)
    world.read(1)
    tables = [union.table for union in world.task.unions()]
    before = [table.shot_down for table in tables]
    for tid in (None, one) * 3:
        world.write(0, b"c", tid)
        world.read(1, tid)
        world.host.do("mincore", world.pid, tid, world.at(0), world.length(2))
    assert [table.shot_down for table in tables] == before


def test_fixed_bug_a_view_that_could_not_be_made_is_seen_by_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vid = attached(world)
    world.unshare(0, 1)
    peers = len(world.host.machine.spaces.registry.get(vid).memory.peers)
    mappers = len(world.task.space.memory.mappers)

    def populate(union: Union) -> None:
        raise MemoryError

    monkeypatch.setattr(Union, "populate", populate)
    world.task.attachments[vid].lazy = False
    with pytest.raises(MemoryError), world.host.machine.transaction():
        world.host.machine.mmview(ROOT, world.pid, None, CREATE)
    world.check()
    assert len(world.task.views) == 1
    assert len(world.host.machine.spaces.registry.get(vid).memory.peers) == peers
    assert len(world.task.space.memory.mappers) == mappers


def test_fixed_bug_a_fork_protects_the_pages_of_every_view(world: World) -> None:
    """Translations that let a view store must go, in all views, or a store would reach the child."""
    world.unshare(0, 1)
    one = world.in_new_view()
    for tid in (None, one):
        world.write(0, b"u", tid)
        world.write(1, b"s", tid)
    child = world.host.do("fork", world.pid).pid
    for tid in (one, None):
        world.write(0, b"v", tid)
        world.write(1, b"t", tid)
    assert world.host.do("read", child, None, world.at(0), 1) == b"u"
    assert world.host.do("read", child, None, world.at(1), 1) == b"s"
