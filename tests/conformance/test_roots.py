"""Root pointers: names for addresses in a space, by which a program finds its data again."""

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.memory import USER_END
from tests.conformance.support.objects import roots
from tests.conformance.support.personalities import part
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

NO_ID = 2_000_000_000


@row("ROOT-OK-1")
def test_a_root_is_found_by_whoever_comes_in(world: World) -> None:
    vid, _ = world.inside(sharing="shared")
    assert world.owner.vas_set_root("index", BASE + 64) == 0
    second = world.task("owner")
    second.vas_attach(0, vid, O_RDWR)
    second.vas_switch(vid)
    assert second.vas_get_root("index") == BASE + 64
    second.vas_set_root("index", BASE + 128)
    assert world.owner.vas_get_root("index") == BASE + 128


@row("ROOT-OK-2")
def test_roots_are_of_one_space_and_there_are_many(world: World) -> None:
    first, _ = world.inside()
    second, _ = world.space_with_segment(start=BASE + 64 * PAGE)
    for number in range(20):
        world.owner.vas_set_root(f"root/{number}", BASE + number)
    assert roots(world, first) == {f"root/{number}": BASE + number for number in range(20)}
    assert roots(world, second) == {}


@row("ROOT-OK-3", "http")
def test_roots_are_set_and_taken_away_without_going_in(world: World) -> None:
    vid = world.space()
    http = world.http("owner")
    path = f"/v1/vas/{vid}/roots/{part('a name/é')}"
    http.call("PUT", path, {"addr": BASE})
    assert http.get(path)["addr"] == hex(BASE)
    assert roots(world, vid) == {"a name/é": BASE}
    http.call("DELETE", path)
    world.fails("ENOENT", http.get, path)


@row("ROOT-OK-4")
def test_an_address_needs_no_region(world: World) -> None:
    """A root is a name for a number; whether memory is there is for the reader to find."""
    world.inside()
    for addr in (BASE + 64 * PAGE, USER_END - 1, 0x10000):
        world.owner.vas_set_root("r", addr)
        assert world.owner.vas_get_root("r") == addr


@row("ROOT-ENOENT-1")
def test_an_unknown_root_is_enoent(world: World) -> None:
    vid, _ = world.inside()
    world.fails("ENOENT", world.owner.vas_get_root, "none")
    world.fails("ENOENT", world.http("owner").get, f"/v1/vas/{vid}/roots/none")
    world.fails("ENOENT", world.http("owner").call, "DELETE", f"/v1/vas/{vid}/roots/none")


@row("ROOT-EINVAL-1")
def test_outside_a_space_there_are_no_roots(world: World) -> None:
    world.fails("EINVAL", world.owner.vas_set_root, "r", BASE)
    world.fails("EINVAL", world.owner.vas_get_root, "r")


@row("ROOT-EINVAL-2")
def test_a_roots_name_is_a_name_and_its_address_an_address(world: World) -> None:
    world.inside()
    for name in ("a\nb", "x" * 256):
        world.fails("EINVAL", world.owner.vas_set_root, name, BASE)
        world.fails("EINVAL", world.owner.vas_get_root, name)
    for addr in (-1, 2**64, 2**200):
        world.fails("EINVAL", world.owner.vas_set_root, "r", addr)


@row("ROOT-EINVAL-3", "http")
def test_roots_of_a_space_that_is_not_there(world: World) -> None:
    http = world.http("owner")
    for bad in (0, -1, NO_ID):
        world.fails("EINVAL", http.get, f"/v1/vas/{bad}/roots")
        world.fails("EINVAL", http.get, f"/v1/vas/{bad}/roots/r")
        world.fails("EINVAL", http.call, "PUT", f"/v1/vas/{bad}/roots/r", {"addr": 0x10000})
    vid = world.space()
    for body in ({}, {"addr": "x"}, {"addr": None}, {"addr": 0x10000, "more": 1}):
        world.fails("EINVAL", http.call, "PUT", f"/v1/vas/{vid}/roots/r", body)


@row("ROOT-EACCES-1")
def test_a_reader_sets_no_root(world: World) -> None:
    vid, _ = world.inside()
    world.owner.vas_set_root("r", BASE)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    reader = world.task("owner")
    reader.vas_attach(0, vid, O_RDONLY)
    reader.vas_switch(vid)
    assert reader.vas_get_root("r") == BASE
    world.fails("EACCES", reader.vas_set_root, "r", BASE + 1)
    world.fails("EACCES", reader.vas_set_root, "new", BASE)


@row("ROOT-EACCES-2", "http")
def test_the_mode_decides_about_roots(world: World) -> None:
    vid = world.space(0o642)
    owner, member, other = (world.http(name) for name in ("owner", "member", "other"))
    owner.call("PUT", f"/v1/vas/{vid}/roots/r", {"addr": hex(BASE)})
    assert member.get(f"/v1/vas/{vid}/roots/r")["addr"] == hex(BASE)
    world.fails("EACCES", member.call, "PUT", f"/v1/vas/{vid}/roots/r", {"addr": hex(BASE)})
    world.fails("EACCES", member.call, "DELETE", f"/v1/vas/{vid}/roots/r")
    world.fails("EACCES", other.get, f"/v1/vas/{vid}/roots/r")
    world.fails("EACCES", other.get, f"/v1/vas/{vid}/roots")
    other.call("PUT", f"/v1/vas/{vid}/roots/r", {"addr": hex(BASE + 1)})
    assert world.http("root").get(f"/v1/vas/{vid}/roots/r")["addr"] == hex(BASE + 1)


@row("ROOT-EPERM-1", "http")
def test_roots_through_a_task_of_another_uid(world: World) -> None:
    world.inside()
    world.owner.vas_set_root("r", BASE)
    for account in ("other", "member"):
        stranger = HttpTask(world.http(account), world.owner.pid, world.owner.tid)
        world.fails("EPERM", stranger.vas_get_root, "r")
        world.fails("EPERM", stranger.vas_set_root, "r", BASE)


@row("ROOT-GONE-1")
def test_roots_go_with_their_space(world: World) -> None:
    vid, _ = world.inside()
    world.owner.vas_set_root("r", BASE)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    name = world.owner.vas_getattr(vid).name
    world.owner.vas_delete(vid)
    assert roots(world, world.owner.vas_create(name, 0o600)) == {}
