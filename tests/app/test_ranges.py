"""Ranges, tags and preconditions of RFC 9110, on their own and over segment data."""

import email
from email.policy import HTTP

import pytest

from app.errors import HttpProblem
from app.http.etags import names
from app.http.ranges import requested, still_same, written
from engine.errors import EngineError
from tests.app.support import BYTES, PAGE, Site

SIZE = 4 * PAGE
HUGE = "9" * 40


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-99", [(0, 10)]),
        ("bytes=9-", [(9, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-99", [(0, 10)]),
        ("BYTES=1-2", [(1, 3)]),
        ("bytes = 1-2", [(1, 3)]),
        (" bytes=1-2 ", [(1, 3)]),
        ("bytes=1-2, 4-5 ,-1", [(1, 3), (4, 6), (9, 10)]),
        ("bytes=1-2,,4-5", [(1, 3), (4, 6)]),
        ("bytes=1-2,50-60", [(1, 3)]),
        (f"bytes=0-{HUGE}", [(0, 10)]),
        (f"bytes=-{HUGE}", [(0, 10)]),
        (None, None),
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=a-b", None),
        ("bytes=1-2,x", None),
        ("bytes=+1-2", None),
        ("bytes=１-2", None),
        ("items=0-1", None),
        ("bytes=" + ",".join(["0-0"] * 65), None),
    ],
)
def test_range(header: str | None, spans: list[tuple[int, int]] | None) -> None:
    assert requested(header, 10) == spans


@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=11-,12-13", f"bytes={HUGE}-"]
)
def test_a_range_behind_the_end_is_416(header: str) -> None:
    with pytest.raises(HttpProblem) as raised:
        requested(header, 10)
    assert raised.value.status == 416
    assert (b"content-range", b"bytes */10") in raised.value.headers


def test_content_range() -> None:
    assert written(b"bytes 2-5/*", 4, 10) == 2
    assert written(b"bytes 2-5/10", 4, 10) == 2
    for header in (None, b"", b"bytes 2-5", b"bytes 2-5/9", b"bytes 5-2/*", b"bytes */10", b"bytes=2-5/*", b"bytes 2-6/*",
                   b"bytes -2-5/*", b"items 2-5/*", b"bytes " + b"9" * 40 + b"-5/*"):  # fmt: skip
        with pytest.raises(EngineError) as raised:
            written(header, 4, 10)
        assert raised.value.errno == "EINVAL", header


def test_tags() -> None:
    tag = '"a.1"'
    for header, strong, weak in (
        (b'"a.1"', True, True), (b"*", True, True), (b'W/"a.1"', False, True), (b'"b", "a.1"', True, True),
        (b'"b"', False, False), (b"", False, False), (b"a.1", False, False), (b'"x,\\"a.1"', False, False),
    ):  # fmt: skip
        assert names(header, tag) is strong, header
        assert names(header, tag, weak=True) is weak, header
    assert not names(None, tag)
    assert still_same(None, tag)
    assert still_same(b'"a.1"', tag)
    for header in (b'W/"a.1"', b'"b"', b"Wed, 21 Oct 2015 07:28:00 GMT", b""):
        assert not still_same(header, tag)


async def filled(site: Site) -> tuple[str, bytes]:
    """A segment with bytes that differ: its path and its bytes."""
    sid = await site.segment()
    data = bytes(n * 31 % 251 for n in range(SIZE))
    path = f"/v1/segments/{sid}/data"
    headers = BYTES | {"content-range": f"bytes 0-{SIZE - 1}/{SIZE}"}
    assert (await site.send("PATCH", path, [data], headers)).status == 204
    return path, data


