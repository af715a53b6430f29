"""vas_create, vas_find, vas_delete."""

from concurrent.futures import ThreadPoolExecutor

import everspace
from tests.conformance.support.rows import row
from tests.conformance.support.world import ACCOUNTS, World

UNKNOWN = 2_000_000_000
NO_ID = (0, -1, UNKNOWN, 2**31, 2**63, 2**70)


@row("VAS-CREATE-OK-1")
def test_the_creator_owns_the_space(world: World) -> None:
    name = world.name()
    vid = world.owner.vas_create(name, 0o640)
    attr = world.owner.vas_getattr(vid)
    uid, gids = ACCOUNTS["owner"]
    assert vid > 0
    assert (attr.name, attr.mode, attr.uid, attr.gid) == (name, 0o640, uid, gids[0])
    assert (attr.sharing, attr.attach_count) == ("exclusive", 0)


@row("VAS-CREATE-OK-2")
def test_anybody_may_create(world: World) -> None:
    for account in ("other", "member", "root"):
        attr = world.owner.vas_getattr(world.space(by=world.task(account)))
        assert (attr.uid, attr.gid) == (ACCOUNTS[account][0], ACCOUNTS[account][1][0])


@row("VAS-CREATE-MODE-1")
def test_only_rw_bits_of_the_mode_are_kept(world: World) -> None:
    for given, kept in ((0o777, 0o666), (0o111, 0), (0o7755, 0o644), (0, 0), (0o666, 0o666)):
        assert world.owner.vas_getattr(world.space(given)).mode == kept


@row("VAS-CREATE-EMPTY-1")
def test_a_space_is_born_empty(world: World) -> None:
    vid = world.space()
    http = world.http("owner")
    assert http.get(f"/v1/vas/{vid}/regions") == {"items": [], "next": None}
    assert http.get(f"/v1/vas/{vid}/segments") == {"items": [], "next": None}


@row("VAS-CREATE-SHARING-1")
def test_sharing_is_exclusive_unless_asked(world: World) -> None:
    assert world.owner.vas_getattr(world.space(sharing="shared")).sharing == "shared"
    assert world.owner.vas_getattr(world.space()).sharing == "exclusive"
    if world.way == "http":
        made = world.http("owner").call("POST", "/v1/vas", {"name": world.name(), "mode": 0}, status=201)
        assert made.json["sharing"] == "exclusive"


@row("VAS-CREATE-EINVAL-1")
def test_unknown_sharing_is_refused(world: World) -> None:
    for sharing in ("", "SHARED", "both", "exclusive "):
        world.fails("EINVAL", world.owner.vas_create, world.name(), 0o600, sharing)


@row("VAS-CREATE-EEXIST-1")
def test_a_name_is_had_once(world: World) -> None:
    name = world.name()
    vid = world.owner.vas_create(name, 0o200)
    world.fails("EEXIST", world.owner.vas_create, name, 0)
    world.fails("EEXIST", world.other.vas_create, name, 0o666)
    world.owner.vas_delete(vid)
    assert world.other.vas_create(name, 0o666) > vid


@row("VAS-CREATE-ATOMIC-1")
def test_one_of_many_creators_wins(world: World) -> None:
    tasks = [world.task("owner") for _ in range(6)]
    if world.way == "http":  # a connection of its own for each thread
        for task in tasks:
            task.http = world.stranger(world.site.tokens["owner"])  # type: ignore[attr-defined]
    for _ in range(10):
        name = world.name()

        def create(task: int, name: str = name) -> int | str:
            try:
                return tasks[task].vas_create(name, 0o600)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is judged below
                return world.refused(_raise, error).errno

        with ThreadPoolExecutor(len(tasks)) as pool:
            outcomes = list(pool.map(create, range(len(tasks))))
        winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert outcomes.count("EEXIST") == len(tasks) - 1
        assert winners == [world.owner.vas_find(name)]


def _raise(error: Exception) -> None:
    raise error


@row("VAS-ID-1")
def test_ids_are_never_used_again(world: World) -> None:
    seen = []
    for _ in range(5):
        vid = world.space()
        world.owner.vas_delete(vid)
        seen.append(vid)
    assert seen == sorted(set(seen))
    assert world.space() > seen[-1]


