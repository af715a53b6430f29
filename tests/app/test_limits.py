"""Limits: whatever is too large is refused before it is kept, and the refusal closes the connection."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.gate import CONTROL_BODY_MAX, HEADER_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX
from tests.app.support import BASE, BYTES, JSON, PAGE, Site, running

LIMIT = 3 * PAGE


class Counted:
    """Chunks, and how many of them were asked for."""

    def __init__(self, chunk: bytes, count: int) -> None:
        self.chunk = chunk
        self.count = count

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.chunk] * self.count)


async def test_a_body_over_the_limit_is_e2big(tmp_path: Path) -> None:
    async with running(tmp_path, body_limit=LIMIT) as site:
        pid, _ = await site.inside(8)
        target = f"/v1/tasks/{pid}/memory?addr={BASE:#x}"
        assert (await site.write(pid, BASE, bytes(LIMIT))).status == 204
        assert (await site.send("PUT", target, Counted(b"x" * PAGE, 3), BYTES)).status == 204
        for chunks, headers in (
            ([b"y" * (LIMIT + 1)], BYTES),
            (Counted(b"y" * PAGE, 4), BYTES),
            ([b"y"], BYTES | {"content-length": str(LIMIT + 1)}),
            ([b"y"], BYTES | {"content-length": "9" * 18}),
        ):
            answer = await site.send("PUT", target, chunks, headers)
            assert (answer.status, answer.errno) == (413, "E2BIG")
            assert answer.headers["connection"] == "close"
        assert (await site.read(pid, BASE, LIMIT)).body == b"x" * LIMIT
        assert (await site.read(pid, BASE, LIMIT + 1)).errno == "E2BIG"


async def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    async with running(tmp_path, body_limit=LIMIT) as site:
        pid = await site.task()
        # Were the rest read, the client's leaving would be seen, and nobody answered.
        answer = await site.send(
            "PUT", f"/v1/tasks/{pid}/memory?addr=0", [bytes(PAGE)] * 4, BYTES, hang_up=True
        )
        assert answer.errno == "E2BIG"


async def test_control_bodies_have_a_limit_of_their_own(site: Site) -> None:
    body = b'{"name": "' + b"x" * CONTROL_BODY_MAX + b'"}'
    for chunks, headers in (
        ([body], JSON | {"content-length": str(len(body))}),
        ([body], JSON),
        ([body[:1000]] * 2000, JSON),
        ([b"{}"], JSON | {"content-length": "9" * 40}),
        ([b"{}"], JSON | {"content-length": "-1"}),
    ):
        answer = await site.send("POST", "/v1/vas", chunks, headers)
        assert (answer.status, answer.errno) == (413, "E2BIG"), headers
        assert answer.headers["connection"] == "close"


async def test_a_body_that_is_not_what_it_says_changes_nothing(site: Site) -> None:
    pid, _ = await site.inside()
    target = f"/v1/tasks/{pid}/memory?addr={BASE:#x}"
    for length in ("3", "5", "x", "-4"):
        answer = await site.send("PUT", target, [b"four"], BYTES | {"content-length": length})
        assert answer.status == 400
    assert (
        await site.send("PUT", target, [b"fo", b"ur"], BYTES | {"content-length": "4"}, hang_up=True)
    ).status == 0
    assert (await site.send("POST", "/v1/vas", [b'{"name":"a","mode":0}'], JSON, hang_up=True)).status in (
        0,
        400,
    )
    assert (await site.read(pid, BASE, 4)).body == bytes(4)
    assert (await site.ok("GET", "/vas?name=a"))["items"] == []


async def test_heads_have_limits(site: Site) -> None:
    cases: tuple[tuple[str, dict[str, str], int], ...] = (
        ("/v1/vas?name=" + "x" * URL_BYTES_MAX, {}, 414),
        ("/v1/vas", {"x-much": "x" * HEADER_BYTES_MAX}, 431),
        ("/v1/vas", {f"x-{n}": "" for n in range(HEADERS_MAX + 1)}, 431),
    )
    for target, headers, status in cases:
        answer = await site.send("GET", target, headers=headers)
        assert (answer.status, answer.errno) == (status, None)
        assert answer.headers["connection"] == "close"


async def test_a_batch_has_a_limit_of_calls_and_of_bytes(tmp_path: Path) -> None:
    async with running(tmp_path, batch_limit=3, body_limit=LIMIT) as site:
        pid, _ = await site.inside(8)
        calls: list[tuple[str, dict[str, int]]] = [("active_vas", {})] * 3
        assert (await site.batch(pid, *calls)).status == 200
        assert (await site.batch(pid, *calls, ("active_vas", {}))).errno == "E2BIG"
        reads = [("read", {"addr": BASE, "length": 2 * PAGE})] * 2
        first, second = (await site.batch(pid, *reads)).json["results"]
        assert ("value" in first, second["errno"]) == (True, "E2BIG")
        answer = await site.batch(pid, *reads, query="?atomic=true")
        assert (answer.errno, answer.json["index"]) == ("E2BIG", 1)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.0", "", "1e1", "+1", " 1", "9" * 30])
async def test_limits_of_lists(site: Site, limit: str) -> None:
    for path in ("/vas", "/segments", "/tasks"):
        assert (await site.call("GET", f"{path}?limit={limit}")).errno == "EINVAL"
