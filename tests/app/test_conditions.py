"""Tags of answers, If-Match and If-None-Match: who read something old changes nothing, who has it is not sent it again."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.etags import Conditions, etag_of
from engine.errors import EngineError
from storage.errors import StoreFull
from tests.app.support import BASE, BYTES, JSON, PAGE, Answer, Site, held, running, until

STALE = '"000000000000000000000000"'


async def ask(site: Site, method: str, path: str, body: Any = None, **conditions: str) -> Answer:
    """A call with conditions, `if_match=` and `if_none_match=`."""
    headers = {name.replace("_", "-"): value for name, value in conditions.items()}
    if body is None:
        return await site.send(method, f"/v1{path}", headers=headers)
    return await site.send(method, f"/v1{path}", [json.dumps(body).encode()], {**JSON, **headers})


async def tag(site: Site, path: str) -> str:
    """The strong tag of what a GET answers."""
    answer = await site.call("GET", path)
    assert answer.status == 200, answer
    etag = answer.headers["etag"]
    assert etag == etag_of(answer.body)
    return etag


async def furnished(site: Site) -> tuple[int, int, int]:
    """A space with a segment and a root that a task has attached: vid, sid, pid."""
    vid, sid, pid = await site.space(), await site.segment(), await site.task()
    await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"})
    await site.ok("PUT", f"/vas/{vid}/roots/first", {"addr": hex(BASE)})
    await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    return vid, sid, pid


async def test_everything_that_can_be_read_has_a_tag(site: Site) -> None:
    vid, sid, pid = await furnished(site)
    for path in (
        "/vas", "/vas?name=space", f"/vas/{vid}", f"/vas/{vid}/regions", f"/vas/{vid}/segments", f"/vas/{vid}/roots",
        f"/vas/{vid}/roots/first", f"/vas/{vid}/lineage", f"/vas/{vid}/usage", f"/vas/{vid}/lock", "/segments",
        f"/segments/{sid}", f"/tasks/{pid}", f"/tasks/{pid}/vas/{vid}", f"/tasks/{pid}/limits", f"/proc/{pid}/maps",
        f"/sys/vas/{vid}/name",
    ):  # fmt: skip
        etag = await tag(site, path)
        for known in (etag, f"W/{etag}", "*", f'"other", {etag}'):
            answer = await ask(site, "GET", path, if_none_match=known)
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag), path
            assert "content-length" not in answer.headers
        assert (await ask(site, "GET", path, if_none_match=STALE)).status == 200
        assert (await ask(site, "GET", path, if_match=etag)).status == 200
        assert (await ask(site, "GET", path, if_match="*")).status == 200
        assert (await ask(site, "GET", path, if_match=STALE)).errno == "ESTALE"
        assert (await ask(site, "GET", path, if_match=f"W/{etag}")).errno == "ESTALE", (
            "weak tags are not strong"
        )


async def test_refusals_have_no_tag(site: Site) -> None:
    answer = await ask(site, "GET", "/vas/7", if_match="*", if_none_match="*")
    assert (answer.errno, answer.headers.get("etag")) == ("EINVAL", None)
    assert "etag" not in (await site.call("DELETE", f"/vas/{await site.space()}")).headers


async def test_a_tag_changes_with_what_it_is_of(site: Site) -> None:
    vid, sid, _ = await furnished(site)
    seen = set()
    for path, change in (
        (f"/vas/{vid}", ("PATCH", f"/vas/{vid}", {"mode": 0o640})),
        (f"/vas/{vid}/roots/first", ("PUT", f"/vas/{vid}/roots/first", {"addr": hex(BASE + 8)})),
        (f"/vas/{vid}/roots", ("PUT", f"/vas/{vid}/roots/second", {"addr": hex(BASE)})),
        (f"/segments/{sid}", ("PATCH", f"/segments/{sid}", {"name": "other"})),
        ("/vas", ("POST", "/vas", {"name": "another", "mode": 0})),
    ):
        before = await tag(site, path)
        assert before == await tag(site, path)
        await site.ok(*change)
        after = await tag(site, path)
        assert before != after
        assert (await ask(site, "GET", path, if_none_match=before)).status == 200
        seen |= {before, after}
    assert len(seen) == 10


async def test_who_made_or_changed_it_is_told_its_tag(site: Site) -> None:
    made = await site.call("POST", "/vas", {"name": "lab", "mode": 0o600})
    path = f"/vas/{made.json['id']}"
    assert made.headers["etag"] == await tag(site, path)
    changed = await site.call("PATCH", path, {"mode": 0o640})
    assert changed.headers["etag"] == await tag(site, path)
    rooted = await site.call("PUT", f"{path}/roots/r", {"addr": hex(BASE)})
    assert rooted.headers["etag"] == await tag(site, f"{path}/roots/r")
    pid = await site.task()
    attached = await site.call("PUT", f"/tasks/{pid}{path}", {"type": "ro"})
    assert attached.headers["etag"] == await tag(site, f"/tasks/{pid}{path}")
    switched = await site.call("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": made.json["id"]})
    assert switched.headers["etag"] == await tag(site, f"/tasks/{pid}/threads/{pid}/active")
    limited = await site.call("PUT", f"/tasks/{pid}/limits", {"stack": 1 << 20})
    assert limited.headers["etag"] == await tag(site, f"/tasks/{pid}/limits")


CHANGES: Mapping[str, tuple[str, str, str, Any]] = {
    "setattr": ("/vas/{vid}", "PATCH", "/vas/{vid}", {"mode": 0o644}),
    "seg_setattr": ("/segments/{sid}", "PATCH", "/segments/{sid}", {"mode": 0o644}),
    "set_root": ("/vas/{vid}/roots/first", "PUT", "/vas/{vid}/roots/first", {"addr": hex(BASE + 16)}),
    "delete_root": ("/vas/{vid}/roots/first", "DELETE", "/vas/{vid}/roots/first", None),
    "detach": ("/tasks/{pid}/vas/{vid}", "DELETE", "/tasks/{pid}/vas/{vid}", None),
    "attach": ("/tasks/{pid}/vas/{vid}", "PUT", "/tasks/{pid}/vas/{vid}", {"type": "rw"}),
    "limits": ("/tasks/{pid}/limits", "PUT", "/tasks/{pid}/limits", {"stack": 1 << 20}),
    "active": ("/tasks/{pid}/threads/{pid}/active", "PUT", "/tasks/{pid}/threads/{pid}/active", {"vid": 0}),
    "exit": ("/tasks/{pid}", "DELETE", "/tasks/{pid}", None),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_what_is_no_longer_so_is_estale(site: Site, change: str) -> None:
    vid, sid, pid = await furnished(site)
    where = {"vid": vid, "sid": sid, "pid": pid}
    look, method, path, body = CHANGES[change]
    look, path = look.format(**where), path.format(**where)
    before = await tag(site, look)
    stale = await ask(site, method, path, body, if_match=STALE)
    assert (stale.status, stale.errno, stale.json["etag"]) == (412, "ESTALE", before)
    assert (await ask(site, method, path, body, if_match=f"W/{before}")).errno == "ESTALE"
    assert (await ask(site, method, path, body, if_none_match=before)).errno == "ESTALE"
    assert (await ask(site, method, path, body, if_none_match="*")).errno == "ESTALE"
    assert await tag(site, look) == before, "nothing was changed"
    done = await ask(site, method, path, body, if_match=f"{STALE}, {before}", if_none_match=STALE)
    assert done.status in (200, 204), done


async def test_deleting_what_was_changed_meanwhile_is_estale(site: Site) -> None:
    vid, sid = await site.space(), await site.segment()
    for path in (f"/vas/{vid}", f"/segments/{sid}"):
        before = await tag(site, path)
        await site.ok("PATCH", path, {"mode": 0o640})
        assert (await ask(site, "DELETE", path, if_match=before)).errno == "ESTALE"
        assert (await ask(site, "DELETE", path, if_match=await tag(site, path))).status == 204
        assert (await ask(site, "DELETE", path, if_match=before)).errno == "EINVAL", (
            "that it is unknown goes first"
        )


async def test_create_only(site: Site) -> None:
    vid, sid = await site.space(), await site.segment()
    root = f"/vas/{vid}/roots/only once"
    first = await ask(site, "PUT", root.replace(" ", "%20"), {"addr": hex(BASE)}, if_none_match="*")
    assert first.status == 200
    again = await ask(site, "PUT", root.replace(" ", "%20"), {"addr": hex(BASE + 8)}, if_none_match="*")
    assert again.errno == "ESTALE"
    assert (await site.ok("GET", root.replace(" ", "%20")))["addr"] == hex(BASE)
    absent = await ask(site, "PUT", f"/vas/{vid}/roots/new", {"addr": hex(BASE)}, if_match="*")
    assert absent.errno == "ESTALE", "there is nothing to replace"
    assert (await site.call("GET", f"/vas/{vid}/roots/new")).errno == "ENOENT"
    path = f"/vas/{vid}/segments/{sid}"
    assert (await ask(site, "PUT", path, {"type": "ro"}, if_none_match="*")).status == 200
    assert (await ask(site, "PUT", path, {"type": "ro"}, if_none_match="*")).errno == "ESTALE"
    assert (await ask(site, "DELETE", path, if_match="*")).status == 204
    assert (await ask(site, "DELETE", path, if_match="*")).errno == "EINVAL", "it is not attached"


async def test_of_two_who_read_the_same_one_changes_it(site: Site) -> None:
    vid = await site.space()
    before = await tag(site, f"/vas/{vid}")
    answers = await asyncio.gather(
        *(ask(site, "PATCH", f"/vas/{vid}", {"name": f"name {n}"}, if_match=before) for n in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 7


async def test_who_may_not_change_it_is_told_so_first(site: Site) -> None:
    """Whether a tag is right tells of a state; the refusal that is due anyway does not."""
    vid = await site.space(mode=0o600)
    token = site.account(7)
    for etag in (STALE, await tag(site, f"/vas/{vid}")):
        headers = {**JSON, "if-match": etag}
        answer = await site.send("PATCH", f"/v1/vas/{vid}", [b'{"mode": 1}'], headers, token=token)
        assert answer.errno == "EPERM"
        answer = await site.send("PUT", f"/v1/vas/{vid}/roots/r", [b'{"addr": 65536}'], headers, token=token)
        assert answer.errno == "EACCES"


async def test_where_nothing_can_be_named_if_match_never_holds(site: Site) -> None:
    pid, _ = await site.inside()
    for path, body in (
        ("/vas", {"name": "x", "mode": 0}),
        (f"/tasks/{pid}/munmap", {"addr": BASE, "length": PAGE}),
    ):
        assert (await ask(site, "POST", path, body, if_match="*")).errno == "ESTALE"
        assert (await ask(site, "POST", path, body, if_none_match="*")).status in (200, 201)


async def test_a_condition_is_judged_by_what_will_be_durable(tmp_path: Path) -> None:
    """A refusal that stands on a change which is taken back is judged again."""
    async with held(tmp_path) as (site, store):
        vid = await site.space()
        before = await tag(site, f"/vas/{vid}")
        store.hold()
        store.failure = StoreFull("the disk is full")
        first = asyncio.create_task(ask(site, "PATCH", f"/vas/{vid}", {"mode": 0o640}, if_match=before))
        await until(lambda: site.service.executor.unsettled == 1)
        second = asyncio.create_task(ask(site, "PATCH", f"/vas/{vid}", {"mode": 0o644}, if_match=before))
        for _ in range(20):
            await asyncio.sleep(0)
        store.release()
        assert (await first).errno == "ENOSPC"
        store.failure = None
        assert (await second).status in (200, 507)


async def test_tags_outlive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        vid = await site.space()
        before = await tag(site, f"/vas/{vid}")
    async with running(tmp_path) as site:
        assert (await ask(site, "GET", f"/vas/{vid}", if_none_match=before)).status == 304
        assert (await ask(site, "PATCH", f"/vas/{vid}", {"mode": 0}, if_match=before)).status == 200


def judged(conditions: Conditions | None, etag: str | None) -> bool:
    """Whether a change may go on."""
    try:
        if conditions is not None:
            conditions.judge(etag)
    except EngineError as refused:
        assert refused.errno == "ESTALE"
        return False
    return True


TAGS = st.sampled_from([etag_of(b"a"), etag_of(b"b"), etag_of(b"c")])
LISTED = st.lists(st.tuples(st.booleans(), TAGS), min_size=1, max_size=4)


@given(LISTED, LISTED, st.none() | TAGS)
def test_conditions_are_those_of_rfc_9110(
    match: list[tuple[bool, str]], none_match: list[tuple[bool, str]], there: str | None
) -> None:
    def lines(name: bytes, tags: list[tuple[bool, str]]) -> list[tuple[bytes, bytes]]:
        return [(name, f"{'W/' if weak else ''}{tag}".encode()) for weak, tag in tags]

    strong = {tag for weak, tag in match if not weak}
    either = {tag for _, tag in none_match}
    assert judged(Conditions.of(lines(b"if-match", match)), there) is (there in strong)
    assert judged(Conditions.of(lines(b"if-none-match", none_match)), there) is (there not in either)
    both = Conditions.of([*lines(b"if-match", match), *lines(b"if-none-match", none_match)])
    assert judged(both, there) is (there in strong and there not in either)
    assert judged(Conditions.of([(b"if-match", b"*")]), there) is (there is not None)
    assert judged(Conditions.of([(b"if-none-match", b" * ")]), there) is (there is None)
    assert Conditions.of([(b"host", b"x")]) is None


async def test_bytes_have_conditions_of_their_own(site: Site) -> None:
    sid = await site.segment()
    path = f"/v1/segments/{sid}/data"
    before = (await site.send("HEAD", path)).headers["etag"]
    part = {**BYTES, "content-range": "bytes 0-1/*"}
    assert (await site.send("PATCH", path, [b"ab"], {**part, "if-none-match": before})).errno == "ESTALE"
    assert (await site.send("PATCH", path, [b"ab"], {**part, "if-none-match": "*"})).errno == "ESTALE"
    assert (await site.send("PATCH", path, [b"ab"], {**part, "if-match": STALE})).errno == "ESTALE"
    done = await site.send("PATCH", path, [b"ab"], {**part, "if-match": f"{STALE}, {before}"})
    assert (done.status, done.headers["etag"] != before) == (204, True)
    pid, _ = await site.inside()
    stored = await site.send("PUT", f"/v1/tasks/{pid}/memory?addr={BASE}", [b"x"], {**BYTES, "if-match": "*"})
    assert stored.errno == "ESTALE", "memory has no tag"


async def test_a_replay_tells_no_more_than_was_told(site: Site) -> None:
    """Rights that were taken away since do not matter for it: it is what the same account was answered."""
    vid = await site.space(mode=0o644)
    token = site.account(7)
    headers = {**JSON, "idempotency-key": "k"}
    first = await site.send("POST", f"/v1/vas/{vid}/clone", [b'{"name": "c"}'], headers, token=token)
    await site.ok("PATCH", f"/vas/{vid}", {"mode": 0o600})
    again = await site.send("POST", f"/v1/vas/{vid}/clone", [b'{"name": "c"}'], headers, token=token)
    assert (again.status, again.body) == (first.status, first.body) == (201, first.body)
    fresh = await site.send("POST", f"/v1/vas/{vid}/clone", [b'{"name": "d"}'], JSON, token=token)
    assert fresh.errno == "EACCES"
    other = site.account(8)
    theirs = await site.send("POST", f"/v1/vas/{vid}/clone", [b'{"name": "c"}'], headers, token=other)
    assert theirs.errno == "EACCES", "another account's key"