@row("VAS-FIND-OK-1")
def test_anybody_finds_a_space_by_name(world: World) -> None:
    name = world.name()
    vid = world.owner.vas_create(name, 0)
    for task in (world.owner, world.other, world.root):
        assert task.vas_find(name) == vid


@row("VAS-FIND-ESRCH-1")
def test_no_such_name_is_esrch(world: World) -> None:
    name = world.name()
    world.fails("ESRCH", world.owner.vas_find, name)
    vid = world.owner.vas_create(name, 0o600)
    world.owner.vas_delete(vid)
    world.fails("ESRCH", world.owner.vas_find, name)


@row("VAS-FIND-LIST-1", "http")
def test_the_filtered_list_is_empty_without_a_match(world: World) -> None:
    http = world.http("other")
    name = world.name()
    assert http.get(f"/v1/vas?name={name}") == {"items": [], "next": None}
    vid = world.owner.vas_create(name, 0)
    found = http.get(f"/v1/vas?name={name}")
    assert [item["id"] for item in found["items"]] == [vid]
    assert found["items"][0] == http.get(f"/v1/vas/{vid}")


@row("VAS-DELETE-OK-1")
def test_the_owner_deletes(world: World) -> None:
    name = world.name()
    vid = world.owner.vas_create(name, 0o600)
    assert world.owner.vas_delete(vid) == 0
    world.fails("EINVAL", world.owner.vas_getattr, vid)
    world.fails("EINVAL", world.owner.vas_delete, vid)


@row("VAS-DELETE-OK-2")
def test_write_permission_is_enough_to_delete(world: World) -> None:
    world.member.vas_delete(world.space(0o620))
    world.other.vas_delete(world.space(0o602))
    world.root.vas_delete(world.space(0))


@row("VAS-DELETE-EACCES-1")
def test_without_write_permission_nobody_deletes(world: World) -> None:
    world.fails("EACCES", world.other.vas_delete, world.space(0o664))
    world.fails("EACCES", world.member.vas_delete, world.space(0o646))
    world.fails("EACCES", world.owner.vas_delete, world.space(0o466))


@row("VAS-DELETE-EACCES-2")
def test_a_stranger_does_not_learn_that_a_space_is_busy(world: World) -> None:
    vid = world.space(0o664)
    world.owner.vas_attach(0, vid, everspace.O_RDONLY)
    world.fails("EACCES", world.other.vas_delete, vid)


@row("VAS-DELETE-EBUSY-1")
def test_an_attached_space_is_not_deleted(world: World) -> None:
    vid = world.space(0o666)
    world.owner.vas_attach(0, vid, everspace.O_RDONLY)
    for task in (world.owner, world.other, world.root):
        world.fails("EBUSY", task.vas_delete, vid)
    world.owner.vas_switch(vid)
    world.fails("EBUSY", world.owner.vas_delete, vid)
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    world.owner.vas_delete(vid)


@row("VAS-DELETE-EINVAL-1")
def test_deleting_what_is_not_there(world: World) -> None:
    for vid in NO_ID:
        world.fails("EINVAL", world.owner.vas_delete, vid)
        world.fails("EINVAL", world.root.vas_delete, vid)


@row("VAS-DELETE-SEGMENTS-1")
def test_deleting_a_space_detaches_its_segments(world: World) -> None:
    vid, sid = world.space_with_segment(everspace.O_RDWR)
    assert world.owner.vas_seg_getattr(sid).attach_count == 1
    world.owner.vas_delete(vid)
    assert world.owner.vas_seg_getattr(sid).attach_count == 0
    again = world.space()
    world.owner.vas_seg_attach(again, sid, everspace.O_RDWR)
    world.owner.vas_delete(again)
    world.owner.vas_seg_delete(sid)


@row("VAS-DELETE-BYTES-1")
def test_bytes_of_a_deleted_segment_do_not_come_back(world: World) -> None:
    vid, sid = world.inside()
    start = world.owner.vas_seg_getattr(sid).start
    world.owner.write(start, b"secret")
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    world.owner.vas_delete(vid)
    world.owner.vas_seg_delete(sid)
    world.inside()
    assert world.owner.read(start, 6) == bytes(6)
