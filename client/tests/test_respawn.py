"""A service that restarts and forgets its tasks; a client that brings them back when told to."""

import asyncio
import json
import threading
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response


class ForgetfulService:
    """Tasks, threads and attachments, until `restart()`."""

    def __init__(self) -> None:
        self.instance = 1
        self.tasks: dict[int, dict[str, Any]] = {}
        self.log: list[str] = []
        self.refuse_attach = False

    def restart(self) -> None:
        self.instance += 1
        self.tasks.clear()
        self.log.clear()

    def __call__(self, request: Request) -> Response:
        parts = request.target.removeprefix("/v1/").partition("?")[0].split("/")
        body = json.loads(bytes(request.body)) if bytes(request.body).startswith(b"{") else {}
        self.log.append(f"{request.method} {'/'.join(parts)}" + (f" {body}" if body else ""))
        if parts == ["tasks"]:
            return self.spawn(body)
        promised = dict(request.headers).get("Everspace-Instance", str(self.instance))
        pid = int(parts[1])
        if pid not in self.tasks or promised != str(self.instance):
            return problem_response("ESRCH", f"no task {pid}", str(self.instance))
        return json_response(self.act(pid, request.method, parts[2:], body), instance=str(self.instance))

    def spawn(self, body: dict[str, Any]) -> Response:
        pid = 10 * self.instance + len(self.tasks)
        self.tasks[pid] = {"threads": {pid: 0}, "attachments": {}}
        name = body.get("name", f"task-{pid}")
        shape = {"pid": pid, "tid": pid, "uid": 0, "gids": [0], "name": name, "lease_s": body["lease_s"]}
        threads = [{"tid": pid, "active": 0}]
        return json_response({**shape, "threads": threads, "attachments": []}, 201, str(self.instance))

    def act(self, pid: int, method: str, rest: list[str], body: dict[str, Any]) -> Any:
        task = self.tasks[pid]
        match (method, *rest):
            case ("POST", "threads"):
                tid = pid * 100 + len(task["threads"])
                task["threads"][tid] = 0
                return {"tid": tid}
            case ("PUT", "vas", vid):
                task["attachments"][int(vid)] = body["type"]
            case ("PUT", "threads", tid, "active"):
                if body["vid"] and body["vid"] not in task["attachments"]:
                    raise AssertionError("switched into a space that is not attached")
                task["threads"][int(tid)] = body["vid"]
            case ("GET", "threads", tid, "active"):
                return {"vid": task["threads"][int(tid)]}
            case ("DELETE",):
                del self.tasks[pid]
        return {}


def test_tasks_threads_attachments_and_switches_come_back() -> None:
    service = ForgetfulService()
    client = everspace.connect(transport=HandlerTransport(service), respawn=True)
    task = client.spawn("worker", lease=90)
    thread = task.thread()
    task.vas_attach(0, 3, "rw", lazy=False)
    task.vas_attach(task.pid, 4, everspace.O_RDONLY)
    task.vas_attach(0, 5, "ro")
    task.vas_detach(0, 5)
    task.vas_switch(3)
    thread.vas_switch(4)
    assert (task.pid, thread.tid) == (10, 1001)
    service.restart()
    assert thread.active_vas() == 4
    assert (task.pid, task.tid, thread.pid, thread.tid) == (20, 20, 20, 2001)
    assert (task.active_vas(), task.active) == (3, 3)
    assert service.log == [
        "GET tasks/10/threads/1001/active",
        "POST tasks {'name': 'worker', 'lease_s': 90.0}",
        "POST tasks/20/threads",
        "PUT tasks/20/vas/3 {'type': 'rw', 'lazy': False}",
        "PUT tasks/20/vas/4 {'type': 'ro', 'lazy': True}",
        "PUT tasks/20/threads/20/active {'vid': 3, 'timeout_s': 90.0}",
        "PUT tasks/20/threads/2001/active {'vid': 4, 'timeout_s': 90.0}",
        "GET tasks/20/threads/2001/active",
        "GET tasks/20/threads/20/active",
    ]
    service.restart()
    thread.exit()
    task.exit()
    client.close()
    assert service.tasks == {}


def test_the_async_twin() -> None:
    async def main() -> None:
        service = ForgetfulService()
        async with everspace.aconnect(transport=AsyncHandlerTransport(service), respawn=True) as client:
            task = await client.spawn("worker")
            await task.vas_attach(0, 3, "rw")
            await task.vas_switch(3)
            service.restart()
            assert await asyncio.gather(*(task.active_vas() for _ in range(5))) == [3] * 5
            assert [entry for entry in service.log if entry.startswith("POST tasks ")] == [
                "POST tasks {'name': 'worker', 'lease_s': 60.0}"
            ]

    asyncio.run(main())


