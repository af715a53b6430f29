"""Bad input of every kind: the documented error, nothing changed, never a 500 and never a framework's own 422."""

import json
from typing import Any

import pytest

from tests.app.support import BASE, BYTES, JSON, PAGE, Site

VAS = {"name": "new", "mode": 0o600}
SEG = {"name": "new", "start": hex(BASE), "end": hex(BASE + PAGE), "mode": 0o600}
RANGE = {"addr": hex(BASE), "length": PAGE}
MREMAP = {"old_addr": hex(BASE), "old_size": PAGE, "new_size": 2 * PAGE}
MMAP = {"addr": hex(BASE), "length": PAGE, "prot": 3, "flags": 0x32}

NOT_INTS: tuple[Any, ...] = ("6", 1.0, 1.5, True, None, [], {}, 1e300)
NOT_STRINGS: tuple[Any, ...] = (5, None, True, [], {})
NOT_ADDRESSES: tuple[Any, ...] = (
    "",
    "0x",
    "x",
    "1.0",
    " 1",
    "1_0",
    "+1",
    1.0,
    True,
    None,
    [],
    "0x" + "f" * 50,
)
HUGE: tuple[int, ...] = (2**63, 2**64, 2**200, 10**300, -1, -(2**64))

TEXTS: tuple[Any, ...] = ("", "lockable?", "Shared", 1, [])
LEASES: tuple[Any, ...] = (0, 0.5, 86401, -1, "5", True, None, [], 10**400)
NAMES: tuple[Any, ...] = ("", "x" * 256, "\0", 5, [])
TIDS: tuple[Any, ...] = ("1", 1.5, True, [])
NO_LIMITS: tuple[Any, ...] = (-1, 2**64, 1.0, "5", True, [])
NO_CALLS: tuple[Any, ...] = ([], {}, {"calls": {}}, {"calls": [], "more": 1}, 5, "x")
TYPES: tuple[Any, ...] = ("", "RW", 0, 1, 2, 3, None, True, ["rw"], {})

