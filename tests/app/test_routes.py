"""Every route once, with what it answers when all is well; the table covers the whole OpenAPI document."""

import re
from types import SimpleNamespace
from typing import Any

from app.main import control_app
from tests.app.metered import metric
from tests.app.support import BASE, BYTES, PAGE, Site

Row = tuple[str, str, Any, int]
"""Method, path below the root, JSON body or bytes, status."""

CLONING: tuple[Row, ...] = (
    ("POST", "clone", {"name": "a clone"}, 201),
    ("POST", "snapshot", {"name": "a snapshot"}, 201),
    ("GET", "lineage", None, 200),
    ("GET", "usage", None, 200),
    ("GET", "diff?other={other}", None, 200),
)
INACTIVE: tuple[tuple[str, dict[str, int]], ...] = (
    ("mmap", {"length": 2 * PAGE, "prot": 3, "flags": 0x32}),
    ("mprotect", {"length": PAGE, "prot": 1}),
    ("munmap", {"length": PAGE}),
)
ROWS: tuple[Row, ...] = (
    ("GET", "/v1/account", None, 200),
    ("GET", "/v1/audit", None, 200),
    ("GET", "/v1/vas", None, 200),
    ("GET", "/v1/vas/{vid}", None, 200),
    ("PATCH", "/v1/vas/{vid}", {"mode": 0o640}, 200),
    ("GET", "/v1/vas/{vid}/regions", None, 200),
    ("POST", "/v1/segments", {"name": "more", "start": hex(BASE), "end": hex(BASE + PAGE), "mode": 0}, 201),
    ("GET", "/v1/segments", None, 200),
    ("GET", "/v1/segments/{sid}", None, 200),
    ("PATCH", "/v1/segments/{sid}", {"mode": 0o640}, 200),
    ("PUT", "/v1/vas/{vid2}/segments/{sid}", {"type": "rw"}, 200),
    ("GET", "/v1/vas/{vid2}/segments", None, 200),
    ("GET", "/v1/sys/vas_segs/{sid}/region", None, 200),
    ("GET", "/v1/segments/{sid}/data", None, 200),
    ("PATCH", "/v1/segments/{sid}/data", b"four", 204),
    ("DELETE", "/v1/vas/{vid2}/segments/{sid}", None, 204),
    ("DELETE", "/v1/segments/{sid}", None, 204),
    ("POST", "/v1/vas", {"name": "third", "mode": 0o600, "sharing": "shared"}, 201),
    ("GET", "/v1/tasks", None, 200),
    ("GET", "/v1/tasks/{pid}", None, 200),
    ("POST", "/v1/tasks/{pid}/heartbeat", None, 200),
    ("PUT", "/v1/tasks/{pid}/vas/{vid}", {"type": "rw", "lazy": False}, 200),
    ("GET", "/v1/tasks/{pid}/vas/{vid}", None, 200),
    ("PUT", "/v1/tasks/{pid}/threads/{pid}/active", {"vid": "vid", "timeout_s": 0}, 200),
    ("GET", "/v1/tasks/{pid}/threads/{pid}/active", None, 200),
    ("POST", "/v1/tasks/{pid}/mmap", {"addr": hex(BASE), "length": 2 * PAGE, "prot": 3, "flags": 0x32}, 200),
    ("PUT", "/v1/tasks/{pid}/memory?addr=0x100000000000&len=5", b"hello", 204),
    ("GET", "/v1/tasks/{pid}/memory?addr=17592186044416&len=5", None, 200),
    ("POST", "/v1/tasks/{pid}/msync", {}, 200),
    ("POST", "/v1/tasks/{pid}/mprotect", {"addr": BASE, "length": PAGE, "prot": 1}, 200),
    ("POST", "/v1/tasks/{pid}/munmap", {"addr": str(BASE), "length": PAGE}, 200),
    ("POST", "/v1/tasks/{pid}/brk", None, 200),
    (
        "POST",
        "/v1/tasks/{pid}/mremap",
        {"old_addr": BASE + PAGE, "old_size": PAGE, "new_size": 2 * PAGE},
        200,
    ),
    ("POST", "/v1/tasks/{pid}/madvise", {"addr": hex(BASE + PAGE), "length": PAGE, "advice": 3}, 200),
    ("POST", "/v1/tasks/{pid}/mincore", {"addr": BASE + PAGE, "length": PAGE}, 200),
    ("POST", "/v1/tasks/{pid}/mlock", {"addr": BASE + PAGE, "length": PAGE, "flags": 1}, 200),
    ("POST", "/v1/tasks/{pid}/munlock", {"addr": BASE + PAGE, "length": PAGE}, 200),
    ("GET", "/v1/tasks/{pid}/limits", None, 200),
    ("PUT", "/v1/tasks/{pid}/limits", {"data": None, "stack": 1 << 20}, 200),
    ("POST", "/v1/tasks/{pid}/prlimit", {"resource": "stack", "value": 2**64 - 1}, 200),
    ("POST", "/v1/tasks/{pid}/batch", {"calls": [{"call": "active_vas"}]}, 200),
    ("GET", "/v1/tasks/{pid}/core", None, 200),
    ("GET", "/v1/vas/{vid}/core", None, 200),
    ("GET", "/v1/proc/{pid}/maps", None, 200),
    ("GET", "/v1/proc/{pid}/smaps", None, 200),
    ("GET", "/v1/proc/{pid}/status", None, 200),
    ("GET", "/v1/proc/{pid}/vas", None, 200),
    ("GET", "/v1/proc/{pid}/vas/{vid}/status", None, 200),
    ("GET", "/v1/proc/{pid}/vas/{vid}/maps", None, 200),
    ("GET", "/v1/sys/vas/{vid}/name", None, 200),
    ("PUT", "/v1/tasks/{pid}/threads/{pid}/active", {"vid": 0}, 200),
    *(("POST", f"/v1/vas/{{vid2}}/{call}", {**body, "addr": hex(BASE)}, 200) for call, body in INACTIVE),
    ("PUT", "/v1/vas/{vid}/roots/first", {"addr": hex(BASE)}, 200),
    ("GET", "/v1/vas/{vid}/roots", None, 200),
    ("GET", "/v1/vas/{vid}/roots/first", None, 200),
    ("DELETE", "/v1/vas/{vid}/roots/first", None, 204),
    ("PUT", "/v1/tasks/{heap.pid}/roots/first", {"addr": str(BASE)}, 200),
    ("GET", "/v1/tasks/{heap.pid}/roots/first", None, 200),
    ("POST", "/v1/tasks/{heap.pid}/heap", {"size": 24}, 200),
    ("GET", "/v1/segments/{heap.sid}/heap", None, 200),
    ("DELETE", "/v1/tasks/{heap.pid}/heap/{heap.addr}", None, 204),
    *(
        (method, f"/v1/{owner}/{call.format(other=other)}", body, status)
        for owner, other in (("vas/{vid}", "{clone.vid}"), ("segments/{heap.sid}", "{clone.sid}"))
        for method, call, body, status in CLONING
    ),
    ("GET", "/v1/vas/{vid}/lock", None, 200),
    ("POST", "/v1/vas/{clone.vid}/reset", {}, 200),
    ("POST", "/v1/segments/{clone.sid}/reset", None, 200),
    ("POST", "/v1/tasks/{pid}/vas_fork", {"name": "image"}, 201),
    ("POST", "/v1/tasks/{slots.pid}/vas_exec", {"vid": "image"}, 200),
    ("POST", "/v1/tasks/{slots.pid}/new_as", None, 200),
    ("POST", "/v1/tasks/{slots.pid}/switch_as", {"n": 1}, 200),
    ("POST", "/v1/tasks/{pid}/mmview_unshare", {"addr": "0x401000", "len": PAGE}, 200),
    ("POST", "/v1/tasks/{pid}/mmview_create", None, 200),
    ("POST", "/v1/tasks/{pid}/mmview_migrate", {"id": 1}, 200),
    ("POST", "/v1/tasks/{pid}/mmview", {"op": 2}, 200),
    ("POST", "/v1/tasks/{pid}/mmview_delete", {"id": 1}, 200),
    ("DELETE", "/v1/tasks/{pid}/vas/{vid}", None, 204),
    ("DELETE", "/v1/vas/{vid}", None, 204),
    ("POST", "/v1/tasks", {"name": "named", "lease_s": 5}, 201),
    ("POST", "/v1/tasks/{pid}/threads", None, 201),
    ("DELETE", "/v1/tasks/{pid}/threads/{tid}", None, 204),
    ("POST", "/v1/tasks/{pid}/fork", {}, 201),
    ("POST", "/v1/tasks/{pid}/exec", {}, 200),
    ("DELETE", "/v1/tasks/{pid}", None, 204),
    ("GET", "/healthz", None, 200),
    ("GET", "/readyz", None, 200),
    ("GET", "/metrics", None, 200),
    ("GET", "/version", None, 200),
)


