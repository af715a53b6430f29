"""Any bytes as frames of a batch, as an octet-stream and around it: answered or refused, never a 500, never half done.

`--seed` replays a run.
"""

import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls.table import CALLS
from everspace.wire import frames
from tests.app.support import BASE, BYTES, PAGE, Answer, Site, running
from tests.app.test_fuzz import BODIES

FRAMES = {"content-type": frames.MEDIA_FRAMES}
EXAMPLES = 800
PAGES = 4

WORDS = st.sampled_from(
    [0, 1, 7, 8, PAGE - 1, PAGE, PAGES * PAGE, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
) | st.integers(0, 2**64 - 1)
ADDRESSES = st.integers(-16, PAGES * PAGE + 16).map(lambda offset: BASE + offset) | WORDS
TIDS = st.sampled_from([0, 0, 0, 1, 2**32 - 1])
LOADS = st.builds(
    lambda tid, addr, length: struct.pack("<IBIQQ", 20, frames.OF_LOAD, tid, addr, length),
    TIDS,
    ADDRESSES,
    WORDS,
)
STORES = st.builds(
    lambda tid, addr, flags, data: struct.pack("<IBIQB", 13 + len(data), frames.OF_STORE, tid, addr, flags) + data,
    TIDS, ADDRESSES, st.sampled_from([0, 0, 1, 2, 255]), st.binary(max_size=40),
)  # fmt: skip
CALLED = st.builds(
    lambda name, args: frames.framed(frames.CALL, json.dumps({"call": name, "args": args}).encode()),
    st.sampled_from(sorted({"read", "write", *CALLS} - {"exit", "exit_thread", "exec", "vas_exec"})),
    BODIES,
)
ANY = st.builds(frames.framed, st.integers(0, 255), st.binary(max_size=60))
DOCUMENTS = st.builds(
    lambda asked, more: frames.document(max(0, len(asked) + more), asked),
    st.lists(LOADS | STORES | CALLED | ANY, max_size=6),
    st.sampled_from([0] * 12 + [1, -1, 2**31]),
)


@st.composite
def bent(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> bytes:
    """A document, perhaps with some bytes changed, taken away or put in."""
    found = bytearray(draw(documents))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 5]))):
        at = draw(st.integers(0, len(found)))
        found[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(found)


RANGES = st.sampled_from(["bytes 0-3/*", "bytes 4090-4100/*", "bytes 0-0/16384", "bytes 16383-16383/*", "bytes */*",
    "bytes 3-0/*", "bytes 16384-16384/*", "bytes -1-2/*", "bytes 0-3/2", "octets 0-3/*", "bytes=0-3"]) | st.text(
    st.characters(min_codepoint=32, max_codepoint=126), max_size=20)  # fmt: skip
WANTED = st.sampled_from(["bytes=0-3", "bytes=-1", "bytes=4-", "bytes=0-0,2-2,9-", "bytes=9-3", "bytes=16384-", "bytes=-0",
    "bytes=,", "bytes=0-99999999999999999999"]) | RANGES  # fmt: skip
QUERIES = st.builds(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs),
    st.lists(
        st.tuples(
            st.sampled_from(["addr", "len", "tid", "durability", "atomic", "x"]),
            ADDRESSES.map(hex)
            | WORDS
            | st.sampled_from(["commit", "relaxed", "", "-1", "0x", "%ff", "1e3", "true", "⁴"]),
        ),
        max_size=4,
    ),
)
Octets = tuple[str, str, dict[str, str], bytes]
OCTETS: st.SearchStrategy[Octets] = st.one_of(
    st.tuples(
        st.just("PUT"),
        st.builds(lambda addr, more: f"/tasks/{{pid}}/memory?addr={addr:#x}&{more}", ADDRESSES, QUERIES),
        st.just(BYTES),
        st.binary(max_size=2 * PAGE),
    ),
    st.tuples(st.just("GET"), QUERIES.map(lambda query: f"/tasks/{{pid}}/memory?{query}"), st.just({}), st.just(b"")),
    st.tuples(
        st.just("PATCH"),
        st.sampled_from(["/segments/1/data", "/segments/1/data?durability=relaxed", "/segments/9/data"]),
        RANGES.map(lambda text: {**BYTES, "content-range": text}),
        st.binary(max_size=32),
    ),
    st.builds(
        lambda at, data: (
            "PATCH", "/segments/1/data", {**BYTES, "content-range": f"bytes {at}-{at + len(data) - 1}/*"}, data
        ),
        st.integers(0, PAGES * PAGE + 8),
        st.binary(max_size=32),
    ),
    st.tuples(st.just("GET"), st.just("/segments/1/data"), WANTED.map(lambda text: {"range": text}), st.just(b"")),
)  # fmt: skip


