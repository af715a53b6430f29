"""HEAD is what GET is, without the body (RFC 9110)."""

import pytest

from tests.app.support import Answer, Site

OWN = ("x-request-id",)
"""Headers that no two answers share."""


def head_of(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OWN}


async def both(site: Site, target: str, **headers: str) -> Answer:
    """The answer to HEAD, which has the head of GET's and no body."""
    got = await site.send("GET", target, headers=headers)
    head = await site.send("HEAD", target, headers=headers)
    assert head.body == b""
    assert (head.status, head_of(head)) == (got.status, head_of(got))
    if got.status not in (204, 304):
        assert int(head.headers["content-length"]) == len(got.body)
    return head


@pytest.mark.parametrize(
    "path",
    ["/v1/vas", "/v1/vas/{vid}", "/v1/vas/{vid}/roots", "/v1/segments", "/v1/tasks/{pid}", "/v1/proc/{pid}/maps",
     "/v1/account", "/healthz", "/readyz", "/version", "/openapi.json", "/docs"],
)  # fmt: skip
async def test_head_has_the_head_of_get(site: Site, path: str) -> None:
    pid, vid = await site.inside()
    assert (await both(site, path.format(pid=pid, vid=vid))).status == 200


async def test_head_of_the_journal_and_of_metrics(site: Site) -> None:
    for path in ("/v1/audit", "/metrics"):
        answer = await site.send("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


async def test_refusals_have_the_head_that_they_have_for_get(site: Site) -> None:
    for path, status in (
        ("/v1/vas/99", 400),
        ("/v1/tasks/99", 404),
        ("/v1/nowhere", 404),
        ("/v1/vas?limit=0", 400),
    ):
        assert (await both(site, path)).status == status


async def test_head_tells_whether_something_is_as_it_was(site: Site) -> None:
    vid = await site.space()
    etag = (await both(site, f"/v1/vas/{vid}")).headers["etag"]
    again = await both(site, f"/v1/vas/{vid}", **{"if-none-match": etag})
    assert (again.status, again.headers["etag"]) == (304, etag)


async def test_head_is_allowed_where_get_is(site: Site) -> None:
    pid, _ = await site.inside()
    assert (await site.send("PUT", "/v1/vas")).headers["allow"] == "GET, HEAD, POST"
    assert (await site.send("HEAD", f"/v1/tasks/{pid}/mmap")).status == 405
    assert (await site.send("GET", f"/v1/tasks/{pid}/mmap")).headers["allow"] == "POST"
    answer = await site.send("HEAD", f"/v1/tasks/{pid}/memory?addr=0&len=1")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, PUT")


async def test_head_that_did_is_not_in_the_journal_and_what_was_refused_is(site: Site) -> None:
    vid = await site.space()
    await site.send("HEAD", f"/v1/vas/{vid}")
    await site.send("HEAD", "/v1/vas/99")
    found = (await site.ok("GET", "/audit?limit=2"))["items"]
    assert [(entry["call"], entry["target"]) for entry in found] == [
        ("vas_getattr", "/v1/vas/99"),
        ("vas_create", f"/v1/vas/{vid}"),
    ]