BODIES: tuple[tuple[str, Any], ...] = (
    *(("/vas", {**VAS, "mode": value}) for value in (*NOT_INTS, *HUGE)),
    *(("/vas", {**VAS, "name": value}) for value in NOT_STRINGS),
    *(("/vas", {**VAS, "name": name}) for name in ("", "a" * 256, "é" * 128, "a\0b", "a\nb", "\x7f", "\x85")),
    *(("/vas", {**VAS, "sharing": value}) for value in TEXTS),
    ("/vas", {"name": "new"}),
    ("/vas", {"mode": 0}),
    ("/vas", {**VAS, "extra": 1}),
    ("/vas", {**VAS, "Name": "new"}),
    *(("/segments", {**SEG, "start": value}) for value in NOT_ADDRESSES),
    *(("/segments", {**SEG, "end": value}) for value in (*NOT_ADDRESSES, hex(BASE), hex(BASE + 1), 0)),
    ("/segments", {**SEG, "start": hex(BASE + 1)}),
    ("/segments", {**SEG, "start": hex(BASE + PAGE), "end": hex(BASE)}),
    *(("/tasks", {"lease_s": value}) for value in LEASES),
    *(("/tasks", {"name": value}) for value in NAMES),
    ("/tasks", {"lease": 5}),
    *(("/tasks/{pid}/mmap", {**MMAP, "length": value}) for value in (*NOT_INTS, 0, -1)),
    *(("/tasks/{pid}/mmap", {**MMAP, "addr": value}) for value in (*NOT_ADDRESSES, hex(BASE + 1))),
    *(("/tasks/{pid}/mmap", {**MMAP, "flags": value}) for value in (*NOT_INTS, 0, 0x30, 0x33)),
    *(("/tasks/{pid}/mmap", {**MMAP, "prot": value}) for value in NOT_INTS),
    *(("/tasks/{pid}/mmap", {**MMAP, "tid": value}) for value in TIDS),
    *(("/tasks/{pid}/munmap", {"addr": BASE, "length": value}) for value in (*NOT_INTS, 0, -1)),
    *(
        ("/tasks/{pid}/mprotect", {"addr": BASE, "length": PAGE, "prot": value})
        for value in (*NOT_INTS, 99, 2**70)
    ),
    *(("/tasks/{pid}/brk", {"addr": value}) for value in NOT_ADDRESSES),
    *(("/tasks/{pid}/mremap", {**MREMAP, "new_size": value}) for value in (*NOT_INTS, 0, -1)),
    *(("/tasks/{pid}/mremap", {**MREMAP, "old_size": value}) for value in (*NOT_INTS, -1)),
    *(("/tasks/{pid}/mremap", {**MREMAP, "flags": value}) for value in (*NOT_INTS, 2, 4, 8, -1, 2**70)),
    *(("/tasks/{pid}/mremap", {**MREMAP, "old_addr": value}) for value in (*NOT_ADDRESSES, BASE + 1)),
    *(("/tasks/{pid}/mremap", {**MREMAP, "new_addr": value}) for value in NOT_ADDRESSES),
    *(("/tasks/{pid}/madvise", {**RANGE, "advice": value}) for value in (*NOT_INTS, 5, 7, 99, -1, 2**70)),
    *(
        ("/tasks/{pid}/madvise", {**RANGE, "advice": 4, "addr": value})
        for value in (*NOT_ADDRESSES, BASE + 1)
    ),
    *(("/tasks/{pid}/mincore", {**RANGE, "length": value}) for value in NOT_INTS),
    *(("/tasks/{pid}/mincore", {**RANGE, "addr": value}) for value in (*NOT_ADDRESSES, BASE + 1)),
    *(("/tasks/{pid}/mlock", {**RANGE, "flags": value}) for value in (*NOT_INTS, 2, -1, 2**70)),
    *(("/tasks/{pid}/munlock", {**RANGE, "length": value}) for value in NOT_INTS),
    *((f"/tasks/{{pid}}/{call}", {**RANGE, "extra": 1}) for call in ("mincore", "mlock", "munlock")),
    ("/tasks/{pid}/mremap", {**MREMAP, "addr": BASE}),
    ("/tasks/{pid}/madvise", RANGE),
    ("/tasks/{pid}/exec", {"tid": 1}),
    ("/tasks/{pid}/exec", []),
    *(
        ("/tasks/{pid}/prlimit", {"resource": value})
        for value in (*NOT_STRINGS, "", "cpu", "STACK", "_limits")
    ),
    *(("/tasks/{pid}/prlimit", {"resource": "stack", "value": value}) for value in NO_LIMITS),
    ("/tasks/{pid}/prlimit", {"value": 5}),
    *(("/tasks/{pid}/msync", {"addr": BASE, "length": value}) for value in (*NOT_INTS, -1)),
    ("/tasks/{pid}/fork", {"tid": "x"}),
    ("/tasks/{pid}/fork", {"extra": 1}),
    *(("/tasks/{pid}/batch", value) for value in NO_CALLS),
)


def shown(row: tuple[str, Any]) -> str:
    """A test's name."""
    return f"{row[0]} {row[1]!r:.60}".replace("\0", "NUL")


@pytest.mark.parametrize(
    "rows", [BODIES[n : n + 20] for n in range(0, len(BODIES), 20)], ids=lambda r: shown(r[0])
)
async def test_members_of_the_wrong_kind_are_einval(site: Site, rows: tuple[tuple[str, Any], ...]) -> None:
    pid = await site.task()
    before = await state(site)
    for path, body in rows:
        answer = await site.call("POST", path.format(pid=pid), body)
        assert (answer.status, answer.errno) == (400, "EINVAL"), (shown((path, body)), answer)
        assert await state(site) == before, shown((path, body))


async def state(site: Site) -> list[Any]:
    """Everything that a refused request must leave as it is."""
    paths = ("/vas", "/segments", "/tasks")
    listed = [await site.ok("GET", path) for path in paths]
    maps = [(await site.send("GET", f"/v1/proc/{task['pid']}/maps")).body for task in listed[2]["items"]]
    return [*listed, maps]


