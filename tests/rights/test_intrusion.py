"""What somebody would try who wants another account's bytes, map, core, events, or to learn what is hidden from him."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.following import now, told
from tests.app.support import ANON_FIXED, BASE, PAGE, PROT_RW, Answer, Site, running
from tests.rights.asking import ask
from tests.rights.needs import ACCOUNTS, STRANGERS, Caller
from tests.rights.rows import ROWS
from tests.rights.test_routes import ask as ask_row
from tests.rights.world import SECRET, TASKS, Callers, World

PRIVATE = 0o600
INTRUDERS = (Caller.MEMBER, Caller.OTHER)
SIGHT = (SECRET, base64.b64encode(SECRET)[:-4], SECRET.hex().encode())
"""The secret as bytes, in base64 and in hex. The end of base64 depends on what follows."""


def seen(answer: Answer) -> bool:
    """Whether an answer shows the secret, in whatever form."""
    told = answer.body + json.dumps(dict(answer.headers)).encode()
    return any(sight in told for sight in SIGHT)


@pytest.mark.asyncio(loop_scope="module")
async def test_no_route_shows_another_account_s_bytes(callers: Callers) -> None:
    """Every row, whatever it needs, asked by those who may read nothing; and by the owner, who does see them."""
    world = await World(callers, PRIVATE).make()
    owner = [seen(await ask_row(world, row, Caller.OWNER)) for row in ROWS if row.method == "GET"]
    assert sum(owner) >= 4, "the memory, the bytes of the segment, the core of the task and of the space"
    for caller in (*INTRUDERS, *STRANGERS):
        for row in ROWS:
            assert not seen(await ask_row(world, row, caller)), (str(row), caller)
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_no_way_through_a_task_of_ones_own_leads_to_another_account_s_bytes(callers: Callers) -> None:
    world = await World(callers, PRIVATE).make()
    names = world.names
    before = await world.state()
    for caller in INTRUDERS:
        mine = callers.mine[caller]
        calls: list[tuple[str, dict[str, Any]]] = [
            *(
                ("vas_attach", {"vid": names[vid], "type": kind})
                for vid in ("vid", "image")
                for kind in ("ro", "wo", "rw")
            ),
            ("vas_switch", {"vid": names["vid"]}),
            ("vas_clone", {"vid": names["vid"], "name": world.new()}),
            ("vas_snapshot", {"vid": names["vid"], "name": world.new()}),
            ("vas_seg_clone", {"sid": names["sid"], "name": world.new()}),
            ("vas_exec", {"vid": names["image"]}),
            ("vas_reset", {"vid": names["twin"]}),
            (
                "vas_mmap",
                {"vid": names["vid"], "addr": hex(BASE), "length": PAGE, "prot": 3, "flags": ANON_FIXED},
            ),
            ("vas_setattr", {"vid": names["vid"], "mode": 0o666}),
            ("vas_setattr", {"vid": names["vid"], "uid": 1003}),
            ("read", {"addr": hex(BASE), "length": PAGE}),
        ]
        own = await callers.send(caller, "POST", "/v1/vas", {"name": world.new(), "mode": PRIVATE})
        calls.append(("vas_seg_attach", {"vid": own.json["id"], "sid": names["sid"], "type": "ro"}))
        before[-3:] = (await world.state())[-3:]
        batch = {"calls": [{"call": name, "args": args} for name, args in calls]}
        answer = await callers.send(caller, "POST", f"/v1/tasks/{mine}/batch", batch)
        assert ["errno" in result for result in answer.json["results"]] == [True] * len(calls), answer
        assert not seen(answer)
        core = await callers.send(caller, "GET", f"/v1/tasks/{mine}/core")
        assert core.status == 200
        assert not seen(core)
    assert await world.state() == before
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_another_account_is_told_nothing_of_bytes_maps_roots_and_tasks(callers: Callers) -> None:
    site, since = callers.site, now(callers.site)
    world = await World(callers, PRIVATE).make()
    names = world.names
    for path, body in ((f"/tasks/{names['pid']}/mmap", {"addr": hex(BASE + 0x4000_0000), "length": PAGE, "prot": 3, "flags": ANON_FIXED}),
                       (f"/tasks/{names['pid']}/fork", {}), (f"/tasks/{names['viewer']}/mmview_create", {})):  # fmt: skip
        await world.ok("POST", path, body)
    await world.ok("PUT", f"/vas/{names['vid']}/roots/hidden-root", {"addr": hex(BASE)})
    write = f"/v1/tasks/{names['pid']}/memory?addr={BASE:#x}"
    assert (await callers.send(Caller.OWNER, "PUT", write, SECRET)).status == 204
    await world.ok("DELETE", f"/tasks/{names['plain']}")
    await world.ok("PATCH", f"/vas/{names['loose']}", {"lifetime": "transient"})  # told to all: the end of it
    for caller in (Caller.OWNER, *INTRUDERS):
        token = callers.tokens[caller] or ""
        events = await told(site, since, token=token)
        kinds = {event.kind for event in events}
        private = {kind for kind in kinds if kind.startswith(("task.", "thread.", "view.", "slot."))}
        # while the space was open to all, its owner made the first things in it; from its chmod on nobody is told
        closed = next(
            i
            for i, event in enumerate(events)
            if event.kind == "space.changed" and event.data["vid"] == names["vid"]
        )
        later = {event.kind for event in events[closed:] if event.data.get("vid") == names["vid"]}
        if caller is Caller.OWNER:
            assert {"task.spawned", "task.forked", "task.exited", "thread.switched"} <= private
            assert {"space.written", "space.regions", "space.root"} <= later
        else:
            assert private == set(), caller
            assert not later & {"space.written", "space.regions", "space.root"}, caller
            assert "hidden-root" not in json.dumps([event.data for event in events])
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_another_account_sees_neither_the_journal_nor_the_quota_of_the_owner(callers: Callers) -> None:
    world = await World(callers, PRIVATE).make()
    await world.ok("POST", "/vas", {"name": world.new(), "mode": PRIVATE})
    await callers.site.service.auditing.flush()
    for caller in (Caller.ROOT, Caller.OWNER, *INTRUDERS):
        uid = ACCOUNTS.get(caller, (0, ()))[0]
        account = (await callers.send(caller, "GET", "/v1/account")).json
        assert account["uid"] == uid
        answer = await callers.send(caller, "GET", "/v1/audit?limit=1000&call=vas_create")
        uids = {item["uid"] for item in answer.json["items"]}
        assert 1001 in uids if caller in (Caller.ROOT, Caller.OWNER) else uids <= {uid}, caller
        assert not seen(answer)
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_answered_under_a_key_is_answered_to_its_account_alone(callers: Callers) -> None:
    """Idempotency-Key: the key of another account is a new one of one's own."""
    world = await World(callers, PRIVATE).make()
    key, name = {"idempotency-key": '"the-very-same-key"'}, world.new()
    body = {"name": name, "mode": PRIVATE}
    first = await callers.send(Caller.OWNER, "POST", "/v1/vas", body, headers=key)
    again = await callers.send(Caller.OWNER, "POST", "/v1/vas", body, headers=key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert again.headers["idempotent-replayed"] == "true"
    for caller in INTRUDERS:
        for wanted, status in ((body, 409), ({"name": world.new(), "mode": 0}, 201)):
            answer = await callers.send(caller, "POST", "/v1/vas", wanted, headers=key)
            assert answer.status == status, answer
            assert "idempotent-replayed" not in answer.headers
            assert answer.body != first.body
    for caller in (*STRANGERS, Caller.READER):
        answer = await callers.send(caller, "POST", "/v1/vas", body, headers=key)
        assert answer.status in (401, 403)
        assert "idempotent-replayed" not in answer.headers
    await world.end()


def pairs(world: World) -> Iterator[tuple[str, str, str, Any, str]]:
    """Requests about something that is there, and the same about something that is not: they must be answered alike."""
    pid, vid, sid = world.names["pid"], world.names["vid"], world.names["sid"]
    for method in ("GET", "PUT", "DELETE"):
        body = {"type": "ro"} if method == "PUT" else None
        yield method, f"/tasks/{pid}/vas/{vid}", f"/tasks/{pid}/vas/99999", body, "EPERM"
    tid = world.names["tid"]
    yield "GET", f"/tasks/{pid}/threads/{tid}/active", f"/tasks/{pid}/threads/99999/active", None, "EPERM"
    yield "DELETE", f"/tasks/{pid}/threads/{tid}", f"/tasks/{pid}/threads/99999", None, "EPERM"
    yield (
        "GET",
        f"/tasks/{pid}/memory?addr={BASE:#x}&len=8",
        f"/tasks/{pid}/memory?addr=0x12340000&len=8",
        None,
        "EPERM",
    )
    yield "GET", f"/proc/{pid}/maps?tid={tid}", f"/proc/{pid}/maps?tid=99999", None, "EPERM"
    yield "GET", f"/proc/{pid}/vas/{vid}/maps", f"/proc/{pid}/vas/99999/maps", None, "EPERM"
    yield "DELETE", f"/tasks/{pid}/heap/{world.names['addr']}", f"/tasks/{pid}/heap/0x10", None, "EPERM"
    yield "GET", f"/tasks/{pid}/roots/first", f"/tasks/{pid}/roots/none", None, "EPERM"
    yield "GET", f"/tasks/{pid}/core?tid={tid}", f"/tasks/{pid}/core?tid=99999", None, "EPERM"
    for method in ("GET", "DELETE"):
        yield method, f"/vas/{vid}/roots/first", f"/vas/{vid}/roots/none", None, "EACCES"
    yield (
        "GET",
        f"/vas/{vid}/diff?other={world.names['twin']}",
        f"/vas/{vid}/diff?other={vid}",
        None,
        "EACCES",
    )
    loose = world.names["loose"]
    yield "DELETE", f"/vas/{vid}", f"/vas/{loose}", None, "EACCES"  # busy, and not
    yield "DELETE", f"/segments/{sid}", f"/segments/{world.names['free']}", None, "EACCES"
    yield "GET", f"/segments/{sid}/heap", f"/segments/{world.names['free']}/heap", None, "EACCES"
    taken, free = {"name": world.names["space_name"]}, {"name": "nobody-has-it"}
    yield "POST", f"/vas/{vid}/clone", f"/vas/{vid}/clone", (taken, free), "EACCES"
    yield "PATCH", f"/vas/{vid}", f"/vas/{vid}", (taken, free), "EPERM"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_may_not_be_seen_looks_like_what_is_not_there(callers: Callers) -> None:
    world = await World(callers, PRIVATE).make()
    for method, there, absent, body, errno in pairs(world):
        first, second = body if isinstance(body, tuple) else (body, body)
        one = await callers.send(Caller.OTHER, method, f"/v1{there}", first)
        other = await callers.send(Caller.OTHER, method, f"/v1{absent}", second)
        assert one.errno == other.errno == errno, (method, there, one, other)
        assert one.json.keys() == other.json.keys() == {"status", "title", "detail", "errno"}, (one, other)
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_conditions_and_ranges_tell_nothing_to_who_may_not_read(callers: Callers) -> None:
    world = await World(callers, PRIVATE).make()
    path = f"/v1/segments/{world.names['sid']}/data"
    tag = (await callers.send(Caller.OWNER, "HEAD", path)).headers["etag"]
    conditions: tuple[dict[str, str], ...] = (
        {}, {"if-match": tag}, {"if-match": '"no"'}, {"if-match": "*"}, {"if-none-match": tag}, {"if-none-match": "*"},
        {"range": "bytes=0-3"}, {"range": "bytes=99999999-"}, {"range": "bytes=0-3", "if-range": tag},
    )  # fmt: skip
    for headers in conditions:
        for method in ("GET", "HEAD"):
            answer = await callers.send(Caller.OTHER, method, path, headers=headers)
            assert answer.status == 403, (method, headers, answer)
            assert "etag" not in answer.headers
        place = {"content-range": "bytes 0-3/*", **headers}
        answer = await callers.send(Caller.OTHER, "PATCH", path, b"evil", headers=place)
        assert answer.errno == "EACCES", (headers, answer)
        assert "etag" not in answer.json
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_every_token_that_is_no_good_is_refused_in_the_same_words(callers: Callers) -> None:
    answers = [
        await callers.send(caller, "GET", "/v1/vas") for caller in STRANGERS if caller is not Caller.NOBODY
    ]
    assert {answer.body for answer in answers} == {answers[0].body}
    assert len({answer.headers["www-authenticate"] for answer in answers}) == 1


ODD = (
    "/v1", "/v1/", "//v1/vas", "/V1/vas", "/v1//vas", "/v1/vas/", "/./v1/vas", "/v1/../v1/vas", "/x/../v1/vas", "/v1%2fvas",
    "/%76%31/vas", "/v1/vas%00", "/v1/vas;x", "/docs/../v1/vas", "/v1/./vas", "/docs/%2e%2e/v1/vas", "/docs/..%2f..%2froot.token",
    "/docs/%2fetc%2fpasswd", "/docs/swagger-ui.css/../../v1/vas",
)  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ODD)
async def test_no_spelling_of_a_path_goes_round_the_token(callers: Callers, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "DELETE", "OPTIONS", "TRACE"):
        answer = await ask(callers.site, None, method, path)
        assert answer.status in (401, 404, 405), (method, path, answer)


