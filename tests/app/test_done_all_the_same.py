"""What was done is told: to the journal when the client leaves in the middle, to the client when room is short."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.types import Message, Scope

from engine.credentials import Credentials
from tests.app.support import BASE, PAGE, running, until


async def test_calls_before_a_wait_that_its_client_left_are_in_the_journal(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        wanted = {"name": "locked", "mode": 0o600, "sharing": "lockable"}
        vid = (await site.ok("POST", "/vas", wanted))["id"]
        holder, waiter = await site.task(), await site.task()
        for pid in (holder, waiter):
            await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"})
        await site.ok("PUT", f"/tasks/{holder}/threads/{holder}/active", {"vid": vid})
        calls = [
            {"call": "vas_create", "args": {"name": "secret", "mode": 0o600}},
            {"call": "vas_setattr", "args": {"vid": vid, "mode": 0o640}},
            {"call": "vas_switch", "args": {"vid": vid, "timeout": None}},
            {"call": "vas_create", "args": {"name": "never", "mode": 0o600}},
        ]
        body = json.dumps({"calls": calls}).encode()
        messages: asyncio.Queue[Message] = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": body, "more_body": False})
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": f"/v1/tasks/{waiter}/batch",
            "raw_path": b"",
            "query_string": b"",
            "headers": [
                (b"authorization", f"Bearer {site.token}".encode()),
                (b"content-type", b"application/json"),
            ],
        }
        asking = asyncio.create_task(site.app(scope, messages.get, send))
        await until(lambda: len(site.service.machine.locks) == 1)
        messages.put_nowait({"type": "http.disconnect"})
        await asking
        assert sent == []
        names = [item["name"] for item in (await site.ok("GET", "/vas"))["items"]]
        assert names == ["locked", "secret"]
        made = (await site.ok("GET", "/audit?call=vas_create&uid=0"))["items"]
        assert [entry["target"].rpartition("/")[2] for entry in made] == ["2", "1"]
        changed = (await site.ok("GET", "/audit?call=vas_setattr"))["items"]
        assert len(changed) == 1


@pytest.mark.parametrize("atomic", ["?atomic=true", ""])
async def test_a_batch_that_was_done_is_answered_however_short_room_is(tmp_path: Path, atomic: str) -> None:
    async with running(tmp_path) as site:
        pid, _ = await site.inside(pages=512)
        room = site.app.room
        for uid in (5, 6):
            room.take(Credentials(uid, (uid,)), room.capacity // 2 - 100)
        load = ("read", {"addr": hex(BASE), "length": 512 * PAGE})
        answer = await site.batch(pid, ("vas_create", {"name": "made", "mode": 0o600}), load, query=atomic)
        assert answer.status == 200
        refused = await site.read(pid, BASE, 512 * PAGE)
        assert refused.errno == "EAGAIN"