BROKEN = (
    b"{", b"nonsense", b"\xff\xfe", b'{"name": "\xff", "mode": 0}', b"null", b"[]", b'"x"', b"5", b"true", b"{}}",
    b'{"name": "a", "mode": 0600}', b'{"name": "a", "mode": NaN}', b'{"name": "a", "mode": Infinity}',
    b'{"name": "a", "mode": 1e400}', b'{"name": "a", "mode": 0, "mode": 0}', b"[" * 200_000, b'{"a":' * 100_000,
    b'{"name": "a", "mode": ' + b"9" * 20_000 + b"}", b'\xef\xbb\xbf{"name": "a", "mode": 0}',
    b'{"name": "\\ud800", "mode": 0}', b'{"name": "a\\u0000", "mode": 0}', b"{'name': 'a'}", b'{"name": "a", "mode": 0,}',
)  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/v1/vas", "/v1/tasks/{pid}/mmap", "/v1/tasks/{pid}/batch", "/v1/tasks/{pid}/brk"]
)
async def test_broken_json_is_einval(site: Site, path: str) -> None:
    pid = await site.task()
    before = await state(site)
    for body in BROKEN:
        answer = await site.send("POST", path.format(pid=pid), [body], JSON)
        assert (answer.status, answer.errno) == (400, "EINVAL"), (body[:40], answer)
        assert len(answer.body) < 1000, "what a caller sent is not thrown back at length"
    assert await state(site) == before


async def test_json_in_pieces_and_without_a_content_type_is_taken(site: Site) -> None:
    body = json.dumps(VAS).encode()
    answer = await site.send("POST", "/v1/vas", [body[n : n + 1] for n in range(len(body))])
    assert answer.status == 201


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/jsonx", "x"])
async def test_a_wrong_content_type_is_einval(site: Site, media: str) -> None:
    pid, _ = await site.inside()
    headers = {"content-type": media, "content-length": "1"}
    for path in ("/v1/vas", f"/v1/tasks/{pid}/batch", f"/v1/tasks/{pid}/mmap"):
        answer = await site.send("POST", path, [b"{"], headers)
        assert answer.errno == "EINVAL", path
        assert "application/json" in answer.json["detail"]
    answer = await site.send("PUT", f"/v1/tasks/{pid}/memory?addr={BASE}", [b"x"], headers)
    assert answer.errno == "EINVAL"
    assert "application/octet-stream" in answer.json["detail"]
    assert (await site.read(pid, BASE, 1)).body == b"\0"


async def test_an_encoded_body_is_einval(site: Site) -> None:
    pid = await site.task()
    for method, path in (("POST", "/v1/vas"), ("POST", f"/v1/tasks/{pid}/batch")):
        answer = await site.send(method, path, [b"{}"], JSON | {"content-encoding": "gzip"})
        assert answer.errno == "EINVAL"


IDS = (
    "0",
    "-1",
    "99",
    "x",
    "1.0",
    "1e3",
    " 1",
    "+1",
    "0x1",
    "1_0",
    "9" * 18,
    "9" * 400,
    "-",
    "1;",
    "%31x",
    "é",
)


async def test_unknown_spaces_and_segments_are_einval(site: Site) -> None:
    pid = await site.task()
    for number in IDS:
        for method, path, body in (
            ("GET", f"/vas/{number}", None),
            ("PATCH", f"/vas/{number}", {"mode": 0}),
            ("DELETE", f"/vas/{number}", None),
            ("GET", f"/vas/{number}/regions", None),
            ("GET", f"/vas/{number}/segments", None),
            ("GET", f"/segments/{number}", None),
            ("PATCH", f"/segments/{number}", {"mode": 0}),
            ("DELETE", f"/segments/{number}", None),
            ("GET", f"/segments/{number}/data", None),
            ("PUT", f"/vas/{number}/segments/1", {"type": "ro"}),
            ("DELETE", f"/vas/{number}/segments/1", None),
            ("PUT", f"/tasks/{pid}/vas/{number}", {"type": "ro"}),
            ("DELETE", f"/tasks/{pid}/vas/{number}", None),
            ("GET", f"/sys/vas/{number}/name", None),
            ("GET", f"/sys/vas_segs/{number}/name", None),
        ):
            answer = await site.call(method, path, body)
            assert (answer.status, answer.errno) == (400, "EINVAL"), (method, path, answer)