def test_a_refusal_that_arrives_when_the_task_is_back_already() -> None:
    class Reordering(AsyncHandlerTransport):
        """The second refusal is held back until somebody has had a good answer."""

        refusals = 0

        async def send(self, request: Request) -> Response:
            response = await super().send(request)
            if response.status == 404:
                self.refusals += 1
                if self.refusals == 2:
                    await back.wait()
            elif request.method == "GET":
                back.set()
            return response

    back = asyncio.Event()

    async def main() -> list[int]:
        service = ForgetfulService()
        async with everspace.aconnect(transport=Reordering(service), respawn=True) as client:
            task = await client.spawn()
            await task.vas_attach(0, 3, "rw")
            await task.vas_switch(3)
            service.restart()
            return [*await asyncio.gather(task.active_vas(), task.active_vas())]

    assert asyncio.run(main()) == [3, 3]


def test_a_task_without_a_name_gets_a_new_one() -> None:
    service = ForgetfulService()
    client = everspace.connect(transport=HandlerTransport(service), respawn=True)
    task = client.spawn()
    assert task.name == "task-10"
    service.restart()
    task.active_vas()
    assert task.name == "task-20"
    client.close()


def test_without_respawn_the_task_is_lost() -> None:
    service = ForgetfulService()
    client = everspace.connect(transport=HandlerTransport(service))
    task = client.spawn()
    service.restart()
    with pytest.raises(errors.NoSuchProcessError):
        task.active_vas()
    assert service.log == ["GET tasks/10/threads/10/active"]
    with client.spawn() as other:
        assert other.pid == 20
    with pytest.raises(ProcessLookupError):
        task.exit()
    client.close()


def test_a_pid_of_the_new_start_is_not_mistaken_for_ours() -> None:
    service = ForgetfulService()
    client = everspace.connect(transport=HandlerTransport(service))
    task = client.spawn()
    service.restart()
    service.tasks[task.pid] = {"threads": {task.pid: 0}, "attachments": {}}  # somebody else's
    with pytest.raises(errors.NoSuchProcessError):
        task.vas_attach(0, 3, "rw")
    assert service.tasks[task.pid]["attachments"] == {}
    client.close()


def test_esrch_without_a_restart_is_the_callers() -> None:
    service = ForgetfulService()
    client = everspace.connect(transport=HandlerTransport(service), respawn=True)
    task = client.spawn()
    with pytest.raises(errors.NoSuchProcessError):
        task.vas_attach(99, 3, "rw")
    task.exit()
    with pytest.raises(errors.NoSuchProcessError):
        task.active_vas()
    service.restart()
    with pytest.raises(errors.NoSuchProcessError):
        task.active_vas()
    assert service.tasks == {}
    client.close()


def test_leaving_a_task_after_a_restart_does_not_bring_it_back() -> None:
    service = ForgetfulService()
    client = everspace.connect(transport=HandlerTransport(service), respawn=True)
    with client.spawn():
        service.restart()
    assert service.log == ["DELETE tasks/10"]
    client.close()


def test_what_cannot_be_attached_again_is_said_and_tried_again_later() -> None:
    service = ForgetfulService()
    busy = [True]

    def handle(request: Request) -> Response:
        if service.instance == 2 and busy[0] and request.method == "PUT" and "/vas/3" in request.target:
            return problem_response("EBUSY", "space 3 is attached", "2")
        return service(request)

    client = everspace.connect(transport=HandlerTransport(handle), respawn=True)
    task = client.spawn()
    thread = task.thread()
    task.vas_attach(0, 3, "rw")
    service.restart()
    for _ in range(2):
        with pytest.raises(errors.BusyError):
            thread.active_vas()
        assert service.tasks == {}
    busy[0] = False
    assert thread.active_vas() == 0
    assert len(service.tasks) == 1
    client.close()


def test_threads_that_meet_the_restart_together_respawn_once() -> None:
    service = ForgetfulService()
    lock = threading.Lock()

    def handle(request: Request) -> Response:
        with lock:
            return service(request)

    client = everspace.connect(transport=HandlerTransport(handle), respawn=True)
    task = client.spawn()
    task.vas_attach(0, 3, "rw")
    task.vas_switch(3)
    service.restart()
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(task.active_vas())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, len(service.tasks)) == ([3] * 8, 1)
    client.close()