async def test_reading_by_range(site: Site) -> None:
    path, data = await filled(site)
    whole = await site.send("GET", path)
    assert (whole.status, whole.body, whole.headers["accept-ranges"]) == (200, data, "bytes")
    part = await site.send("GET", path, headers={"range": "bytes=5-9"})
    assert (part.status, part.body) == (206, data[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{SIZE}"
    assert part.headers["etag"] == whole.headers["etag"]
    behind = await site.send("GET", path, headers={"range": f"bytes={SIZE}-"})
    assert (behind.status, behind.errno) == (416, None)
    assert behind.headers["content-range"] == f"bytes */{SIZE}"
    ignored = await site.send("GET", path, headers={"range": "bytes=9-5"})
    assert (ignored.status, ignored.body) == (200, data)


async def test_several_ranges_are_parts(site: Site) -> None:
    path, data = await filled(site)
    answer = await site.send("GET", path, headers={"range": "bytes=0-1,100-299,-2"})
    assert answer.status == 206
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = list(email.message_from_bytes(head + answer.body, policy=HTTP).iter_parts())
    assert [part["content-range"] for part in parts] == [
        f"bytes 0-1/{SIZE}", f"bytes 100-299/{SIZE}", f"bytes {SIZE - 2}-{SIZE - 1}/{SIZE}",
    ]  # fmt: skip
    assert [part.get_content() for part in parts] == [data[:2], data[100:300], data[-2:]]


async def test_head_tells_and_sends_nothing(site: Site) -> None:
    path, _ = await filled(site)
    answer = await site.send("HEAD", path, headers={"range": "bytes=0-0"})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(SIZE))
    assert answer.headers["etag"]


async def test_preconditions(site: Site) -> None:
    path, data = await filled(site)
    old = (await site.send("HEAD", path)).headers["etag"]
    patch = BYTES | {"content-range": "bytes 0-0/*"}
    changed = await site.send("PATCH", path, [b"!"], patch | {"if-match": old})
    new = changed.headers["etag"]
    assert (changed.status, new != old) == (204, True)
    refused = await site.send("PATCH", path, [b"?"], patch | {"if-match": old})
    assert (refused.status, refused.errno, refused.json["etag"]) == (412, "ESTALE", new)
    assert (await site.send("GET", path, headers={"if-match": old})).errno == "ESTALE"
    assert (await site.send("GET", path, headers={"if-match": f"{old}, {new}"})).status == 200
    assert (await site.send("GET", path, headers={"if-match": "*"})).status == 200
    fresh = await site.send("GET", path, headers={"if-none-match": f'"x", W/{new}'})
    assert (fresh.status, fresh.body, fresh.headers["etag"]) == (304, b"", new)
    assert (await site.send("GET", path, headers={"if-none-match": old})).status == 200
    resumed = await site.send("GET", path, headers={"range": "bytes=1-2", "if-range": new})
    assert (resumed.status, resumed.body) == (206, data[1:3])
    for stale in (old, f"W/{new}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        answer = await site.send("GET", path, headers={"range": "bytes=1-2", "if-range": stale})
        assert (answer.status, answer.body) == (200, b"!" + data[1:])


async def test_a_refused_write_changes_neither_bytes_nor_tag(site: Site) -> None:
    path, data = await filled(site)
    tag = (await site.send("HEAD", path)).headers["etag"]
    for header, body in (
        (f"bytes {SIZE - 1}-{SIZE}/*", b"xx"), ("bytes 0-0/*", b"xx"), ("bytes 0-1/7", b"xx"), ("nonsense", b"x"), ("bytes 0-0/*", b""),
    ):  # fmt: skip
        answer = await site.send("PATCH", path, [body], BYTES | {"content-range": header})
        assert (answer.status, answer.errno) == (400, "EINVAL"), header
    assert (await site.send("PATCH", path, [b"x"], BYTES)).errno == "EINVAL"
    whole = await site.send("GET", path)
    assert (whole.body, whole.headers["etag"]) == (data, tag)


async def test_nothing_is_told_without_the_read_bit(site: Site) -> None:
    """Neither bytes nor the tag, whatever the preconditions; writing needs the write bit only."""
    path, data = await filled(site)
    sid = path.split("/")[3]
    stranger = site.account(1001)
    tag = (await site.send("HEAD", path)).headers["etag"]
    for headers in (
        {},
        {"range": "bytes=99999999-"},
        {"if-match": '"x"'},
        {"if-none-match": tag},
        {"range": "bytes=0-0"},
    ):
        for method in ("GET", "HEAD"):
            answer = await site.send(method, path, headers=headers, token=stranger)
            assert (answer.status, "etag" in answer.headers) == (403, False), headers
    await site.ok("PATCH", f"/segments/{sid}", {"mode": 0o602})
    assert (await site.send("GET", path, token=stranger)).errno == "EACCES"
    patch = BYTES | {"content-range": "bytes 0-0/*"}
    assert (await site.send("PATCH", path, [b"!"], patch, token=stranger)).status == 204
    assert (await site.send("GET", path)).body == b"!" + data[1:]
