"""Core files over HTTP: what is in them, that they are streamed, and what happens when that goes wrong."""

import asyncio
import io
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from starlette.types import Message

from app.api import cores
from app.http import streaming
from storage.errors import StoreFailed
from tests.app.support import BASE, PAGE, Site, held, running

MIB = 1 << 20


@dataclass
class Client:
    """One download that is watched piece by piece."""

    status: int = 0
    length: int = 0
    pieces: list[int] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    async def get(
        self,
        site: Site,
        target: str,
        on_piece: Callable[["Client"], Awaitable[None]] | None = None,
        *,
        keep: bool = True,
    ) -> "Client":
        """GET; `on_piece` is called for each piece, and ends the connection by raising ConnectionError."""
        gone = asyncio.Event()
        begun = False

        async def receive() -> Message:
            nonlocal begun
            if not begun:
                begun = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if gone.is_set():
                return
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.length = int(dict(message["headers"])[b"content-length"])
                return
            self.pieces.append(len(message["body"]))
            self.complete = not message.get("more_body", False)
            if keep:
                self.body += message["body"]
            if on_piece is not None:
                try:
                    await on_piece(self)
                except ConnectionError:
                    gone.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"authorization", f"Bearer {site.token}".encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        await site.app(scope, receive, send)
        return self


def memory(body: bytes, address: int, length: int) -> bytes | None:
    """The bytes at an address as a debugger sees them; None: there is no such memory."""
    for segment in ELFFile(io.BytesIO(body)).iter_segments("PT_LOAD"):
        low = address - segment["p_vaddr"]
        if 0 <= low < segment["p_memsz"]:
            return bytes(segment.data()[low : low + length]).ljust(length, b"\0")
    return None