ENDLESS = {("GET", "/v1/events")}
"""Has no complete answer; test_events.py is about it."""


def template(path: str) -> str:
    """A row's path as OpenAPI has it."""
    plain = path.partition("?")[0].replace("{vid2}", "{vid}").replace("threads/{pid}", "threads/{tid}")
    plain = re.sub(r"\{\w+\.(\w+)\}", r"{\1}", plain).replace("roots/first", "roots/{name}")
    return re.sub(r"(sys/\w+/\{\w+\})/\w+", r"\1/{file}", plain)


def test_the_table_has_every_operation() -> None:
    described = control_app(None).openapi()["paths"]
    operations = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert operations - ENDLESS == {(method, template(path)) for method, path, _, _ in ROWS}


async def others(site: Site) -> dict[str, Any]:
    """A heap and who is in it, clones to be reset, a task for slots, and an image for it."""
    heap, clone, slots = SimpleNamespace(), SimpleNamespace(), SimpleNamespace(pid=await site.task())
    heap.pid, vid = await site.inside(1, "with a heap")
    heap.sid = await site.segment("heap", 4, BASE + 0x1000_0000)
    await site.ok("PUT", f"/vas/{vid}/segments/{heap.sid}", {"type": "rw"})
    heap.addr = (await site.ok("POST", f"/tasks/{heap.pid}/heap", {"size": 100}))["addr"]
    clone.vid = (await site.ok("POST", f"/vas/{vid}/clone", {"name": "to be reset"}))["id"]
    clone.sid = (await site.ok("POST", f"/segments/{heap.sid}/clone", {"name": "to be reset"}))["id"]
    image = (await site.ok("POST", f"/tasks/{slots.pid}/vas_fork"))["id"]
    return {"heap": heap, "clone": clone, "slots": slots, "image": image}


