"""GET /events: everything that changes is told, in order, to whoever may know it; and a stream can be resumed."""

from everspace import O_RDONLY, O_RDWR
from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.events import Event, Stream, now, told
from tests.conformance.support.memory import FIXED, RW, at
from tests.conformance.support.rows import row
from tests.conformance.support.service import until
from tests.conformance.support.world import BASE, World


def kinds(events: list[Event], **members: int) -> list[str]:
    return [event.kind for event in events if event.about(**members)]


@row("EVENT-ATTR-1")
def test_everybody_is_told_of_spaces_and_segments(world: World) -> None:
    start = now(world)
    vid, sid = world.space_with_segment()
    world.owner.vas_setattr(vid, name=world.name())
    world.owner.vas_attach(0, vid, O_RDWR)
    world.owner.vas_detach(0, vid)
    world.owner.vas_seg_detach(vid, sid)
    clone = world.owner.vas_clone(vid, world.name())
    snapshot = world.owner.vas_snapshot(vid, world.name())
    world.owner.vas_reset(clone)
    world.owner.vas_delete(clone)
    world.owner.vas_seg_delete(sid)
    for account in ("owner", "other", "root"):
        events = told(world, account, start)
        spaces = [kind for kind in kinds(events, vid=vid) if kind.startswith("space.")]
        assert [kind for kind in spaces if kind not in ("space.regions", "space.written")] == [
            "space.created", "space.changed", "space.attached", "space.detached",
        ]  # fmt: skip
        assert "segment.created" in kinds(events, sid=sid)
        assert "segment.deleted" in kinds(events, sid=sid)
        assert {"segment.attached", "segment.detached"} <= set(kinds(events, sid=sid))
        assert {"space.cloned", "space.reset", "space.deleted"} <= set(kinds(events, vid=clone))
        assert "space.snapshot" in kinds(events, vid=snapshot)


@row("EVENT-READ-1")
def test_bytes_regions_and_roots_are_told_to_whoever_may_read(world: World) -> None:
    vid, sid = world.inside()
    start = now(world)
    world.owner.write(BASE + PAGE, b"written")
    world.owner.mmap(at(16), PAGE, RW, FIXED)
    world.owner.write(at(16), b"region")
    world.owner.vas_set_root("r", BASE)
    wanted = {"space.regions", "space.root"}
    for account, sees in (("owner", True), ("root", True), ("member", False), ("other", False)):
        events = told(world, account, start)
        found = set(kinds(events, vid=vid))
        assert wanted <= found if sees else not wanted & found
        stored = [event for event in events if event.kind == "segment.written" and event.about(sid=sid)]
        assert bool(stored) == sees
        if sees:
            assert stored[0].data["ranges"] == [{"start": hex(at(1)), "end": hex(at(2))}]
            assert "space.written" in found


@row("EVENT-TASK-1")
def test_tasks_and_threads_are_told_to_their_uid_and_to_root(world: World) -> None:
    vid, _ = world.space_with_segment()
    start = now(world)
    task = world.task("owner")
    task.vas_attach(0, vid, O_RDWR)
    task.vas_switch(vid)
    thread = task.thread()
    thread.exit()
    child = world.adopt(task.fork())
    task.exec()
    child.exit()
    mine = [
        "task.spawned", "thread.switched", "thread.started", "thread.exited", "task.forked", "task.exec", "task.exited",
    ]  # fmt: skip
    for account, sees in (("owner", True), ("root", True), ("member", False), ("other", False)):
        found = {event.kind for event in told(world, account, start)}
        assert found & set(mine) == (set(mine) if sees else set())
    assert thread.tid != task.tid


@row("EVENT-VIEW-1")
def test_views_and_slots_are_told_too(world: World) -> None:
    world.owner.mmap(at(0), PAGE, RW, FIXED)
    start = now(world)
    world.owner.mmview(4, at(0), PAGE)
    view = world.owner.mmview(0)
    world.owner.mmview(3, view)
    world.owner.mmview(3, 0)
    world.owner.mmview(1, view)
    second = world.task("owner")
    second.switch_as(second.new_as())
    found = told(world, "owner", start)
    assert [event.kind for event in found if event.kind.startswith(("view.", "slot."))] == [
        "view.unshared", "view.created", "view.switched", "view.switched", "view.deleted", "slot.created", "slot.switched",
    ]  # fmt: skip
    assert [event for event in told(world, "other", start) if event.kind.startswith(("view.", "slot."))] == []


