"""POST /tasks/{pid}/batch: in order, each call with its own result; atomic: all of it or nothing."""

import base64
from typing import Any

import pytest

import everspace
from everspace import MAP_ANONYMOUS, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE, HttpTask, b64
from tests.conformance.support.http import Problem
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World


def of(call: str, **args: Any) -> dict[str, Any]:
    return {"call": call, "args": args}


def task_over_http(world: World) -> HttpTask:
    """The owner's task, spoken to over HTTP."""
    return HttpTask(world.http("owner"), world.owner.pid, world.owner.tid)


@row("BATCH-ORDER-1", "http")
def test_calls_are_done_in_order_each_with_its_result(world: World) -> None:
    task = task_over_http(world)
    name = world.name()
    vid = world.space()
    results = task.batch(
        of("vas_attach", pid=0, vid=vid, type="rw"),
        of("vas_switch", vid=vid),
        of("active_vas"),
        of("mmap", addr=hex(BASE), length=PAGE, prot=3, flags=34),
        of("write", addr=hex(BASE), data=b64(b"batch")),
        of("read", addr=hex(BASE), length=5),
        of("vas_create", name=name, mode=0o600),
        of("vas_getattr", vid=vid),
        of("vas_switch", vid=0),
        of("read", addr=hex(BASE), length=5),
    )
    values: list[Any] = [result.get("value") for result in results]
    assert values[:3] == [0, 0, vid]
    assert values[3] == hex(BASE)
    assert base64.b64decode(values[5]) == b"batch"
    assert values[6] == world.owner.vas_find(name)
    assert values[7]["mode"] == 0o600
    assert values[8] == 0
    assert results[9]["errno"] == "EFAULT"
    assert results[9]["address"] == hex(BASE)


@row("BATCH-ERRORS-1", "http")
def test_an_error_is_the_result_of_its_call_and_the_others_go_on(world: World) -> None:
    task = task_over_http(world)
    vid = world.space()
    results = task.batch(
        of("vas_getattr", vid=2_000_000_000),
        of("no_such_call"),
        of("vas_getattr", vid=vid, more=1),
        of("vas_getattr"),
        of("vas_find", name=world.name()),
        of("read", addr="x", length=1),
        of("write", addr=0x10000, data="***"),
        of("vas_switch", vid=vid),
        of("active_vas"),
    )
    errnos = [result.get("errno") for result in results]
    assert errnos == [*["EINVAL"] * 4, "ESRCH", "EINVAL", "EINVAL", "EINVAL", None]
    assert results[-1]["value"] == 0


@row("BATCH-ATOMIC-1")
def test_an_atomic_batch_that_fails_leaves_nothing(world: World) -> None:
    vid, _ = world.inside()
    world.owner.write(BASE, b"before")
    name = world.name()
    before = world.state()
    if world.way == "http":
        with pytest.raises(Problem) as raised:
            task_over_http(world).batch(
                of("vas_create", name=name, mode=0o600),
                of("write", addr=hex(BASE), data=b64(b"during")),
                of("mmap", addr=0, length=PAGE, prot=3, flags=34),
                of("vas_seg_create", name=name, start=hex(BASE), end=hex(BASE + PAGE), mode=0o600),
                of("vas_setattr", vid=vid, mode=0),
                of("vas_switch", vid=0),
                of("vas_create", name=name, mode=0o600),
                of("write", addr=hex(BASE), data=b64(b"after")),
                atomic=True,
            )
        assert (raised.value.errno, raised.value.document["index"]) == ("EEXIST", 6)
    else:
        assert isinstance(world.owner, everspace.Task)
        with pytest.raises(everspace.VasError) as failed, world.owner.batch(atomic=True) as batch:
            batch.vas_create(name, 0o600)
            batch.write(BASE, b"during")
            batch.vas_seg_create(name, BASE, BASE + PAGE, 0o600)
            batch.vas_switch(0)
            batch.vas_create(name, 0o600)
        assert isinstance(failed.value, FileExistsError)
        assert failed.value.index == 4
    assert world.state() == before
    assert world.owner.read(BASE, 6) == b"before"
    world.fails("ESRCH", world.owner.vas_find, name)
    assert world.owner.vas_create(name, 0o600) > vid


