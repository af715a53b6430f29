"""A service in the test's own event loop, asked over ASGI; and stores that tests can hold, fail and watch."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.types import Message

from app.accounts.opening import open_accounts
from app.gate import Gate
from app.main import create_app, open_parts
from app.service import Parts
from app.settings import Settings
from engine.changes import Change, Image
from storage.errors import StoreError
from storage.statistics import Statistics
from storage.store import Store
from storage.writer import Writer

BASE = 0x1000_0000_0000
PAGE = 4096
PROT_RW = 3
ANON_FIXED = 0x32  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    """A complete answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def errno(self) -> str | None:
        """The problem's errno; checks that it is a whole problem document."""
        problem = self.json
        assert self.headers["content-type"] == "application/problem+json", self
        assert problem["status"] == self.status, self
        assert problem["title"], self
        assert problem["detail"], self
        errno: str | None = problem.get("errno")
        return errno


class Site:
    """A service that runs, and who asks it."""

    def __init__(self, app: Gate, clock: Clock, token: str) -> None:
        self.app = app
        self.service = app.service
        self.clock = clock
        self.token = token

    async def send(
        self,
        method: str,
        target: str,
        chunks: Iterable[bytes] = (b"",),
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
        hang_up: bool = False,
    ) -> Answer:
        """One request with its body in `chunks`; with `hang_up` the client leaves instead of sending the end."""
        path, _, query = target.partition("?")
        fields = dict(headers or {})
        if token is not None:
            fields["authorization"] = f"Bearer {token or self.token}"
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        parts = list(chunks)
        messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": hang_up or number < len(parts)}
            for number, part in enumerate(parts, 1)
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            if not messages and not hang_up:
                await asyncio.Event().wait()  # a client that waits for its answer
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return Answer(0, {}, b"")
        found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        body = b"".join(message.get("body", b"") for message in sent[1:])
        if sent[0]["status"] not in (204, 304) and method != "HEAD":
            assert int(found["content-length"]) == len(body), found
        assert found["everspace-instance"] == self.service.instance
        assert found["x-request-id"]
        return Answer(sent[0]["status"], found, body)

    async def call(self, method: str, path: str, body: Any = None, *, token: str = "") -> Answer:
        """A control call with a JSON body."""
        if body is None:
            return await self.send(method, f"/v1{path}", token=token)
        return await self.send(method, f"/v1{path}", [json.dumps(body).encode()], JSON, token=token)

    async def ok(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """The JSON of a call that succeeds."""
        answer = await self.call(method, path, body, token=token)
        assert answer.status in (200, 201, 204), answer
        return answer.json if answer.body else None

    def account(self, uid: int, *gids: int) -> str:
        """A new account's token, made as the command line makes it: through a connection of its own."""
        accounts = open_accounts(self.service.settings)
        token = accounts.create_account(uid, gids or (uid,))
        accounts.close()
        return token

    async def space(self, name: str = "space", mode: int = 0o600) -> int:
        """A new space."""
        vid: int = (await self.ok("POST", "/vas", {"name": name, "mode": mode}))["id"]
        return vid

    async def segment(self, name: str = "segment", pages: int = 4, start: int = BASE) -> int:
        """A new segment."""
        body = {"name": name, "start": hex(start), "end": hex(start + pages * PAGE), "mode": 0o600}
        sid: int = (await self.ok("POST", "/segments", body))["id"]
        return sid

    async def task(self, **body: Any) -> int:
        """A new task."""
        pid: int = (await self.ok("POST", "/tasks", body))["pid"]
        return pid

    async def inside(self, pages: int = 4, name: str = "space") -> tuple[int, int]:
        """A task that is inside a space with some pages mapped at BASE: pid and vid."""
        vid, pid = await self.space(name), await self.task()
        await self.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        await self.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        await self.mmap(pid, pages)
        return pid, vid

    async def mmap(self, pid: int, pages: int = 4, addr: int = BASE) -> None:
        """Map pages."""
        wanted = {"addr": addr, "length": pages * PAGE, "prot": PROT_RW, "flags": ANON_FIXED}
        await self.ok("POST", f"/tasks/{pid}/mmap", wanted)

    async def read(self, pid: int, addr: int, length: int) -> Answer:
        """Load."""
        return await self.send("GET", f"/v1/tasks/{pid}/memory?addr={addr:#x}&len={length}")

    async def write(self, pid: int, addr: int, data: bytes, **query: Any) -> Answer:
        """Store."""
        more = "".join(f"&{name}={value}" for name, value in query.items())
        return await self.send("PUT", f"/v1/tasks/{pid}/memory?addr={addr:#x}{more}", [data], BYTES)

    async def batch(self, pid: int, *calls: Any, query: str = "") -> Answer:
        """A batch; its calls are (name, args)."""
        listed = [{"call": call[0], "args": call[1]} if isinstance(call, tuple) else call for call in calls]
        return await self.call("POST", f"/tasks/{pid}/batch{query}", {"calls": listed})


@asynccontextmanager
async def running(data_dir: Path, parts: Parts | None = None, **options: Any) -> AsyncIterator[Site]:
    """A started service over a data directory; stopped cleanly at the end."""
    clock = Clock()
    settings = Settings(data_dir=data_dir, **options)
    app = create_app(settings, parts, clock)
    await app.service.start()
    try:
        yield Site(app, clock, (data_dir / "root.token").read_text().strip())
    finally:
        await app.service.stop()


class HeldStore:
    """Passes everything on. Commits wait while `hold` is set; the next ones fail while `failure` is set."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._gate = threading.Event()
        self._gate.set()
        self.failure: StoreError | None = None
        self.commits: list[int] = []
        """Transactions in each commit that was tried."""
        self.fetches: list[Sequence[int]] = []
        """Pages of each fetch."""

    def hold(self) -> None:
        """Let commits wait."""
        self._gate.clear()

    def release(self) -> None:
        """Let them go."""
        self._gate.set()

    def load(self) -> Image:
        return self._inner.load()

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        self.fetches.append(pages)
        return self._inner.fetch(object_id, pages)

    def stored_pages(self, object_id: int, first: int, count: int) -> list[int]:
        return self._inner.stored_pages(object_id, first, count)

    def usage(self, objects: Sequence[int]) -> tuple[int, int]:
        return self._inner.usage(objects)

    def pages_new(self, object_id: int, pages: Sequence[int]) -> int:
        return self._inner.pages_new(object_id, pages)

    def pages_held(self, objects: Sequence[int]) -> int:
        return self._inner.pages_held(objects)

    def statistics(self) -> Statistics:
        return self._inner.statistics()

    def differing(self, a: int, b: int, first: int, count: int) -> list[int]:
        return self._inner.differing(a, b, first, count)

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        self._gate.wait(30)
        self.commits.append(len(transactions))
        if self.failure is not None:
            raise self.failure
        self._inner.commit(transactions)

    @property
    def failing(self) -> StoreError | None:
        return self.failure or self._inner.failing

    def probe(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._inner.probe()

    def maintain(self, *, urgent_only: bool = False) -> bool:
        return self._inner.maintain(urgent_only=urgent_only)

    def close(self) -> None:
        self._inner.close()


@asynccontextmanager
async def held(data_dir: Path, **options: Any) -> AsyncIterator[tuple[Site, HeldStore]]:
    """A service whose store the test can hold and fail."""
    parts = open_parts(Settings(data_dir=data_dir, **options))
    parts.writer.close()
    store = HeldStore(parts.store)
    async with running(data_dir, replace(parts, store=store, writer=Writer(store)), **options) as site:
        try:
            yield site, store
        finally:
            store.failure = None
            store.release()


async def until(condition: Callable[[], bool]) -> None:
    """Give the event loop turns until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