def unlike(answer: Answer) -> bool:
    """Whether an answer is none that there may be."""
    if answer.status < 400:
        return False
    return answer.status >= 500 and answer.errno not in ("ENOMEM", "ENOSPC")


def check_results(answer: Answer, sent: bytes) -> None:
    """A whole document with a result for each frame, none of which is a defect of the service."""
    assert answer.headers["content-type"] == frames.MEDIA_FRAMES
    assert frames.count_of(answer.body) == frames.count_of(sent)
    for kind, start, end in frames.frames_of(answer.body):
        if kind != frames.BYTES:
            told = json.loads(answer.body[start:end])
            assert kind == frames.VALUE or (told["detail"] and told["errno"] != "EIO"), told


@pytest.mark.timeout(300)
def test_no_bytes_make_the_service_fail(tmp_path: Path, seed: int) -> None:
    async def world(site: Site) -> int:
        pid, vid = await site.inside(PAGES)
        sid = await site.segment("segment", PAGES, BASE + 0x1000_0000)
        assert (vid, sid) == (1, 1)
        return pid

    async def fuzz() -> None:
        async with running(tmp_path / "data", body_limit=1 << 20) as site:
            loop, pid = asyncio.get_running_loop(), await world(site)

            async def state() -> Any:
                """What the task has; that it looked for pages is counted whatever came of it."""
                task = await site.ok("GET", f"/tasks/{pid}")
                return {name: value for name, value in task.items() if name != "counters"}

            async def batched(body: bytes, atomic: bool) -> None:
                before = await state()
                answer = await site.send("POST", f"/v1/tasks/{pid}/batch?atomic={atomic}", [body], FRAMES)
                assert not unlike(answer), (body, answer)
                if answer.status == 200:
                    check_results(answer, body)
                else:
                    assert await state() == before, (body, answer)

            async def octets(asked: Octets) -> None:
                method, path, headers, body = asked
                target = f"/v1{path.format(pid=pid)}"
                half = len(body) // 2
                answer = await site.send(method, target, [body[:half], body[half:]], headers)
                assert not unlike(answer), (asked, answer)

            @hypothesis.seed(seed)
            @hypothesis.settings(max_examples=EXAMPLES, database=None)
            @given(body=bent(DOCUMENTS), atomic=st.booleans(), asked=OCTETS)
            def drive(body: bytes, atomic: bool, asked: Any) -> None:
                asyncio.run_coroutine_threadsafe(batched(body, atomic), loop).result()
                asyncio.run_coroutine_threadsafe(octets(asked), loop).result()

            await asyncio.to_thread(drive)

    asyncio.run(fuzz())


def test_no_bytes_make_the_client_fail_otherwise_than_by_name(seed: int) -> None:
    """What is no document is FramesError, which the SDK tells as a ProtocolError."""

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=500, database=None)
    @given(body=bent(DOCUMENTS))
    def drive(body: bytes) -> None:
        try:
            ends = [end for _, start, end in frames.frames_of(body) if start <= end]
        except frames.FramesError as refused:
            assert "\n" not in str(refused)
        else:
            assert len(ends) == frames.count_of(body)
            assert ends[-1:] in ([], [len(body)])

    drive()