@row("BATCH-ATOMIC-2")
def test_an_atomic_batch_that_succeeds_is_there(world: World) -> None:
    world.inside()
    name = world.name()
    if world.way == "http":
        results = task_over_http(world).batch(
            of("vas_create", name=name, mode=0o600),
            of("write", addr=hex(BASE), data=b64(b"atomic")),
            of("read", addr=hex(BASE), length=6),
            atomic=True,
        )
        assert results[0]["value"] == world.owner.vas_find(name)
        assert base64.b64decode(results[2]["value"]) == b"atomic"
    else:
        assert isinstance(world.owner, everspace.Task)
        with world.owner.batch(atomic=True) as batch:
            made = batch.vas_create(name, 0o600)
            batch.write(BASE, b"atomic")
            seen = batch.read(BASE, 6)
        assert made.result() == world.owner.vas_find(name)
        assert seen.result() == b"atomic"
    assert world.owner.read(BASE, 6) == b"atomic"


@row("BATCH-ATOMIC-3")
def test_an_atomic_batch_takes_back_the_tasks_own_state(world: World) -> None:
    """Attachment, switch, heap and maps of the task, none of them durable, are taken back as well."""
    vid = world.space()
    start = world.owner.brk()
    before = world.state()
    task = task_over_http(world)
    with pytest.raises(Problem) as raised:
        task.batch(
            of("vas_attach", pid=0, vid=vid, type="rw"),
            of("vas_switch", vid=vid),
            of("brk", addr=hex(start + PAGE)),
            of("mmap", addr=0, length=PAGE, prot=PROT_READ | PROT_WRITE, flags=MAP_PRIVATE | MAP_ANONYMOUS),
            of("munmap", addr=1, length=PAGE),
            atomic=True,
        )
    assert (raised.value.errno, raised.value.document["index"]) == ("EINVAL", 4)
    assert world.state() == before
    assert world.owner.brk() == start
    world.owner.vas_attach(0, vid, O_RDWR)


@row("BATCH-SDK-1", "sdk")
def test_handles_have_results_and_errors_of_their_own(world: World) -> None:
    assert isinstance(world.owner, everspace.Task)
    vid = world.space()
    with world.owner.batch() as batch:
        good = batch.vas_getattr(vid)
        bad = batch.vas_getattr(2_000_000_000)
        missing = batch.vas_find(world.name())
    assert good.result().mode == 0o600
    with pytest.raises(everspace.VasError) as raised:
        bad.result()
    assert raised.value.errno == 22
    with pytest.raises(ProcessLookupError):
        missing.result()


@row("BATCH-TID-1", "http")
def test_a_batch_or_a_call_of_it_may_name_a_thread(world: World) -> None:
    vid, _ = world.inside()
    thread = world.owner.thread()
    task = task_over_http(world)
    results = task.batch(of("active_vas"), of("active_vas", tid=thread.tid), of("read", addr=BASE, length=1))
    assert [result.get("value") for result in results[:2]] == [vid, 0]
    other = HttpTask(world.http("owner"), world.owner.pid, thread.tid)
    assert other.batch(of("active_vas"), of("read", addr=BASE, length=1))[1]["errno"] == "EFAULT"


@row("BATCH-EINVAL-1", "http")
def test_a_malformed_batch_does_nothing_at_all(world: World) -> None:
    http = world.http("owner")
    good = of("vas_create", name=world.name(), mode=0o600)
    path = f"/v1/tasks/{world.owner.pid}/batch"
    bodies: tuple[Any, ...] = (
        {}, [], [good], {"calls": {}}, {"calls": None}, {"calls": "x"}, {"calls": [good], "more": 1},
        {"call": "active_vas"},
    )  # fmt: skip
    for body in bodies:
        world.fails("EINVAL", http.call, "POST", path, body)
    for query in ("?atomic=maybe", "?tid=x"):
        world.fails("EINVAL", http.call, "POST", path + query, {"calls": [good]})
    world.fails("ESRCH", http.call, "POST", path + "?tid=2000000000", {"calls": [good]})
    assert http.call("POST", path, {"calls": []}, status=200).json == {"results": []}


@row("BATCH-EINVAL-2", "http")
def test_a_malformed_call_is_einval_in_its_own_result(world: World) -> None:
    malformed: list[Any] = [
        5, None, [], {}, {"args": {}}, {"call": 5}, {"call": "vas_find", "args": []},
        {"call": "active_vas", "args": {}, "more": 1}, {"call": "batch", "args": {"calls": []}},
    ]  # fmt: skip
    results = task_over_http(world).batch(*malformed, of("active_vas"))
    assert [result.get("errno") for result in results] == ["EINVAL"] * len(malformed) + [None]
    with pytest.raises(Problem) as raised:
        task_over_http(world).batch(of("active_vas"), 5, atomic=True)  # type: ignore[arg-type]
    assert (raised.value.errno, raised.value.document["index"]) == ("EINVAL", 1)


