"""Each call is done once: SIGKILL before the commit, between commit and answer, and at any moment under load."""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import everspace
from tests.conformance.support.calls import PAGE
from tests.conformance.support.service import Service, free_port, until

BASE = 0x1000_0000_0000
MAPPING = {"addr": 0, "length": PAGE, "prot": 3, "flags": 0x22}
KILLED_BEFORE = ("commit.begin", "commit.rows_put")
KILLED_AFTER = ("commit.synced", "commit.published")


def armed(service: Service, point: str) -> Service:
    """The same data directory, served by a process that kills itself when it gets there."""
    return Service(service.data_dir, {"EVERSPACE_FAILPOINT": point})


def mapped(service: Service, vid: int) -> int:
    """Pages that are mapped in a space."""
    regions = service.http().get(f"/v1/vas/{vid}/regions?limit=1000")["items"]
    return sum(int(region["end"], 0) - int(region["start"], 0) for region in regions) // PAGE


@contextmanager
def restarted(dying: Service) -> Iterator[None]:
    """Meanwhile, as soon as that process is dead, another one serves its data directory at its port."""
    heir = Service(dying.data_dir)

    def inherit() -> None:
        while dying.running():
            time.sleep(0.01)
        heir.start(dying.port)

    waiting = threading.Thread(target=inherit)
    waiting.start()
    try:
        yield
    finally:
        waiting.join(60)
        assert heir.stop() == 0


@pytest.mark.parametrize("point", [*KILLED_BEFORE, *KILLED_AFTER])
def test_a_call_that_was_killed_is_done_once(service: Service, point: str) -> None:
    vid = service.http().call("POST", "/v1/vas", {"name": "lab", "mode": 0o600}, status=201).json["id"]
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "mmap": (f"/v1/vas/{vid}/mmap", MAPPING),
        "clone": (f"/v1/vas/{vid}/clone", {"name": "clone"}),
    }
    service.kill()
    for key, (path, body) in calls.items():
        headers = {"Idempotency-Key": f'"{key}"'}
        dying = armed(service, point).start()
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            dying.http().request("POST", path, body, headers=headers)
        dying.close()
        service.start()
        done = service.http().request("POST", path, body, headers=headers)
        again = service.http().request("POST", path, body, headers=headers)
        replayed = [answer.headers.get("idempotent-replayed") for answer in (done, again)]
        assert replayed == ["true" if point in KILLED_AFTER else None, "true"]
        assert (again.status, again.body) == (done.status, done.body)
        service.kill()
    service.start()
    assert mapped(service, vid) == 1
    assert [item["name"] for item in service.http().get("/v1/vas")["items"]] == ["lab", "clone"]


@pytest.mark.parametrize("point", ["commit.begin", "commit.synced"])
def test_the_sdk_asks_again_and_it_is_done_once(service: Service, point: str) -> None:
    """The task is another one after the restart; what it did to the space is remembered all the same."""
    with everspace.connect(service.url, service.root_token) as client:
        space = client.spaces.create("lab", sharing="shared")
        heap = client.segments.create("heap", BASE, BASE + (1 << 20))
        heap.attach(space)
    service.kill()
    dying = armed(service, point).start()
    with (
        restarted(dying),
        everspace.connect(dying.url, service.root_token, timeout=60.0, respawn=True) as client,
        client.spawn() as task,
        client.spaces.find("lab").attach(task) as attached,
        attached.switch(),
    ):
        before = task.pid
        node = task.vas_malloc(64)
        assert task.pid != before, "the service was killed meanwhile"
        task.write(node, b"once")
        assert client.segments.find("heap").heap().blocks == 1
    dying.close()


def test_spaces_are_made_once_though_the_first_answer_never_came(service: Service) -> None:
    """Without respawn: a connection that was lost is tried again, and the second service knows the key."""
    service.kill()
    dying = armed(service, "commit.synced").start()
    with restarted(dying), everspace.connect(dying.url, service.root_token) as client:
        try:
            made = client.spaces.create("lab")
        except (everspace.ConnectionLostError, everspace.ServiceUnavailable):  # slower than the few tries
            until("it is back", client.ready, 60.0)
            made = client.spaces.find("lab")
        assert [space.vid for space in client.spaces.list()] == [made.vid]
    dying.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_call_is_done_once_whenever_it_is_killed(fresh: Service, seed: int) -> None:
    """Writers that never stop asking, and a service that is killed at random moments: nothing is lost, nothing twice."""
    rng = random.Random(seed)
    port = free_port()
    fresh.start(port)
    with everspace.connect(fresh.url, fresh.root_token) as client:
        spaces = [client.spaces.create(f"space {number}").vid for number in range(3)]
    done = dict.fromkeys(spaces, 0)
    failures: list[BaseException] = []
    enough = threading.Event()

    def work(vid: int) -> None:
        try:
            with everspace.connect(fresh.url, fresh.root_token, timeout=120.0, respawn=True) as client:
                space = client.spaces.get(vid)
                while not enough.is_set():
                    space.mmap(0, PAGE, MAPPING["prot"], MAPPING["flags"])
                    done[vid] += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    workers = [threading.Thread(target=work, args=(vid,)) for vid in spaces]
    for worker in workers:
        worker.start()
    for _ in range(6):
        time.sleep(0.3 * rng.random())
        fresh.kill()
        fresh.start(port)
    enough.set()
    for worker in workers:
        worker.join(150)
    assert failures == []
    assert {vid: mapped(fresh, vid) for vid in spaces} == done
    print(f"done once: {done}")
    assert all(done.values()), json.dumps(done)
