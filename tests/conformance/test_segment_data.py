"""GET and PATCH of /segments/{sid}/data: ranges, tags and conditions of RFC 9110 over a segment's bytes."""

import email
from email.policy import HTTP

import pytest

import everspace
from tests.conformance.support.calls import PAGE
from tests.conformance.support.http import Answer, Http
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

SIZE = 4 * PAGE


def filled(world: World) -> tuple[str, Http, bytes]:
    """The path of a segment's data, its owner's connection, and its bytes."""
    sid = world.segment()
    path, http = f"/v1/segments/{sid}/data", world.http("owner")
    data = bytes(number % 251 for number in range(SIZE))
    patch(http, path, 0, data)
    return path, http, data


def patch(http: Http, path: str, offset: int, data: bytes, **headers: str) -> Answer:
    place = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.call("PATCH", path, raw=data, headers=place | named)


def ranged(http: Http, path: str, wanted: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.request("GET", path, headers={"Range": wanted} | named)


@row("DATA-WHOLE-1", "http")
def test_without_a_range_all_bytes_come(world: World) -> None:
    path, http, data = filled(world)
    answer = http.call("GET", path, status=200)
    assert answer.body == data
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.etag


@row("DATA-RANGE-1", "http")
def test_a_range_is_206(world: World) -> None:
    path, http, data = filled(world)
    for wanted, first, last in (
        ("bytes=0-0", 0, 0), ("bytes=5-4999", 5, 4999), (f"bytes={SIZE - 3}-", SIZE - 3, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1), (f"bytes=-{SIZE * 2}", 0, SIZE - 1), ("bytes=4095-4096", 4095, 4096),
        (f"bytes=10-{2**64}", 10, SIZE - 1), ("bytes=0-", 0, SIZE - 1),
    ):  # fmt: skip
        answer = ranged(http, path, wanted)
        assert answer.status == 206, wanted
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert answer.body == data[first : last + 1]
        assert answer.etag


@row("DATA-RANGE-416-1", "http")
def test_a_range_behind_the_end_is_416(world: World) -> None:
    path, http, _ = filled(world)
    for wanted in (f"bytes={SIZE}-", f"bytes={2**70}-{2**71}", "bytes=-0"):
        failure = world.refused(http.call, "GET", path, headers={"Range": wanted})
        assert failure.problem["status"] == 416
        assert "errno" not in failure.problem
        assert ranged(http, path, wanted).headers["content-range"] == f"bytes */{SIZE}"


@row("DATA-RANGE-IGNORED-1", "http")
def test_a_malformed_range_is_ignored(world: World) -> None:
    path, http, data = filled(world)
    for wanted in (
        "bytes=x-y",
        "bytes",
        "bytes=",
        "bytes=5-2",
        "lines=1-2",
        "bytes=--5",
        "bytes=1.5-2",
        "bytes=-",
    ):
        answer = ranged(http, path, wanted)
        assert (answer.status, answer.body) == (200, data), wanted


@row("DATA-RANGE-MANY-1", "http")
def test_several_ranges_come_in_parts(world: World) -> None:
    path, http, data = filled(world)
    wanted = ((0, 1), (4, 5000), (SIZE - 3, SIZE - 1))
    answer = ranged(http, path, "bytes=0-1, 4-5000,-3")
    assert answer.status == 206
    kind = answer.headers["content-type"]
    assert kind.startswith("multipart/byteranges")
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.body, policy=HTTP)
    parts = list(message.iter_parts())
    assert [part["content-range"] for part in parts] == [
        f"bytes {first}-{last}/{SIZE}" for first, last in wanted
    ]
    assert [part.get_content() for part in parts] == [data[first : last + 1] for first, last in wanted]


@row("DATA-RANGE-MANY-2", "http")
def test_many_ranges_cannot_multiply_an_answer(world: World) -> None:
    """A request of a kilobyte is not answered with megabytes of a segment of 16 KiB."""
    path, http, _ = filled(world)
    answer = ranged(http, path, "bytes=" + ",".join(["0-"] * 1000))
    assert len(answer.body) <= 64 * SIZE
    assert answer.status in (200, 206, 400, 413, 416)


@row("DATA-ETAG-1", "http")
def test_the_tag_changes_with_every_store(world: World) -> None:
    _, sid = world.inside()
    path, http = f"/v1/segments/{sid}/data", world.http("owner")
    tags = [http.call("GET", path).etag]

    def changed() -> bool:
        tags.append(http.call("GET", path).etag)
        return tags[-1] not in tags[:-1]

    assert not changed(), "a load is no change"
    patch(http, path, 0, b"by offset")
    assert changed()
    world.owner.write(BASE + PAGE, b"by address")
    assert changed()
    world.fails("EFAULT", world.owner.write, BASE + SIZE - 1, b"over the end")
    assert not changed()
    assert ranged(http, path, "bytes=0-3").etag == tags[-1], "a part has the tag of the whole"