@row("BATCH-E2BIG-1", "http")
def test_a_batch_has_a_limit_of_calls(world: World) -> None:
    http = world.http("owner")
    path = f"/v1/tasks/{world.owner.pid}/batch"
    world.fails("E2BIG", http.call, "POST", path, {"calls": [of("active_vas")] * 10_001})
    assert len(http.call("POST", path, {"calls": [of("active_vas")] * 10_000}).json["results"]) == 10_000


@row("BATCH-CALLS-1", "http")
def test_every_call_is_known_in_a_batch(world: World) -> None:
    """The calls of the SDK under their own names and parameters."""
    task = task_over_http(world)
    vid, sid, name = world.space(), world.segment(), world.name()
    calls = [
        of("vas_seg_attach", vid=vid, sid=sid, type="rw"), of("vas_attach", pid=0, vid=vid, type="rw", lazy=False),
        of("vas_switch", vid=vid, timeout=1), of("active_vas"), of("vas_getattr", vid=vid),
        of("vas_setattr", vid=vid, mode=0o640), of("vas_seg_getattr", sid=sid), of("vas_seg_setattr", sid=sid, mode=0),
        of("vas_seg_create", name=name, start=hex(BASE), end=hex(BASE + PAGE), mode=0o600),
        of("vas_seg_find", name=name), of("vas_create", name=name, mode=0o600, sharing="shared"),
        of("vas_find", name=name), of("write", addr=BASE, data=b64(b"x"), durability="relaxed"),
        of("msync", addr=0, length=0), of("read", addr=BASE, length=1), of("brk", addr=0), of("maps"),
        of("mmap", addr=hex(BASE + 64 * PAGE), length=PAGE, prot=3, flags=34),
        of("mprotect", addr=hex(BASE + 64 * PAGE), length=PAGE, prot=1),
        of("munmap", addr=hex(BASE + 64 * PAGE), length=PAGE), of("vas_switch", vid=0),
        of("vas_detach", pid=0, vid=vid), of("vas_seg_detach", vid=vid, sid=sid), of("vas_delete", vid=vid),
    ]  # fmt: skip
    results = task.batch(*calls)
    assert [
        (call["call"], result) for call, result in zip(calls, results, strict=True) if "errno" in result
    ] == []
    assert task.one("vas_seg_delete", sid=task.one("vas_seg_find", name=name)) == 0


@row("BATCH-CALLS-2", "http")
def test_the_calls_on_clones_heaps_views_and_slots_are_known_in_a_batch(world: World) -> None:
    task = task_over_http(world)
    vid, sid = world.space_with_segment(pages=16)
    names = [world.name() for _ in range(6)]
    results = task.batch(
        of("vas_attach", pid=0, vid=vid, type="rw"), of("vas_switch", vid=vid), of("vas_malloc", size=64, sid=sid),
        of("vas_set_root", name="r", addr=hex(BASE)), of("vas_get_root", name="r"),
        of("vas_clone", vid=vid, name=names[0]), of("vas_seg_clone", sid=sid, name=names[1]),
        of("vas_snapshot", vid=vid, name=names[2]), of("vas_seg_snapshot", sid=sid, name=names[3]),
        of("vas_mmap", vid=vid, addr=hex(BASE + 64 * PAGE), length=PAGE, prot=3, flags=50),
        of("vas_mprotect", vid=vid, addr=hex(BASE + 64 * PAGE), length=PAGE, prot=1),
        of("vas_munmap", vid=vid, addr=hex(BASE + 64 * PAGE), length=PAGE), of("vas_switch", vid=0),
        of("mmview", op=0), of("mmview_create"), of("mmview_migrate", id=1), of("mmview_delete", id=2),
        of("mmview", op=3, id=0), of("vas_fork", name=names[4]),
    )  # fmt: skip
    assert [result for result in results if "errno" in result] == []
    made = [result["value"] for result in results]
    assert made[4] == hex(BASE)
    clone = made[5] if isinstance(made[5], int) else made[5]["id"]
    image = world.owner.vas_find(names[4])
    block = made[2] if isinstance(made[2], str) else made[2]["addr"]
    results = task.batch(
        of("vas_switch", vid=vid), of("vas_free", addr=block), of("vas_switch", vid=0), of("vas_reset", vid=clone),
        of("vas_seg_reset", sid=world.owner.vas_seg_find(names[1])), of("vas_exec", vid=image), of("new_as"),
        of("switch_as", n=1), of("vas_setattr", vid=clone, name=names[5], lifetime="transient"),
    )  # fmt: skip
    assert [result for result in results if "errno" in result] == []
    assert world.owner.vas_find(names[5]) == clone