async def test_unknown_tasks_and_threads_are_esrch(site: Site) -> None:
    pid = await site.task()
    vid = await site.space()
    for number in IDS:
        for method, path, body in (
            ("GET", f"/tasks/{number}", None),
            ("DELETE", f"/tasks/{number}", None),
            ("POST", f"/tasks/{number}/fork", None),
            ("POST", f"/tasks/{number}/threads", {}),
            ("POST", f"/tasks/{number}/heartbeat", None),
            ("POST", f"/tasks/{number}/brk", None),
            ("POST", f"/tasks/{number}/mremap", MREMAP),
            ("POST", f"/tasks/{number}/mincore", RANGE),
            ("POST", f"/tasks/{number}/exec", None),
            ("GET", f"/tasks/{number}/limits", None),
            ("PUT", f"/tasks/{number}/limits", {"stack": -1}),
            ("POST", f"/tasks/{number}/prlimit", {"resource": "stack"}),
            ("POST", f"/tasks/{number}/mmap", MMAP),
            ("GET", f"/tasks/{number}/memory?addr=0&len=0", None),
            ("POST", f"/tasks/{number}/batch", {"calls": []}),
            ("GET", f"/proc/{number}/maps", None),
            ("GET", f"/proc/{number}/status", None),
            ("GET", f"/proc/{number}/vas", None),
            ("GET", f"/tasks/{number}/vas/{vid}", None),
            ("DELETE", f"/tasks/{pid}/threads/{number}", None),
            ("GET", f"/tasks/{pid}/threads/{number}/active", None),
        ):
            if number == "0" and "threads/" in path:
                continue  # tid 0 is the main thread
            answer = await site.call(method, path, body)
            assert (answer.status, answer.errno) == (404, "ESRCH"), (method, path, answer)
    for tid in (99, -1, 2**70):
        answer = await site.call("POST", f"/tasks/{pid}/brk", {"tid": tid})
        assert (answer.status, answer.errno) == (404, "ESRCH")
        assert (await site.send("GET", f"/v1/tasks/{pid}/memory?addr=0&len=0&tid={tid}")).errno == "ESRCH"
        assert (await site.send("GET", f"/v1/proc/{pid}/maps?tid={tid}")).status in (400, 404)
        assert (await site.batch(pid, query=f"?tid={tid}")).errno == "ESRCH"


async def test_the_order_of_errors_in_vas_attach(site: Site) -> None:
    """CONTRACT: EINVAL of negative ids, ESRCH, EINVAL of type, EPERM, EINVAL of an unknown space."""
    pid = await site.task()
    stranger = site.account(1001)
    for path, body, errno in (
        ("/tasks/99/vas/-1", {"type": "ro"}, "EINVAL"),
        ("/tasks/-1/vas/99", {"type": "ro"}, "EINVAL"),
        ("/tasks/99/vas/99", {"type": "xx"}, "ESRCH"),
        (f"/tasks/{pid}/vas/99", {"type": "xx"}, "EINVAL"),
        (f"/tasks/{pid}/vas/99", {"type": "ro"}, "EPERM"),
    ):
        assert (await site.call("PUT", path, body, token=stranger)).errno == errno, (path, body)
    vid = await site.space()
    for value in TYPES:
        answer = await site.call("PUT", f"/tasks/{pid}/vas/{vid}", {"type": value})
        assert answer.errno == "EINVAL", value


QUERIES = (
    "", "addr=0", "len=0", "addr=&len=1", "addr=x&len=1", "addr=0x&len=1", "addr=1.0&len=1", "addr=-0x&len=1", "addr=-1&len=1", "addr=-0x8&len=1", "addr=0X1000&len=1",
    "addr=0&len=x", "addr=0&len=-1", "addr=0&len=1&tid=x", "addr=0&addr=0&len=1", "addr=%FF&len=1",
    "addr=0x" + "f" * 100 + "&len=1", "addr=0&len=1&len=1", "addr=0 &len=1",
)  # fmt: skip


async def test_malformed_queries_of_memory_are_einval(site: Site) -> None:
    pid, _ = await site.inside()
    for query in QUERIES:
        answer = await site.send("GET", f"/v1/tasks/{pid}/memory?{query}")
        assert (answer.status, answer.errno) == (400, "EINVAL"), (query, answer)
    for query in (
        "",
        f"addr={BASE}&durability=never",
        f"addr={BASE}&len=2",
        f"addr={BASE}&tid=x",
        f"addr={BASE}&len=x",
    ):
        answer = await site.send("PUT", f"/v1/tasks/{pid}/memory?{query}", [b"x"], BYTES)
        assert (answer.status, answer.errno) == (400, "EINVAL"), (query, answer)
    assert (await site.read(pid, BASE, 1)).body == b"\0"