async def test_every_route_answers(site: Site) -> None:
    names: dict[str, Any] = {"vid": await site.space(), "vid2": await site.space("second")}
    names |= {"sid": await site.segment(), "pid": await site.task()}
    names["tid"] = (await site.ok("POST", f"/tasks/{names['pid']}/threads"))["tid"]
    names |= await others(site)
    for method, path, body, status in ROWS:
        target = path.format_map(names)
        if isinstance(body, bytes):
            headers = BYTES | {"content-range": f"bytes 0-{len(body) - 1}/*"}
            answer = await site.send(method, target, [body], headers)
        elif target.startswith("/v1"):
            filled = {**body, "vid": names[body["vid"]]} if body and body.get("vid") in names else body
            answer = await site.call(method, target.removeprefix("/v1"), filled)
        else:
            answer = await site.send(method, target, token=None)
        assert answer.status == status, (method, target, answer)


async def test_shapes(site: Site) -> None:
    vid, sid = await site.space("lab", 0o7640), await site.segment("seg")
    space = await site.ok("GET", f"/vas/{vid}")
    assert space == {
        "id": vid, "name": "lab", "mode": 0o640, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0,
        "segments": [], "origin": 0, "snapshot": False, "lifetime": "persistent", "image": False,
    }  # fmt: skip
    segment = await site.ok("GET", f"/segments/{sid}")
    assert segment == {
        "id": sid, "name": "seg", "start": "0x100000000000", "end": "0x100000004000", "size": 4 * PAGE,
        "mode": 0o600, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0, "origin": 0, "snapshot": False,
        "lifetime": "persistent",
    }  # fmt: skip
    assert await site.ok("PUT", f"/vas/{vid}/segments/{sid}", {"type": "ro"}) == {"sid": sid, "type": "ro"}
    assert await site.ok("GET", f"/vas/{vid}/segments") == {
        "items": [{"sid": sid, "type": "ro"}],
        "next": None,
    }
    (region,) = (await site.ok("GET", f"/vas/{vid}/regions"))["items"]
    assert (region["start"], region["end"], region["sid"]) == ("0x100000000000", "0x100000004000", sid)
    pid = await site.task(name="worker", lease_s=2.5)
    held = await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
    assert held == {"vid": vid, "type": "rw", "lazy": True}
    task = await site.ok("GET", f"/tasks/{pid}")
    assert task["attachments"] == [held]
    assert task["threads"] == [{"tid": pid, "active": 0}]
    assert (task["pid"], task["tid"], task["uid"], task["gids"]) == (pid, pid, 0, [0])
    assert (task["name"], task["lease_s"]) == ("worker", 2.5)


async def test_a_name_filters_lists(site: Site) -> None:
    vid = await site.space("grün / blau")
    await site.space("other")
    found = await site.ok("GET", "/vas?name=gr%C3%BCn%20/%20blau")
    assert [item["id"] for item in found["items"]] == [vid]
    assert await site.ok("GET", "/vas?name=nobody") == {"items": [], "next": None}
    assert (await site.call("GET", "/vas?name=")).errno == "EINVAL"


async def test_version_names_this_start(site: Site) -> None:
    version = (await site.send("GET", "/version", token=None)).json
    assert version["instance"] == site.service.instance
    assert version["page_size"] == PAGE


async def test_metrics_count(site: Site) -> None:
    before = await metric(site, "commits_total")
    await site.space()
    assert await metric(site, "commits_total") == before + 1


async def test_a_request_id_is_echoed_or_made(site: Site) -> None:
    answer = await site.send("GET", "/v1/vas", headers={"x-request-id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
    for bad in ("", "x" * 129, "a\x01b", "\xe9"):
        answer = await site.send("GET", "/v1/vas", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"].startswith(site.service.instance)


async def test_the_pages_of_the_documentation_are_ours(site: Site) -> None:
    page = await site.send("GET", "/docs", token=None)
    assert b"//" not in page.body
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.body.decode()):
        asset = await site.send("GET", f"/{name}", token=None)
        assert (asset.status, bool(asset.body)) == (200, True), name
    assert (await site.send("GET", "/docs/none.js", token=None)).status == 404
    assert (await site.send("GET", "/docs/..%2fmain.py", token=None)).status == 404
    assert (await site.send("GET", "/favicon.ico", token=None)).status == 200
    described = await site.send("GET", "/openapi.json", token=None)
    assert described.json["paths"]