@row("DATA-IFMATCH-1", "http")
def test_a_store_may_depend_on_the_tag(world: World) -> None:
    path, http, data = filled(world)
    tag = http.call("GET", path).etag
    patch(http, path, 0, b"first", If_Match=tag)
    failure = world.fails("ESTALE", patch, http, path, 0, b"second", If_Match=tag)
    assert failure.problem["status"] == 412
    assert http.call("GET", path).body == b"first" + data[5:]
    patch(http, path, 0, b"third", If_Match="*")
    fresh = http.call("GET", path).etag
    patch(http, path, 0, b"fourth", If_Match=f'"none", {fresh}')
    world.fails("ESTALE", patch, http, path, 0, b"x", If_Match=f"W/{http.call('GET', path).etag}")


@row("DATA-IFMATCH-2", "http")
def test_a_load_may_depend_on_the_tag(world: World) -> None:
    path, http, data = filled(world)
    tag = http.call("GET", path).etag
    assert http.call("GET", path, headers={"If-Match": tag}).body == data
    world.fails("ESTALE", http.call, "GET", path, headers={"If-Match": '"other"'})


@row("DATA-IFRANGE-1", "http")
def test_if_range_gives_the_whole_when_it_changed(world: World) -> None:
    path, http, data = filled(world)
    tag = http.call("GET", path).etag
    assert ranged(http, path, "bytes=0-3", If_Range=tag).status == 206
    patch(http, path, 0, data[:1])
    answer = ranged(http, path, "bytes=0-3", If_Range=tag)
    assert (answer.status, answer.body) == (200, data)
    assert ranged(http, path, "bytes=0-3", If_Range=f"W/{answer.etag}").status == 200


@row("DATA-STORE-1", "http")
def test_a_store_changes_its_bytes_only(world: World) -> None:
    path, http, data = filled(world)
    expected = bytearray(data)
    for offset, piece in ((0, b"a"), (PAGE - 2, b"cross"), (SIZE - 1, b"z"), (7, b"x" * 2 * PAGE)):
        patch(http, path, offset, piece)
        expected[offset : offset + len(piece)] = piece
        assert http.call("GET", path).body == expected
    http.call("PATCH", path, raw=b"abc", headers={"Content-Range": f"bytes 1-3/{SIZE}"})
    expected[1:4] = b"abc"
    assert http.call("GET", path).body == expected


@row("DATA-STORE-EINVAL-1", "http")
def test_a_store_says_where_and_says_it_right(world: World) -> None:
    path, http, data = filled(world)
    for place in (
        None, "", "bytes", "bytes 0-3", "bytes 0-4/*", "bytes 0-2/*", "bytes 3-0/*", "bytes x-y/*", "bytes */4",
        "lines 0-3/*", f"bytes 0-3/{SIZE + 1}", "bytes -4--1/*",
    ):  # fmt: skip
        headers = {} if place is None else {"Content-Range": place}
        world.fails("EINVAL", http.call, "PATCH", path, raw=b"data", headers=headers)
    for first in (SIZE - 3, SIZE, 2**63, 2**70):
        before = world.state()
        beyond = {"Content-Range": f"bytes {first}-{first + 3}/*"}
        failure = world.refused(http.call, "PATCH", path, raw=b"data", headers=beyond)
        assert failure.errno == "EINVAL" or failure.problem["status"] == 416
        assert world.state() == before
    assert http.call("GET", path).body == data


@row("DATA-COHERENT-1")
def test_bytes_by_offset_and_by_address_are_the_same(world: World) -> None:
    _, sid = world.inside()
    path, http = f"/v1/segments/{sid}/data", world.http("owner")
    reader = world.task("owner")
    world.owner.write(BASE + PAGE, b"by address")
    assert ranged(http, path, f"bytes={PAGE}-{PAGE + 9}").body == b"by address"
    patch(http, path, PAGE, b"by offset!")
    assert world.owner.read(BASE + PAGE, 10) == b"by offset!"
    world.fails("EFAULT", reader.read, BASE, 1)


@row("DATA-E2BIG-1", "http")
def test_a_load_above_the_limit_is_e2big(world: World) -> None:
    sid = world.owner.vas_seg_create(world.name(), BASE, BASE + 2**40, 0o600)
    path, http = f"/v1/segments/{sid}/data", world.http("owner")
    world.fails("E2BIG", http.call, "GET", path)
    assert ranged(http, path, f"bytes={2**39}-{2**39 + 4}").body == bytes(5)
    world.fails("E2BIG", http.call, "GET", path, headers={"Range": "bytes=0-1073741823"})


@row("DATA-SDK-1", "sdk")
def test_the_sdk_reads_and_writes_by_offset(world: World) -> None:
    segments = world.site.clients["owner"].segments
    seg = segments.create(world.name(), BASE, BASE + SIZE, 0o600)
    assert seg.pread(0, 4) == bytes(4)
    seg.pwrite(PAGE - 2, b"cross")
    assert seg.pread(PAGE - 3, 7) == b"\0cross\0"
    with pytest.raises(everspace.VasError):
        seg.pwrite(SIZE - 1, b"xx")
    assert seg.pread(SIZE - 1, 1) == b"\0"