async def filled(site: Site, mib: int) -> tuple[int, int]:
    """A task in a space of so many MiB, each page of which begins with its number: pid and vid."""
    pid, vid = await site.inside(mib * MIB // PAGE)
    for start in range(0, mib * MIB, MIB):
        data = b"".join((start // PAGE + n).to_bytes(8, "little") * (PAGE // 8) for n in range(MIB // PAGE))
        assert (await site.write(pid, BASE + start, data)).status == 204
    return pid, vid


async def test_the_core_of_a_task_and_of_a_space(site: Site) -> None:
    pid, vid = await site.inside(4)
    await site.write(pid, BASE + PAGE, b"in the space")
    await site.write(pid, 0x401000, b"in the task")
    for target, shown in ((f"/v1/tasks/{pid}/core", b"in the task"), (f"/v1/vas/{vid}/core", None)):
        answer = await site.send("GET", target)
        name = "core." + target.removeprefix("/v1/").removesuffix("/core").replace("/", ".").removeprefix(
            "tasks."
        )
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert ELFFile(io.BytesIO(answer.body)).header.e_type == "ET_CORE"
        assert memory(answer.body, BASE + PAGE, 12) == b"in the space"
        assert memory(answer.body, 0x401000, 11) == shown
        assert memory(answer.body, BASE + 4 * PAGE, 1) is None
        head = await site.send("HEAD", target)
        assert (head.status, head.headers["content-length"]) == (200, str(len(answer.body)))


async def test_a_thread_that_is_elsewhere(site: Site) -> None:
    pid, _ = await site.inside(1)
    await site.write(pid, BASE, b"inside")
    tid = (await site.ok("POST", f"/tasks/{pid}/threads", {}))["tid"]
    assert memory((await site.send("GET", f"/v1/tasks/{pid}/core?tid={pid}")).body, BASE, 6) == b"inside"
    assert memory((await site.send("GET", f"/v1/tasks/{pid}/core?tid={tid}")).body, BASE, 6) is None


async def test_refusals(site: Site) -> None:
    pid, vid = await site.task(), await site.space(mode=0o200)
    stranger = site.account(1000)
    mine = (await site.ok("POST", "/tasks", {}, token=stranger))["pid"]
    expected = {
        f"/tasks/{pid}/core": ("EPERM", stranger),
        "/tasks/1999999999/core": ("ESRCH", stranger),
        "/tasks/x/core": ("ESRCH", stranger),
        f"/tasks/{mine}/core?tid=1999999999": ("ESRCH", stranger),
        f"/tasks/{mine}/core?tid=x": ("EINVAL", stranger),
        f"/vas/{vid}/core": ("EACCES", stranger),
        "/vas/99/core": ("EINVAL", stranger),
        "/vas/x/core": ("EINVAL", stranger),
    }
    found = {
        path: ((await site.call("GET", path, token=token)).errno, token)
        for path, (_, token) in expected.items()
    }
    assert found == expected
    assert (await site.call("POST", f"/vas/{vid}/core")).status == 405
    assert (await site.call("GET", f"/tasks/{mine}/core", token=stranger)).status == 200
    assert site.service.cores == 0


@pytest.mark.parametrize(("arch", "errno"), [("i386", None), ("aarch64_16k", None), ("toy", "EINVAL")])
async def test_other_machines(tmp_path: Path, arch: str, errno: str | None) -> None:
    async with running(tmp_path / "data", arch=arch) as site:
        pid = await site.task()
        answer = await site.send("GET", f"/v1/tasks/{pid}/core")
        if errno is None:
            assert ELFFile(io.BytesIO(answer.body)).get_machine_arch() in ("x86", "AArch64")
        else:
            assert answer.errno == errno


async def test_sixty_four_mebibytes_through_a_small_memory(tmp_path: Path) -> None:
    """Four times more than fits into the machine, and the service never holds more than a few pieces of it."""
    async with running(tmp_path / "data", memory=16 * MIB) as site:
        _, vid = await filled(site, 64)
        tracemalloc.start()
        try:
            client = await Client().get(site, f"/v1/vas/{vid}/core", keep=False)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert client.complete
        assert sum(client.pieces) == client.length > 64 * MIB
        assert max(client.pieces) <= cores.PIECE_BYTES
        assert peak < 16 * MIB


async def test_every_byte_of_it(tmp_path: Path) -> None:
    async with running(tmp_path / "data", memory=2 * MIB) as site:
        _, vid = await filled(site, 5)
        body = bytes((await Client().get(site, f"/v1/vas/{vid}/core")).body)
        shown = memory(body, BASE, 5 * MIB) or b""
        assert [shown[n * PAGE : n * PAGE + 8] for n in range(5 * MIB // PAGE)] == [
            n.to_bytes(8, "little") for n in range(5 * MIB // PAGE)
        ]


async def test_others_are_served_meanwhile(site: Site) -> None:
    pid, vid = await filled(site, 4)
    answers = []

    async def ask(_: Client) -> None:
        answers.append((await site.read(pid, BASE, 8)).status)

    client = await Client().get(site, f"/v1/vas/{vid}/core", ask)
    assert answers == [200] * len(client.pieces)
    assert len(answers) > 4


async def test_a_task_s_own_memory_is_that_of_one_moment(site: Site) -> None:
    pid = await site.task()
    await site.mmap(pid, 3 * MIB // PAGE)
    await site.write(pid, BASE, b"a" * 3 * MIB)

    async def change(client: Client) -> None:
        if len(client.pieces) == 1:
            await site.write(pid, BASE, b"b" * 3 * MIB)
        if len(client.pieces) == 2:
            await site.call("DELETE", f"/tasks/{pid}")

    client = await Client().get(site, f"/v1/tasks/{pid}/core", change)
    assert memory(bytes(client.body), BASE, 3 * MIB) == b"a" * 3 * MIB


async def test_a_space_s_memory_is_that_of_the_moment_of_each_piece(site: Site) -> None:
    pid, vid = await site.inside(3 * MIB // PAGE)
    await site.write(pid, BASE, b"a" * 3 * MIB)

    async def change(client: Client) -> None:
        if len(client.pieces) == 2:  # the headers and the first piece have gone
            await site.write(pid, BASE, b"b" * 3 * MIB)

    client = await Client().get(site, f"/v1/vas/{vid}/core", change)
    assert memory(bytes(client.body), BASE, 3 * MIB) == b"a" * MIB + b"b" * 2 * MIB


async def test_a_client_that_leaves(site: Site) -> None:
    pid = await site.task()
    await site.mmap(pid, 8 * MIB // PAGE)
    await site.write(pid, BASE, b"a" * 8 * MIB)
    pool = site.service.machine.pool
    held_before = pool.capacity - pool.free_count

    async def leave(client: Client) -> None:
        if len(client.pieces) == 3:
            raise ConnectionError

    client = await Client().get(site, f"/v1/tasks/{pid}/core", leave)
    assert len(client.pieces) <= 4
    assert not client.complete
    assert site.service.cores == 0
    assert pool.capacity - pool.free_count == held_before
    await site.call("DELETE", f"/tasks/{pid}")
    assert pool.free_count == pool.capacity


async def test_a_client_that_takes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STALL_S", 0.05)
    pid = await site.task()

    async def never(_: Client) -> None:
        await asyncio.Event().wait()

    client = await Client().get(site, f"/v1/tasks/{pid}/core", never)
    assert not client.complete
    assert site.service.cores == 0


async def test_too_many_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "CORES_MAX", 1)
    pid = await site.task()
    refused = []

    async def another(client: Client) -> None:
        if len(client.pieces) == 1:
            refused.append(await site.call("GET", f"/tasks/{pid}/core"))

    assert (await Client().get(site, f"/v1/tasks/{pid}/core", another)).complete
    assert (refused[0].errno, refused[0].status) == ("EAGAIN", 429)
    assert (await site.call("GET", f"/tasks/{pid}/core")).status == 200


async def test_a_store_that_fails_on_the_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The answer ends before its promised length; nothing that is not memory follows it."""
    async with held(tmp_path / "data", memory=2 * MIB) as (site, store):
        _, vid = await filled(site, 5)
        whole = await Client().get(site, f"/v1/vas/{vid}/core")

        def fail(object_id: int, pages: object) -> dict[int, bytes]:
            raise StoreFailed("the disk is gone")

        async def break_it(client: Client) -> None:
            if len(client.pieces) == 2:
                store.fetch = fail  # type: ignore[method-assign]

        client = await Client().get(site, f"/v1/vas/{vid}/core", break_it)
        assert not client.complete
        assert 0 < len(client.body) < client.length
        assert client.body == whole.body[: len(client.body)]
        assert "cut off" in caplog.text
        assert site.service.cores == 0


async def test_a_store_that_fails_before(tmp_path: Path) -> None:
    async with held(tmp_path / "data") as (site, store):
        _, vid = await site.inside(1)

        def fail(object_id: int, first: int, count: int) -> list[int]:
            raise StoreFailed("the disk is gone")

        store.stored_pages = fail  # type: ignore[method-assign]
        answer = await site.call("GET", f"/vas/{vid}/core")
        assert (answer.errno, answer.status) == ("EIO", 500)
        assert site.service.cores == 0


async def test_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as site:
        pid, vid = await site.inside(1 << 18)
        await site.write(pid, BASE + 77777 * PAGE, b"needle")
    async with running(tmp_path / "data") as site:
        answer = await site.send("GET", f"/v1/vas/{vid}/core")
        assert len(answer.body) < 4 * PAGE
        assert memory(answer.body, BASE + 77777 * PAGE, 6) == b"needle"


async def test_no_secret_is_in_it(tmp_path: Path) -> None:
    """Neither tokens nor what others left in page frames that are used again."""
    secret = b"do not find me "
    async with running(tmp_path / "data", memory=1 * MIB) as site:
        other = await site.task()
        await site.mmap(other, 100)
        await site.write(other, BASE, (secret * 400 * PAGE)[: 100 * PAGE])
        await site.call("DELETE", f"/tasks/{other}")
        pid, vid = await site.inside(100)
        for number in range(100):
            await site.write(pid, BASE + number * PAGE + 100, b"x")
        for target in (f"/v1/tasks/{pid}/core", f"/v1/vas/{vid}/core"):
            body = (await site.send("GET", target)).body
            assert len(body) > 100 * PAGE
            assert secret not in body
            assert site.token.encode() not in body