SMALL = 1 << 20
"""Bytes of page frames: 256 pages, so that every frame is used again and again."""
MUCH = 200 * PAGE
PLACES = tuple(BASE + number * 0x100_0000 for number in range(3))
CANARY = b"what another account left behind"


async def fill(site: Site, token: str, pid: int, addr: int) -> None:
    """Write the canary into every page of a new mapping."""
    wanted = {"addr": hex(addr), "length": MUCH, "prot": PROT_RW, "flags": ANON_FIXED}
    await site.ok("POST", f"/tasks/{pid}/mmap", wanted, token=token)
    data = (CANARY * (PAGE // len(CANARY) + 1))[:PAGE] * (MUCH // PAGE)
    assert (await ask(site, token, "PUT", f"/v1/tasks/{pid}/memory?addr={addr:#x}", data)).status == 204


async def leave(site: Site, token: str, way: str) -> None:
    """An account fills more memory than there is, and gives it back in one of the ways there are."""
    pid = (await site.ok("POST", "/tasks", {}, token=token))["pid"]
    vid = 0
    if way == "delete":
        vid = (await site.ok("POST", "/vas", {"name": "gone", "mode": 0o600}, token=token))["id"]
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"}, token=token)
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid}, token=token)
    for addr in PLACES[:2]:
        await fill(site, token, pid, addr)
    for addr in PLACES[:2] if way in ("munmap", "madvise") else ():
        given = {"addr": hex(addr), "length": MUCH} | ({"advice": 4} if way == "madvise" else {})
        await site.ok("POST", f"/tasks/{pid}/{way}", given, token=token)
    if way == "exec":
        await site.ok("POST", f"/tasks/{pid}/exec", {}, token=token)
    if way in ("exit", "delete"):
        await site.ok("DELETE", f"/tasks/{pid}", token=token)
    if vid:
        await site.ok("DELETE", f"/vas/{vid}", token=token)


