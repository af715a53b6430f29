"""Idempotency-Key: what is asked again is not done again, and what was not done is done."""

import asyncio
import itertools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import receipts
from app.idempotency import key_of, parse_key
from engine.changes import PutReceipt
from engine.errors import EngineError
from storage.errors import StoreFull
from tests.app.support import ANON_FIXED, BASE, JSON, PAGE, PROT_RW, Answer, Site, held, running, until

ANON = ANON_FIXED & ~0x10  # without MAP_FIXED: another address each time


async def post(site: Site, path: str, body: Any, key: str | None, token: str = "") -> Answer:
    """A POST under a key."""
    headers: Mapping[str, str] = JSON if key is None else {**JSON, "idempotency-key": key}
    return await site.send("POST", f"/v1{path}", [json.dumps(body).encode()], headers, token=token)


def create(name: str = "lab", mode: int = 0o600) -> dict[str, Any]:
    return {"name": name, "mode": mode}


def told(answer: Answer) -> tuple[int, bytes, str | None, str | None]:
    """What must be the same in a replay."""
    return answer.status, answer.body, answer.headers.get("content-type"), answer.headers.get("etag")


def is_replay(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


async def refused(site: Site, path: str, body: Any, key: str, status: int) -> None:
    """Refused by HTTP itself, without an errno."""
    answer = await post(site, path, body, key)
    assert (answer.status, answer.errno) == (status, None), answer


async def every_creating_call(site: Site) -> list[tuple[str, Any]]:
    """One of each kind that gives something new whenever it is asked."""
    pid, vid = await site.inside()
    sid = await site.segment("heap", 16, BASE + (1 << 30))
    other = await site.task()
    await site.ok("POST", f"/tasks/{other}/mmap", {"addr": 0, "length": PAGE, "prot": 3, "flags": ANON})
    await site.ok("POST", f"/vas/{vid}/clone", {"name": "clone"})
    outside = await site.space("outside")
    mapping = {"addr": 0, "length": PAGE, "prot": PROT_RW, "flags": ANON}
    return [
        ("/vas", create("new")),
        ("/segments", {"name": "new", "start": hex(BASE), "end": hex(BASE + PAGE), "mode": 0o600}),
        (f"/vas/{vid}/clone", {"name": "c"}),
        (f"/vas/{vid}/snapshot", {"name": "s"}),
        (f"/segments/{sid}/clone", {"name": "c"}),
        (f"/segments/{sid}/snapshot", {"name": "s"}),
        (f"/vas/{outside}/mmap", mapping),
        ("/tasks", {}),
        (f"/tasks/{other}/fork", {}),
        (f"/tasks/{pid}/threads", {}),
        (f"/tasks/{pid}/mmap", mapping),
        (f"/tasks/{other}/vas_fork", {"name": "image"}),
        (f"/tasks/{other}/new_as", {}),
    ]


async def test_every_creating_call_is_done_once(site: Site) -> None:
    for number, (path, body) in enumerate(await every_creating_call(site)):
        first = await post(site, path, body, f'"key {number}"')
        again = await post(site, path, body, f'"key {number}"')
        assert first.status in (200, 201), (path, first)
        assert told(again) == told(first), path
        assert (is_replay(first), is_replay(again)) == (False, True), path


async def test_a_replay_is_what_was_answered_even_when_it_is_gone(site: Site) -> None:
    first = await post(site, "/vas", create(), "k")
    await site.ok("DELETE", f"/vas/{first.json['id']}")
    again = await post(site, "/vas", create(), "k")
    assert (told(again), is_replay(again)) == (told(first), True)
    assert (await site.ok("GET", "/vas"))["items"] == []


async def test_without_a_key_everything_is_done_again(site: Site) -> None:
    pids = {(await post(site, "/tasks", {}, None)).json["pid"] for _ in range(3)}
    assert len(pids) == 3
    assert len(site.service.receipts) == 0


async def test_quotes_are_no_part_of_a_key(site: Site) -> None:
    first = await post(site, "/tasks", {}, "8e03978e-40d5")
    assert is_replay(await post(site, "/tasks", {}, '"8e03978e-40d5"'))
    assert not is_replay(await post(site, "/tasks", {}, '"8e03978e-40d6"'))
    assert first.status == 201


@pytest.mark.parametrize("key", ["", '""', '"', 'a"b', "ä", "a b", '"a"; p=1', '"\\x"', "k" * 256])
async def test_what_is_no_key_is_einval_and_nothing_is_done(site: Site, key: str) -> None:
    assert (await post(site, "/vas", create(), key)).errno == "EINVAL"
    assert (await site.ok("GET", "/vas"))["items"] == []


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_string_of_the_draft_is_a_key(text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse_key(quoted.encode()) == text.encode()


@given(st.binary(max_size=300))
def test_any_other_header_is_einval(value: bytes) -> None:
    try:
        assert 0 < len(parse_key(value)) <= 255
    except EngineError as error:
        assert error.errno == "EINVAL"


async def test_a_key_for_something_else_is_422(site: Site) -> None:
    made = await post(site, "/vas", create(), "k")
    await refused(site, "/vas", create("other"), "k", 422)
    await refused(site, "/vas", create(mode=0o640), "k", 422)
    await refused(site, "/segments", {"name": "lab", "start": BASE, "end": BASE + PAGE, "mode": 0}, "k", 422)
    await refused(site, f"/vas/{made.json['id']}/clone", {"name": "lab"}, "k", 422)
    assert len((await site.ok("GET", "/vas"))["items"]) == 1


async def test_another_spelling_of_the_same_is_the_same(site: Site) -> None:
    await post(site, "/vas", {"name": "lab", "mode": 0o600}, "k")
    body = b'{ "mode":384,\n "name" : "l\\u0061b" }'
    again = await site.send("POST", "/v1/vas", [body], {**JSON, "idempotency-key": "k"})
    assert is_replay(again)


class Asked:
    """A request as far as its fingerprint needs it."""

    method = "POST"

    def __init__(self, path: str, query: bytes, body: bytes) -> None:
        self.scope = {"headers": [(b"idempotency-key", b"k")], "path": path, "query_string": query}
        self.body = body


def same(left: Asked, right: Asked) -> tuple[bool, bool]:
    """Whether two requests ask the same, and of the same task and thread."""
    one, two = (key_of(asked, 7, asked.body) for asked in (left, right))
    assert one is not None
    assert two is not None
    assert one.name == two.name
    return one.fingerprint == two.fingerprint, one.subject == two.subject


def test_what_is_the_same() -> None:
    first = Asked("/v1/tasks/7/mmap", b"a=1&b=2", b'{"x": 1, "y": [2, 3]}')
    assert same(first, Asked("/v1/tasks/7/mmap", b"b=2&a=1", b' {"y":[2,3],"x":1}')) == (True, True)
    assert same(first, Asked("/v1/tasks/8/mmap", b"a=1&b=2", first.body)) == (True, False)
    assert same(first, Asked("/v1/tasks/7/mmap", b"a=1&b=2&tid=9", first.body)) == (True, False)
    assert same(first, Asked("/v1/tasks/7/mmap", b"a=1&b=2", b'{"x": 1, "y": [2, 3], "tid": 9}')) == (
        True,
        False,
    )
    assert same(first, Asked("/v1/tasks/7/mremap", b"a=1&b=2", first.body)) == (False, True)
    assert same(first, Asked("/v1/tasks/7/mmap", b"a=1", first.body)) == (False, True)
    assert same(first, Asked("/v1/tasks/7/mmap", b"a=1&b=2", b'{"x": 1, "y": [3, 2]}')) == (False, True)
    assert same(Asked("/v1/tasks", b"", b""), Asked("/v1/tasks", b"", b"{}")) == (True, True)
    assert same(Asked("/v1/tasks", b"", b"\xff"), Asked("/v1/tasks", b"", b"\xfe")) == (False, True)
    long = b'{"x": "' + b"x" * (1 << 20) + b'"}'
    assert same(Asked("/v1/tasks", b"", long), Asked("/v1/tasks", b"", long)) == (True, True)
    assert same(Asked("/v1/tasks", b"", long), Asked("/v1/tasks", b"", b" " + long)) == (False, True)


async def test_another_task_is_something_else(site: Site) -> None:
    one, two = await site.task(), await site.task()
    await post(site, f"/tasks/{one}/threads", {}, "k")
    await refused(site, f"/tasks/{two}/threads", {}, "k", 422)


async def test_keys_are_of_an_account(site: Site) -> None:
    token = site.account(7)
    mine = await post(site, "/tasks", {}, "k")
    theirs = await post(site, "/tasks", {}, "k", token)
    assert not is_replay(theirs)
    assert (mine.json["uid"], theirs.json["uid"]) == (0, 7)
    assert is_replay(await post(site, "/tasks", {}, "k", token))


async def test_a_refusal_is_not_kept(site: Site) -> None:
    """Nothing was done, so the same may be asked again when what stood in its way is gone."""
    vid = await site.space("lab")
    assert (await post(site, "/vas", create(), "k")).errno == "EEXIST"
    assert (await post(site, "/vas", {"name": "lab"}, "k")).errno == "EINVAL"
    await site.ok("PATCH", f"/vas/{vid}", {"name": "other"})
    made = await post(site, "/vas", create(), "k")
    assert (made.status, is_replay(made)) == (201, False)
    assert told(await post(site, "/vas", create(), "k")) == told(made)


async def test_a_malformed_request_never_uses_its_key_up(site: Site) -> None:
    assert (await post(site, "/vas", {"name": 5}, "k")).errno == "EINVAL"
    assert (await post(site, "/vas", create(), "k")).status == 201


async def test_while_it_is_done_it_is_409(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        store.hold()
        making = asyncio.create_task(post(site, "/vas", create(), "k"))
        await until(lambda: site.service.executor.unsettled == 1)
        again = await post(site, "/vas", create(), "k")
        assert (again.status, again.errno, again.headers["retry-after"]) == (409, None, "1")
        await refused(site, "/vas", create("other"), "k", 422)
        store.release()
        made = await making
        assert made.status == 201
        assert told(await post(site, "/vas", create(), "k")) == told(made)


async def test_a_client_that_left_finds_it_done(tmp_path: Path) -> None:
    """The request of a client that has gone is carried out; a replay does not outrun its commit."""
    async with held(tmp_path) as (site, store):
        store.hold()
        making = asyncio.create_task(post(site, "/vas", create(), "k"))
        await until(lambda: site.service.executor.unsettled == 1)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        again = asyncio.create_task(post(site, "/vas", create(), "k"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not again.done()
        store.release()
        assert is_replay(await again)


async def test_a_failed_commit_takes_the_receipt_back(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        store.failure = StoreFull("the disk is full")
        assert (await post(site, "/vas", create(), "k")).errno == "ENOSPC"
        assert len(site.service.receipts) == 0
        store.failure = None
        made = await post(site, "/vas", create(), "k")
        assert (made.status, is_replay(made)) == (201, False)


async def test_a_volatile_receipt_goes_with_what_it_stood_on(tmp_path: Path) -> None:
    async with held(tmp_path) as (site, store):
        pid = await site.task()
        store.hold()
        store.failure = StoreFull("the disk is full")
        making = asyncio.create_task(site.call("POST", "/vas", create()))
        await until(lambda: site.service.executor.unsettled == 1)
        thread = asyncio.create_task(post(site, f"/tasks/{pid}/threads", {}, "k"))
        await until(lambda: site.service.executor.unsettled == 2)
        store.release()
        assert (await making).errno == "ENOSPC"
        store.failure = None
        made = await thread  # run again on what was left
        assert (made.status, is_replay(made)) == (201, False)
        assert told(await post(site, f"/tasks/{pid}/threads", {}, "k")) == told(made)
        assert len((await site.ok("GET", f"/tasks/{pid}"))["threads"]) == 2


async def test_a_restart_keeps_receipts_of_what_it_keeps(tmp_path: Path) -> None:
    mapping = {"addr": 0, "length": PAGE, "prot": PROT_RW, "flags": ANON}
    async with running(tmp_path) as site:
        pid, vid = await site.inside()
        made = await post(site, "/vas", create("made"), "space")
        mapped = await post(site, f"/tasks/{pid}/mmap", mapping, "region")
        outside = await site.task()
        private = await post(site, f"/tasks/{outside}/mmap", mapping, "private")
        spawned = await post(site, "/tasks", {}, "task")
        assert {answer.status for answer in (made, mapped, private, spawned)} <= {200, 201}
    async with running(tmp_path) as site:
        assert told(await post(site, "/vas", create("made"), "space")) == told(made)
        again = await post(site, "/tasks", {}, "task")
        assert (again.status, is_replay(again)) == (201, False), "the task went with the service"
        pid = again.json["pid"]
        fresh = await post(site, f"/tasks/{pid}/mmap", mapping, "private")
        assert (fresh.status, is_replay(fresh)) == (200, False), "so did its memory"
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        kept = await post(site, f"/tasks/{pid}/mmap", mapping, "region")
        assert (told(kept), is_replay(kept)) == (told(mapped), True), "the region did not, whoever asks now"
        await refused(site, f"/tasks/{pid}/mmap", {**mapping, "length": 2 * PAGE}, "region", 422)


async def test_what_is_done_to_a_task_first_of_all_is_not_remembered_longer_than_the_task(
    tmp_path: Path,
) -> None:
    """exec lets go of a transient space, which is stored; another task after a restart has not been executed by that."""
    async with running(tmp_path) as site:
        vid = (await site.ok("POST", "/vas", {**create(), "lifetime": "transient"}))["id"]
        pid = await site.task()
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        done = await post(site, f"/tasks/{pid}/exec", {}, "k")
        assert done.status == 200
        assert told(await post(site, f"/tasks/{pid}/exec", {}, "k")) == told(done)
        assert (await site.ok("GET", "/vas"))["items"] == []
    async with running(tmp_path) as site:
        pid = await site.task()
        again = await post(site, f"/tasks/{pid}/exec", {}, "k")
        assert (again.json["pid"], is_replay(again)) == (pid, False)


async def test_an_atomic_batch_is_done_once(tmp_path: Path) -> None:
    calls = {"calls": [{"call": "vas_create", "args": create("in a batch")}, {"call": "fork", "args": {}}]}
    async with running(tmp_path) as site:
        pid = await site.task()
        done = await post(site, f"/tasks/{pid}/batch?atomic=true", calls, "k")
        assert done.status == 200, done
        assert told(await post(site, f"/tasks/{pid}/batch?atomic=true", calls, "k")) == told(done)
        assert (await post(site, f"/tasks/{pid}/batch", calls, "k2")).errno == "EINVAL", "no single change"
        assert len((await site.ok("GET", "/tasks"))["items"]) == 2
    async with running(tmp_path) as site:
        pid = await site.task()
        assert is_replay(await post(site, f"/tasks/{pid}/batch?atomic=true", calls, "k"))


async def test_a_day_later_a_key_is_new(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        now = 1e9
        site.service.receipts.clock = lambda: now
        made = await post(site, "/vas", create(), "k")
        task = await post(site, "/tasks", {}, "t")
        now += receipts.KEPT_SECONDS - 1
        assert is_replay(await post(site, "/vas", create(), "k"))
        now += 1
        assert (await post(site, "/vas", create(), "k")).errno == "EEXIST"
        assert not is_replay(await post(site, "/tasks", {}, "t"))
        assert (made.status, task.status) == (201, 201)
        assert len(site.service.receipts) == 2, "what was refused drops nothing"
        await site.service.executor.run(site.service.receipts.sweep)
        assert len(site.service.receipts) == 1, "the new task's"
    async with running(tmp_path) as site:
        assert len(site.service.receipts) == 0


async def test_an_account_has_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "KEPT_MAX", 3)
    async with running(tmp_path) as site:
        theirs = site.account(7)
        await post(site, "/vas", create("theirs"), "0", theirs)
        for number in range(5):
            assert (await post(site, "/vas", create(str(number)), str(number))).status == 201
            assert (await post(site, "/tasks", {"name": "t"}, f"t{number}")).status == 201
        assert len(site.service.receipts) == 1 + 3 + 3
        assert is_replay(await post(site, "/vas", create("2"), "2"))
        assert is_replay(await post(site, "/vas", create("theirs"), "0", theirs))
        assert (await post(site, "/vas", create("1"), "1")).errno == "EEXIST", "forgotten"
    async with running(tmp_path) as site:
        assert len(site.service.receipts) == 4
        assert is_replay(await post(site, "/vas", create("2"), "2"))
        assert (await post(site, "/vas", create("5"), "5")).status == 201
        assert not is_replay(await post(site, "/tasks", {}, "2 again"))
        assert (await post(site, "/vas", create("2"), "2")).errno == "EEXIST", (
            "the oldest, also after a restart"
        )


async def test_bytes_are_bounded_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "KEPT_BYTES_MAX", 1000)
    for number in range(20):
        await post(site, "/tasks", {"name": f"task {number}"}, str(number))
    assert 0 < len(site.service.receipts) < 5


async def test_an_answer_that_is_too_long_is_not_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "BODY_BYTES_MAX", 100)
    assert (await post(site, "/vas", create(), "k")).errno == "E2BIG"
    assert (await site.ok("GET", "/vas"))["items"] == []
    assert (await post(site, "/vas", create(), None)).status == 201


async def test_a_lease_begins_once(site: Site) -> None:
    first = await post(site, "/tasks", {"lease_s": 10}, "k")
    site.clock.now += 6
    assert is_replay(await post(site, "/tasks", {"lease_s": 10}, "k"))
    site.clock.now += 6
    await site.service.expire_leases()
    assert (await site.call("GET", f"/tasks/{first.json['pid']}")).errno == "ESRCH"


async def test_unknown_versions_of_receipts_are_dropped(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        journal = site.service.machine.journal
        await site.service.executor.run(lambda: journal.change(PutReceipt(b"strange", b"\xffvalue")))
    async with running(tmp_path) as site:
        assert (len(site.service.receipts), site.service.receipts.unreadable) == (0, 1)
        await site.service.executor.run(site.service.receipts.sweep)
    async with running(tmp_path) as site:
        assert site.service.receipts.unreadable == 0


async def test_any_order_of_asking_failing_and_starting_anew_does_each_thing_once(
    tmp_path: Path, seed: int
) -> None:
    """A naive model: what a key was answered first, it is answered always; there is one space for each of those."""
    rng = random.Random(seed)
    answered: dict[str, tuple[int, bytes, str | None, str | None]] = {}
    directory, numbers = tmp_path / "data", itertools.count()
    for _ in range(4):
        async with held(directory) as (site, store):
            for _ in range(60):
                key = str(rng.randrange(12))
                store.failure = StoreFull("the disk is full") if rng.random() < 0.2 else None
                asked = [post(site, "/vas", create(f"space {key}"), key) for _ in range(rng.randrange(1, 4))]
                if rng.random() < 0.3:
                    asked.append(post(site, "/vas", create(f"unkeyed {next(numbers)}"), None))
                for answer in await asyncio.gather(*asked):
                    if answer.status == 201 and b"unkeyed" not in answer.body:
                        assert told(answer) == answered.setdefault(key, told(answer))
                    else:
                        assert answer.status in (201, 409, 507), answer
                store.failure = None
            listed = (await site.ok("GET", "/vas?limit=1000"))["items"]
            names = [item["name"] for item in listed if not item["name"].startswith("unkeyed")]
            assert sorted(names) == sorted(f"space {key}" for key in answered)
