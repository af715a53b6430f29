"""Limits on what one account can make the service hold: over each of them the answer is an error, and nothing is half done."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from app.accounts.opening import open_accounts
from app.api import batch, cores
from app.http import strict_json
from app.http.exchange import PIECE_BYTES
from app.room import Room
from engine.credentials import ROOT, Credentials
from engine.errors import EngineError
from tests.app.following import following
from tests.app.support import BASE, BYTES, Site, running, until

ADA = Credentials(1001, (1001,))
BOB = Credentials(1003, (1003,))
MIB = 1 << 20


def test_room_is_for_all_and_half_of_it_for_one() -> None:
    room = Room(100)
    room.take(ADA, 40)
    for cred, count in ((ADA, 11), (BOB, 61)):
        with pytest.raises(EngineError, match="EAGAIN"):
            room.take(cred, count)
    room.take(ADA, 10)
    room.take(BOB, 50)
    with pytest.raises(EngineError, match="EAGAIN"):
        room.take(ROOT, 1)
    room.give(BOB, 50)
    room.take(ROOT, 50)
    room.give(ADA, 50)
    room.give(ROOT, 50)
    assert (room.taken, room.refusals) == (0, 3)
    room.take(ADA, 1000)  # where nothing is held one may pass
    room.give(ADA, 1000)


class Slow:
    """A client of raw ASGI that sends or takes one piece at a time, when it is told to."""

    def __init__(self, site: Site, token: str, method: str, target: str, chunks: list[bytes]) -> None:
        path, _, query = target.partition("?")
        headers = {"authorization": f"Bearer {token}", **BYTES}
        self._scope: dict[str, Any] = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self._chunks = chunks
        self.go = asyncio.Event()
        self.status = 0
        self.got = 0
        self.pieces = 0
        self.task = asyncio.create_task(site.app(self._scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if len(self._chunks) == 1:
            await self.go.wait()
        if not self._chunks:
            await asyncio.Event().wait()
        body = self._chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.got += len(message["body"])
        self.pieces += 1
        await self.go.wait()

    async def end(self) -> int:
        self.go.set()
        await self.task
        return self.status


async def test_bodies_that_come_slowly_take_room_and_give_it_back(tmp_path: Path) -> None:
    async with running(tmp_path / "data", bodies=MIB) as site:
        ada, bob = site.account(1001), site.account(1003)
        pids = {
            token: (await site.ok("POST", "/tasks", {}, token=token))["pid"]
            for token in (ada, bob, site.token)
        }
        room = site.app.room

        def store(token: str, size: int) -> Slow:
            target = f"/v1/tasks/{pids[token]}/memory"
            return Slow(site, token, "PUT", f"{target}?addr=0x10", [bytes(size), b"end"])

        slow = store(ada, MIB // 2 - 64)
        await until(lambda: room.taken == MIB // 2 - 64)
        second = store(ada, MIB // 4)
        assert await second.end() == 429
        other = store(bob, MIB // 4)
        await until(lambda: room.taken == 3 * MIB // 4 - 64)
        assert await store(site.token, MIB // 2).end() == 429
        for client in (slow, other):
            assert await client.end() == 422  # there is no memory at 0x10: what was sent was looked at
        assert room.taken == 0


async def test_answers_that_are_taken_slowly_take_room_and_go_out_in_pieces(tmp_path: Path) -> None:
    size = 3 * PIECE_BYTES + 5
    async with running(tmp_path / "data", bodies=2 * size) as site:
        token = site.account(1001)
        pid = (await site.ok("POST", "/tasks", {}, token=token))["pid"]
        wanted = {"addr": hex(BASE), "length": 4 * PIECE_BYTES, "prot": 3, "flags": 0x32}
        await site.ok("POST", f"/tasks/{pid}/mmap", wanted, token=token)
        target = f"/v1/tasks/{pid}/memory?addr={BASE:#x}&len={size}"
        slow = Slow(site, token, "GET", target, [b""])
        slow.go.clear()
        await until(lambda: slow.pieces == 0 and not slow.task.done())
        slow._chunks = [b"", b""]
        await until(lambda: slow.pieces == 1)
        assert (slow.got, site.app.room.taken) == (PIECE_BYTES, size)
        assert await Slow(site, token, "GET", target, [b"", b""]).end() == 429
        assert await slow.end() == 200
        assert (slow.got, slow.pieces, site.app.room.taken) == (size, 4, 0)
        answer = await site.send("HEAD", f"/v1/tasks/{pid}/core", token=token)
        assert answer.body == b""


async def test_one_account_takes_at_most_half_of_the_streams(tmp_path: Path) -> None:
    async with running(tmp_path / "data", event_streams=4) as site:
        ada, bob = site.account(1001), site.account(1003)
        async with following(site, token=ada), following(site, token=ada):
            async with following(site, token=ada, wait=False) as third:
                await until(lambda: third.status != 0)
                assert third.status == 429
            async with following(site, token=bob) as other:
                assert other.status == 200
        async with following(site, token=ada) as again:
            assert again.status == 200
        assert not +site.service.events.streams_of


async def test_one_account_takes_at_most_half_of_the_core_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "CORES_PER_ACCOUNT", 1)
    async with running(tmp_path / "data") as site:
        ada, bob = site.account(1001), site.account(1003)
        pids = {
            token: (await site.ok("POST", "/tasks", {}, token=token))["pid"]
            for token in (ada, bob, site.token)
        }

        def core(token: str) -> Slow:
            return Slow(site, token, "GET", f"/v1/tasks/{pids[token]}/core", [b""] * 2)

        slow = core(ada)
        await until(lambda: slow.pieces == 1)
        assert await core(ada).end() == 429
        assert await core(bob).end() == 200
        assert await slow.end() == 200
        assert (await site.send("GET", f"/v1/tasks/{pids[ada]}/core", token=ada)).status == 200
        assert (site.service.cores, +site.service.cores_of) == (0, {})


@pytest.mark.parametrize("call", ["maps", "smaps", "vas_roots", "vas_getattr", "vas_lineage"])
async def test_texts_and_lists_of_one_batch_are_no_more_than_an_answer_holds(
    tmp_path: Path, call: str
) -> None:
    """Each call alone is small: it is their number that would be too much."""
    async with running(tmp_path / "data", body_limit=20_000) as site:
        pid, vid = await site.inside(1)
        for number in range(10):
            await site.ok("PUT", f"/vas/{vid}/roots/{number:0100}", {"addr": BASE})
        for number in range(5):
            await site.ok("POST", f"/vas/{vid}/clone", {"name": f"{'clone':@<100}{number}"})
        args = {"vid": vid} if call.startswith("vas") else {}
        many = 400
        results = (await site.batch(pid, *([(call, args)] * many))).json["results"]
        refused = [result for result in results if "errno" in result]
        assert results[0].keys() == {"value"}
        assert refused
        assert {result["errno"] for result in refused} == {"E2BIG"}
        answer = await site.batch(pid, *([(call, args)] * many), query="?atomic=true")
        assert answer.errno == "E2BIG"


async def test_a_text_of_nothing_but_brackets_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FEW_BYTES", 1000)
    async with running(tmp_path / "data", batch_limit=3) as site:
        pid = await site.task()
        monkeypatch.setattr(strict_json, "loads", lambda _: pytest.fail("it was read"))
        for filling in ("[]", "{}", "0", '""'):
            body = b'{"calls": [' + ",".join([filling] * 1000).encode() + b"]}"
            answer = await site.send(
                "POST", f"/v1/tasks/{pid}/batch", [body], {"content-type": "application/json"}
            )
            assert (answer.status, answer.errno) == (413, "E2BIG")


async def test_commas_in_names_are_no_hindrance(tmp_path: Path) -> None:
    async with running(tmp_path / "data", batch_limit=20) as site:
        pid = await site.task()
        calls = [("vas_create", {"name": f"{number:02}" + "," * 253, "mode": 0}) for number in range(20)]
        results = (await site.batch(pid, *calls)).json["results"]
        assert all("value" in result for result in results)


@pytest.mark.parametrize("given", ["x" * 129, "", "a\tb", "a\x7f", "é", "a\r\nb: c"])
async def test_a_request_id_is_short_and_printable(site: Site, given: str) -> None:
    answer = await site.send("GET", "/v1/vas", headers={"x-request-id": given})
    assert answer.headers["x-request-id"].startswith(site.service.instance)
    assert (await site.send("GET", "/v1/vas", headers={"x-request-id": "x" * 128})).headers[
        "x-request-id"
    ] == "x" * 128


async def test_an_account_asks_so_often_and_others_do_not_notice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = site.account(1001), site.account(1003)
    accounts = open_accounts(site.service.settings)
    accounts.change_quota(1001, {"rate": 3})
    accounts.close()
    monkeypatch.setattr(site.app.rates, "_clock", lambda: 1000.0)  # no time passes
    answers = [await site.call("GET", "/vas", token=ada) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert (answers[-1].errno, answers[-1].headers["retry-after"]) == ("EAGAIN", "1")
    for token in (bob, site.token):
        assert [(await site.call("GET", "/vas", token=token)).status for _ in range(5)] == [200] * 5
    monkeypatch.setattr(site.app.rates, "_clock", lambda: 1001.0)
    assert (await site.call("GET", "/vas", token=ada)).status == 200
