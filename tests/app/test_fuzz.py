"""No JSON body whatever makes the service fail: an answer is a success or a problem document, never a 500."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.calls.table import CALLS
from tests.app.support import BASE, PAGE, running

KNOWN = st.sampled_from(
    [
        0,
        1,
        2,
        3,
        -1,
        PAGE,
        BASE,
        BASE + 1,
        hex(BASE),
        0x22,
        0x32,
        "ro",
        "rw",
        "a",
        "exclusive",
        "aGk=",
        2**64,
        "stack",
        "locked",
        "transient",
        4,
        5,
        6,
    ]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), KNOWN)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = ("name", "mode", "sharing", "start", "end", "type", "lazy", "vid", "sid", "pid", "tid", "uid", "gid", "addr",
           "length", "prot", "flags", "advice", "old_addr", "old_size", "new_size", "new_addr", "resource", "value", "stack", "lease_s", "timeout_s", "timeout", "data", "durability", "calls", "extra",
           "lifetime", "op", "id", "len", "n", "size")  # fmt: skip
BODIES = st.one_of(VALUES, st.dictionaries(st.sampled_from(MEMBERS), st.one_of(KNOWN, VALUES), max_size=7))
ROUTES = st.sampled_from([
    ("POST", "/vas"), ("PATCH", "/vas/1"), ("POST", "/segments"), ("PATCH", "/segments/1"), ("PUT", "/vas/1/segments/1"),
    ("POST", "/tasks"), ("POST", "/tasks/{pid}/fork"), ("POST", "/tasks/{pid}/threads"), ("PUT", "/tasks/{pid}/vas/1"),
    ("PUT", "/tasks/{pid}/threads/{pid}/active"), ("POST", "/tasks/{pid}/mmap"), ("POST", "/tasks/{pid}/munmap"),
    ("POST", "/tasks/{pid}/mprotect"), ("POST", "/tasks/{pid}/brk"), ("POST", "/tasks/{pid}/msync"),
    ("POST", "/tasks/{pid}/mremap"), ("POST", "/tasks/{pid}/madvise"), ("POST", "/tasks/{pid}/mincore"),
    ("POST", "/tasks/{pid}/mlock"), ("POST", "/tasks/{pid}/munlock"), ("PUT", "/tasks/{pid}/limits"),
    ("POST", "/vas/1/clone"), ("POST", "/vas/2/snapshot"), ("POST", "/vas/2/reset"), ("POST", "/segments/1/clone"),
    ("POST", "/segments/1/snapshot"), ("POST", "/segments/2/reset"), ("POST", "/vas/1/mmap"), ("POST", "/vas/1/munmap"),
    ("POST", "/vas/1/mprotect"), ("PUT", "/vas/1/roots/a"), ("PUT", "/tasks/{pid}/roots/a"), ("POST", "/tasks/{pid}/heap"),
    ("POST", "/tasks/{pid}/vas_fork"), ("POST", "/tasks/{pid}/vas_exec"), ("POST", "/tasks/{pid}/mmview"),
    ("POST", "/tasks/{pid}/mmview_create"), ("POST", "/tasks/{pid}/mmview_migrate"), ("POST", "/tasks/{pid}/mmview_delete"),
    ("POST", "/tasks/{pid}/mmview_unshare"), ("POST", "/tasks/{pid}/new_as"), ("POST", "/tasks/{pid}/switch_as"),
    ("POST", "/tasks/{pid}/prlimit"), ("POST", "/tasks/{pid}/exec"), ("POST", "/tasks/{pid}/batch"), ("POST", "/tasks/{pid}/batch?atomic=1"),
])  # fmt: skip
BATCHES = st.lists(
    st.fixed_dictionaries(
        {"call": st.sampled_from(sorted({"read", "write", *CALLS} - {"exit"}))}, optional={"args": BODIES}
    ),
    max_size=5,
).map(lambda calls: {"calls": calls})


@pytest.mark.timeout(600)
def test_no_body_makes_the_service_fail(tmp_path: Path) -> None:

    async def fuzz() -> None:
        async with running(tmp_path / "data") as site:
            loop = asyncio.get_running_loop()
            pid, _ = await site.inside()
            await site.segment("segment", 4, BASE + 0x1000_0000)

            async def one(route: tuple[str, str], body: Any) -> None:
                nonlocal pid
                method, path = route
                answer = await site.call(method, path.format(pid=pid), body)
                assert answer.status < 500 or answer.errno in ("ENOMEM", "ENOSPC"), (route, body, answer)
                if answer.status >= 400:
                    assert answer.status != 422 or answer.errno == "EFAULT", (route, body, answer)
                elif "batch" in path:
                    for result in answer.json["results"]:
                        assert result.get("errno") != "EIO", (body, result)

            @settings(max_examples=1500, suppress_health_check=list(HealthCheck))
            @given(route=ROUTES, body=st.one_of(BODIES, BATCHES))
            def drive(route: tuple[str, str], body: Any) -> None:
                asyncio.run_coroutine_threadsafe(one(route, body), loop).result()

            await asyncio.to_thread(drive)

    asyncio.run(fuzz())