@row("EVENT-LIVE-1")
def test_an_event_comes_when_it_happens(world: World) -> None:
    with Stream(world, "owner") as stream:
        vid = world.owner.vas_create(world.name(), 0o600)
        assert stream.until("space.created", vid=vid)[-1].id == stream.position
        world.owner.vas_delete(vid)
        assert stream.until("space.deleted", vid=vid)


@row("EVENT-ORDER-1")
def test_events_have_ascending_ids_and_none_is_missing(world: World) -> None:
    start = now(world)
    vids = [world.space() for _ in range(30)]
    events = told(world, "owner", start)
    assert [event.data["vid"] for event in events if event.kind == "space.created"] == vids
    numbers = [int(event.id.rpartition("-")[2]) for event in events]
    assert numbers == sorted(set(numbers))


@row("EVENT-RESUME-1")
def test_a_stream_goes_on_behind_the_last_event_that_was_had(world: World) -> None:
    with Stream(world, "owner") as stream:
        first = world.owner.vas_create(world.name(), 0o600)
        stream.until("space.created", vid=first)
        position = stream.position
    later = [world.owner.vas_create(world.name(), 0o600) for _ in range(3)]
    found = [event.data["vid"] for event in told(world, "owner", position) if event.kind == "space.created"]
    assert found == later


@row("EVENT-LOST-1")
def test_what_is_not_there_any_more_is_told_as_lost(world: World) -> None:
    """An id of another start of the service, or of events long gone: the reader is told, and goes on with what there is."""
    with Stream(world, "owner", since="0000-7") as stream:
        event = stream.next()
        assert (event.kind, event.data["since"]) == ("lost", "0000-7")


@row("EVENT-ATOMIC-1")
def test_what_did_not_happen_is_not_told(world: World) -> None:
    start = now(world)
    name = world.name()
    calls = [{"call": "vas_create", "args": {"name": name, "mode": 0o600}}] * 2
    path = f"/v1/tasks/{world.owner.pid}/batch?atomic=true"
    world.fails("EEXIST", world.http("owner").call, "POST", path, {"calls": calls})
    world.refused(world.owner.vas_create, "", 0o600)
    events = [event for event in told(world, "root", start) if event.kind.startswith(("space.", "segment."))]
    assert events == []


@row("EVENT-FILTER-1")
def test_a_reader_may_ask_for_some(world: World) -> None:
    vid, other = world.space(), world.space()
    with Stream(world, "owner", f"?vid={vid}&kind=space.") as stream:
        for each in (other, vid):
            world.owner.vas_setattr(each, mode=0o640)
            world.owner.vas_delete(each)
        assert [stream.next().kind for _ in range(2)] == ["space.changed", "space.deleted"]


@row("EVENT-EINVAL-1", "http")
def test_a_position_is_an_id_of_an_event(world: World) -> None:
    http_ = world.http("owner")
    for bad in ("x", "1", "-", "a-", "a-b", "-5"):
        world.fails("EINVAL", http_.call, "GET", "/v1/events", headers={"Last-Event-ID": bad})
    world.fails("EINVAL", http_.call, "GET", "/v1/events?vid=x")


@row("EVENT-401-1", "http")
def test_nobody_follows_without_a_token(world: World) -> None:
    assert world.stranger(None).request("GET", "/v1/events").status == 401


@row("EVENT-LEASE-1", "http")
def test_the_end_of_a_lease_is_told(world: World) -> None:
    vid, _ = world.space_with_segment()
    start = now(world)
    made = world.http("owner").call("POST", "/v1/tasks", {"lease_s": 1}, status=201).json
    HttpTask(world.http("owner"), made["pid"], made["tid"]).vas_attach(0, vid, O_RDONLY)
    until("the lease ends", lambda: world.owner.vas_getattr(vid).attach_count == 0)
    found = [event.kind for event in told(world, "owner", start) if event.about(pid=made["pid"])]
    assert found[0] == "task.spawned"
    assert "task.expired" in found


@row("EVENT-CLOSE-1", "http")
def test_a_stream_that_is_left_hurts_nobody(world: World) -> None:
    streams = [Stream(world, "owner") for _ in range(3)]
    for stream in streams:
        stream.close()
    vid = world.owner.vas_create(world.name(), 0o600)
    assert world.owner.vas_getattr(vid).mode == 0o600


@row("EVENT-SDK-1", "sdk")
def test_the_sdk_follows_and_resumes(world: World) -> None:
    client = world.site.clients["owner"]
    with client.events("space.") as events:
        vid = world.owner.vas_create(world.name(), 0o600)
        first = next(event for event in events if event.vid == vid)
    assert first.kind == "space.created"
    world.owner.vas_delete(vid)
    with client.events("space.", since=first.id) as events:
        assert next(event for event in events if event.vid == vid).kind == "space.deleted"