async def test_addresses_beyond_the_geometry_are_faults_that_name_themselves(site: Site) -> None:
    pid, _ = await site.inside(1)
    for addr, length, first in (
        (0, 1, 0),
        (BASE + PAGE, 1, BASE + PAGE),
        (BASE + PAGE - 4, 8, BASE + PAGE),
        (2**47, 1, 2**47),
        (2**64, 8, 2**64),
        (2**100, 8, 2**100),
    ):
        answer = await site.read(pid, addr, length)
        assert (answer.status, answer.errno) == (422, "EFAULT"), (addr, answer)
        assert answer.json["address"] == f"{first:#x}"
        answer = await site.write(pid, addr, bytes(length))
        assert (answer.status, answer.errno) == (422, "EFAULT"), (addr, answer)
        assert answer.json["address"] == f"{first:#x}"


async def test_huge_lengths(site: Site) -> None:
    pid = await site.task()
    sid = await site.segment(pages=1)
    for length in (64 * 2**20 + 1, 2**63, 2**64, 10**30):
        answer = await site.read(pid, 0, length)
        assert (answer.status, answer.errno) == (413, "E2BIG"), length
    big = await site.ok("POST", "/segments", {**SEG, "name": "big", "end": hex(BASE + 2**40)})
    answer = await site.send("GET", f"/v1/segments/{big['id']}/data")
    assert (answer.status, answer.errno) == (413, "E2BIG")
    answer = await site.send("HEAD", f"/v1/segments/{big['id']}/data")
    assert (answer.status, answer.headers["content-length"]) == (200, str(2**40))
    answer = await site.call(
        "POST", f"/tasks/{pid}/mmap", {**MMAP, "addr": 0, "flags": 0x22, "length": 2**62}
    )
    assert (answer.status, answer.errno) == (507, "ENOMEM")
    for length in (2**64, 2**64 - 1, 2**200):
        answer = await site.call("POST", f"/tasks/{pid}/mmap", {**MMAP, "length": length})
        assert answer.errno in ("EINVAL", "ENOMEM"), length
        answer = await site.call("POST", f"/tasks/{pid}/munmap", {"addr": BASE, "length": length})
        assert answer.errno == "EINVAL", length
    answer = await site.send(
        "PATCH", f"/v1/segments/{sid}/data", [b"x"], BYTES | {"content-range": f"bytes {10**29}-{10**29}/*"}
    )
    assert answer.errno == "EINVAL"


async def test_a_query_parameter_is_given_once(site: Site) -> None:
    for path in ("/v1/vas?limit=1&limit=2", "/v1/segments?name=a&name=a", "/v1/vas?cursor=%FF"):
        assert (await site.send("GET", path)).errno == "EINVAL", path


async def test_details_say_what_holds_whatever_was_sent(site: Site) -> None:
    """Of a wrong type, of a number beyond a register (exactly), of a string with a sign; a heartbeat has no members."""
    pid = await site.task()
    vid = await site.space()
    for value in (2, None, "rx", "RW"):
        answer = await site.call("PUT", f"/tasks/{pid}/vas/{vid}", {"type": value})
        assert answer.json["detail"] == "the attach type is none of ro, wo, rw"
    for addr, detail in (
        (2**64, "addr: more than 18446744073709551615"),
        ("-1", "addr: not an address: '-1'"),
    ):
        answer = await site.call("POST", f"/tasks/{pid}/munmap", {"addr": addr, "length": PAGE})
        assert (answer.errno, answer.json["detail"]) == ("EINVAL", detail)
    assert (await site.call("DELETE", f"/tasks/{pid}/heap/-1")).json["detail"] == "addr: not an address: '-1'"
    assert (await site.call("POST", f"/tasks/{pid}/heartbeat", {"x": 1})).errno == "EINVAL"
    assert (await site.call("POST", f"/tasks/{pid}/heartbeat", {})).status == 200
