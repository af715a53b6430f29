"""Batches in frames: what they are made of, that they mean what their JSON means, and what malformed ones come to."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from everspace.wire import frames
from everspace.wire.frames import BYTES, CALL, OF_LOAD, OF_STORE, REFUSAL, VALUE
from tests.app.support import BASE, PAGE, Answer, Site, running

FRAMES = {"content-type": frames.MEDIA_FRAMES}
LOAD = frames.load(BASE, 8)


def store(addr: int, data: bytes, *, relaxed: bool = False) -> bytes:
    return frames.store_head(addr, len(data), relaxed=relaxed) + data


def call(call_name: str, /, **args: Any) -> bytes:
    return frames.call(call_name, args)


async def ask(site: Site, pid: int, *asked: bytes, query: str = "", **headers: str) -> Answer:
    body = frames.document(len(asked), asked)
    return await site.send("POST", f"/v1/tasks/{pid}/batch{query}", [body], {**FRAMES, **headers})


def told(answer: Answer) -> list[tuple[int, Any]]:
    assert (answer.status, answer.headers["content-type"]) == (200, frames.MEDIA_FRAMES), answer
    found = []
    for kind, start, end in frames.frames_of(answer.body):
        payload = answer.body[start:end]
        found.append((kind, payload if kind == BYTES else json.loads(payload)))
    return found


def test_the_bytes_are_as_documented() -> None:
    asked = frames.document(3, [frames.load(0x1000, 8), store(0x2000, b"ab", relaxed=True), call("maps")])
    assert asked == (
        b"EVF1" + b"\3\0\0\0"
        b"\x14\0\0\0\1\0\0\0\0\0\x10\0\0\0\0\0\0\x08\0\0\0\0\0\0\0"
        b"\x0f\0\0\0\2\0\0\0\0\0\x20\0\0\0\0\0\0\1ab"
        b'\x1d\0\0\0\0{"call": "maps", "args": {}}'
    ).replace(b"\x1d", bytes([len('{"call": "maps", "args": {}}')]))  # fmt: skip


async def test_results_come_in_order_as_bytes_values_and_refusals(site: Site) -> None:
    pid, vid = await site.inside()
    answer = await ask(
        site,
        pid,
        store(BASE, b"\0\xff bytes"),
        LOAD,
        frames.load(0x10, 1),
        call("vas_find", name="space"),
        call("read", addr=hex(BASE), length=2),
        call("nope"),
        frames.framed(CALL, b"\xff"),
        frames.framed(CALL, b"[]"),
        frames.load(BASE, 0),
    )
    results = told(answer)
    assert results[:2] == [(VALUE, 8), (BYTES, b"\0\xff bytes")]
    assert (results[2][0], results[2][1]["errno"], results[2][1]["address"]) == (REFUSAL, "EFAULT", "0x10")
    assert results[3:5] == [(VALUE, vid), (VALUE, "AP8=")]
    assert [(kind, result["errno"]) for kind, result in results[5:8]] == [(REFUSAL, "EINVAL")] * 3
    assert results[8] == (BYTES, b"")
    assert told(await ask(site, pid)) == []


async def test_a_frame_may_name_a_thread(site: Site) -> None:
    pid, _ = await site.inside()
    tid = (await site.ok("POST", f"/tasks/{pid}/threads", {}))["tid"]
    by = struct.pack("<IBIQQ", 20, OF_LOAD, tid, BASE, 8)
    unknown = struct.pack("<IBIQB", 14, OF_STORE, 2**32 - 1, BASE, 0) + b"x"
    results = told(await ask(site, pid, by, LOAD, unknown))
    assert [kind for kind, _ in results] == [REFUSAL, BYTES, REFUSAL]  # it is outside of the space
    assert [result["errno"] for kind, result in results if kind == REFUSAL] == ["EFAULT", "ESRCH"]


async def test_one_load_that_faults_leaves_the_others_of_its_row(site: Site) -> None:
    pid, _ = await site.inside(1)
    loads = [frames.load(BASE + 8 * number, 8) for number in range(1000)]
    results = told(await ask(site, pid, *loads))
    assert [kind for kind, _ in results] == [BYTES] * (PAGE // 8) + [REFUSAL] * (1000 - PAGE // 8)
    assert results[600][1]["address"] == hex(BASE + 4800)


async def test_an_atomic_batch_that_fails_did_nothing(site: Site) -> None:
    pid, _ = await site.inside(1)
    answer = await ask(site, pid, store(BASE, b"new"), frames.load(0, 1), query="?atomic=1")
    assert (answer.errno, answer.json["index"]) == ("EFAULT", 1)
    assert told(await ask(site, pid, frames.load(BASE, 3), query="?atomic=1")) == [(BYTES, bytes(3))]


async def test_an_atomic_batch_under_a_key_is_done_once(site: Site) -> None:
    pid, _ = await site.inside(1)
    asked = (call("vas_create", name="once", mode=0), store(BASE, b"x"))
    key = {"idempotency-key": '"a"'}
    first = await ask(site, pid, *asked, query="?atomic=1", **key)
    again = await ask(site, pid, *asked, query="?atomic=1", **key)
    assert told(first) == told(again)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await site.ok("GET", "/vas?name=once"))["items"]) == 1
    assert (await ask(site, pid, LOAD, query="?atomic=1", **key)).status == 422
    assert (await ask(site, pid, *asked, **key)).errno == "EINVAL"


MALFORMED = {
    "empty": b"",
    "half a head": b"EVF1\0",
    "other magic": b"EVF2\0\0\0\0",
    "more frames told than there are": frames.document(2, [LOAD]),
    "fewer frames told than there are": frames.document(1, [LOAD, LOAD]),
    "cut off": frames.document(1, [LOAD[:-1]]),
    "cut off in the head of a frame": frames.document(2, [LOAD, b"\0\0\0\0"]),
    "a size past the end": frames.document(1, [struct.pack("<IB", 2**32 - 1, CALL)]),
    "a kind that is none": frames.document(1, [frames.framed(3, b"")]),
    "a short load": frames.document(1, [frames.framed(OF_LOAD, bytes(19))]),
    "a long load": frames.document(1, [frames.framed(OF_LOAD, bytes(21))]),
    "a short store": frames.document(1, [frames.framed(OF_STORE, bytes(12))]),
    "unknown flags": frames.document(1, [frames.framed(OF_STORE, bytes(12) + b"\2")]),
    "JSON": b'{"calls": []}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_frames_are_refused_as_a_whole(site: Site, body: bytes) -> None:
    pid, _ = await site.inside(1)
    before = frames.document(2, [store(BASE, b"x")])[8:]
    for sent in (body, body[:4] + struct.pack("<I", 9) + before + body[8:]):
        answer = await site.send("POST", f"/v1/tasks/{pid}/batch", [sent], FRAMES)
        assert answer.errno == "EINVAL", (sent, answer)
    assert (await site.read(pid, BASE, 1)).body == b"\0"


async def test_limits(tmp_path: Path) -> None:
    async with running(tmp_path / "data", batch_limit=3, body_limit=1 << 20) as site:
        pid, _ = await site.inside(1)
        assert len(told(await ask(site, pid, LOAD, LOAD, LOAD))) == 3
        assert (await ask(site, pid, LOAD, LOAD, LOAD, LOAD)).errno == "E2BIG"
        kinds = told(await ask(site, pid, frames.load(BASE, 1 << 19), frames.load(BASE, 1 << 63), LOAD))
        assert [result["errno"] for kind, result in kinds if kind == REFUSAL] == ["EFAULT", "E2BIG"]
        assert (await ask(site, pid, store(BASE, bytes(1 << 20)))).errno == "E2BIG"
        huge = frames.framed(CALL, b" " * (1 << 20))
        assert (await ask(site, pid, huge)).errno == "E2BIG"


async def test_what_was_changed_and_refused_in_a_batch_is_in_the_journal(site: Site) -> None:
    pid, _ = await site.inside(1)
    await ask(site, pid, LOAD, store(BASE, b"x"), call("vas_find", name="none"), call("nope"))
    entries = (await site.ok("GET", "/audit?limit=50"))["items"]
    calls = {(entry["call"], entry["errno"]) for entry in entries}
    assert {("write", None), ("vas_find", "ESRCH"), ("batch", "EINVAL")} <= calls
    assert ("read", None) not in calls