@pytest.mark.parametrize("way", ["exit", "exec", "munmap", "madvise", "delete"])
async def test_memory_that_was_another_account_s_comes_as_zeros(tmp_path: Path, way: str) -> None:
    """Frames, and pages of the swap area, go from hand to hand."""
    async with running(tmp_path, memory=SMALL, swap_bytes=4 * SMALL) as site:
        await leave(site, site.account(1001), way)
        other = site.account(1003)
        pid = (await site.ok("POST", "/tasks", {}, token=other))["pid"]
        memory = f"/v1/tasks/{pid}/memory?addr="
        for addr in PLACES:
            wanted = {"addr": hex(addr), "length": MUCH, "prot": PROT_RW, "flags": ANON_FIXED}
            await site.ok("POST", f"/tasks/{pid}/mmap", wanted, token=other)
            for page in range(addr, addr + MUCH, PAGE):  # a store of one byte takes a whole frame
                assert (await ask(site, other, "PUT", f"{memory}{page:#x}", b"\1")).status == 204
        for addr in PLACES:
            got = await ask(site, other, "GET", f"{memory}{addr:#x}&len={MUCH}")
            assert got.body == (b"\1" + bytes(PAGE - 1)) * (MUCH // PAGE)


@pytest.mark.asyncio(loop_scope="module")
async def test_tasks_of_others_cannot_be_kept_alive_nor_ended(callers: Callers) -> None:
    """What everybody may look at renews no lease: only calls of those who may act on the task do."""
    world = await World(callers, PRIVATE).make()
    leases = callers.site.service.leases
    before = {name: leases._leases[world.names[name]] for name in TASKS}
    callers.site.clock.now += 1
    for caller in INTRUDERS:
        for row in ROWS:
            if "{pid}" in row.path and "mine" not in row.names.values():
                await ask_row(world, row, caller)
    assert {name: leases._leases[world.names[name]] for name in TASKS} == before
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_pid_of_an_earlier_start_is_nobody_s(callers: Callers) -> None:
    """Pids begin anew with each start: a client that names the start it knows never meets another's task, or its own by chance."""
    pid = callers.mine[Caller.OWNER]
    for target in (f"/v1/tasks/{pid}", f"/v1/tasks/{pid}/memory?addr=0x401000&len=8", f"/v1/proc/{pid}/maps"):
        for instance, status in ((callers.site.service.instance, 200), ("0" * 16, 404)):
            headers = {"everspace-instance": instance}
            answer = await callers.send(Caller.OWNER, "GET", target, headers=headers)
            assert answer.status == status, answer
            assert status == 200 or answer.errno == "ESRCH"
