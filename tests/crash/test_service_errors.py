"""The disk fails under a running service: calls that store are refused with a clear error, all else goes on, /readyz and
/metrics tell, and when the disk is well again the service is, without a restart and without being asked.
"""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.conformance.support.calls import PAGE, HttpTask
from tests.conformance.support.http import Problem
from tests.conformance.support.service import EVERSPACED, run, until
from tests.crash.below import Call
from tests.crash.serving import WatchedService
from tests.e2e.writers import PAGES, SYNCED, Writer

META_BYTES = 120


def is_meta(call: Call) -> bool:
    return call.name == "pwrite" and call.arguments[2] == META_BYTES


FAULTS: dict[str, tuple[int, Callable[[Call], bool]]] = {
    "the sync fails": (errno.EIO, lambda call: call.name == "fdatasync"),
    "the last write of a commit fails": (errno.EIO, is_meta),
    "the disk is full": (errno.ENOSPC, lambda call: call.name in ("pwrite", "writev", "fallocate")),
    "the file system became read-only": (errno.EROFS, lambda call: call.name != "openat" or call.writes),
}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedService]:
    """A watched service that runs."""
    made = WatchedService(tmp_path / "data")
    try:
        made.start()
    except OSError as refused:
        pytest.skip(f"calls cannot be watched here: {refused}")
    yield made
    made.close()
    assert "Traceback" not in made.said()


def told(service: WatchedService, path: str) -> str:
    answer = service.http().request("GET", path)
    assert answer.status == 200, answer
    return answer.text


def failing(service: WatchedService) -> bool:
    metric = [
        line for line in told(service, "/metrics").splitlines() if line.startswith("everspace_store_failing ")
    ]
    ready = told(service, "/readyz")
    assert metric in (["everspace_store_failing 1.0"], ["everspace_store_failing 0.0"])
    return metric == ["everspace_store_failing 1.0"] and "writing fails" in ready


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_service_outlives_a_disk_that_fails(watched: WatchedService, seed: int, fault: str) -> None:
    code, concerns = FAULTS[fault]
    rng, writer = Random(seed), Writer(0)
    writer.prepare(watched)
    task = HttpTask.spawn(watched.http())
    task.vas_attach(0, writer.vid, 2)
    task.vas_switch(writer.vid)
    for _ in range(10):
        writer.store(task, rng)
    assert not failing(watched)

    watched.decide = lambda call: code if concerns(call) else 0
    for _ in range(3):
        with pytest.raises(Problem) as caught:
            writer.store(task, rng)
        assert caught.value.errno in ("EIO", "ENOSPC")
        assert caught.value.document["detail"]
        writer.maybe = None
        behind = PAGES * PAGE - SYNCED * PAGE
        found = task.read(writer.start + SYNCED * PAGE, behind)
        assert found == bytes(writer.sure.data[SYNCED * PAGE :])
    with pytest.raises(Problem):
        task.vas_create("refused", 0o600)
    assert failing(watched)
    assert watched.http().request("GET", "/healthz").status == 200
    assert {item["name"] for item in watched.http().get("/v1/vas")["items"]} == {"writer 0"}

    watched.decide = lambda call: 0
    until("it notices by itself", lambda: not failing(watched), 30)
    assert told(watched, "/readyz") == "ready\n"
    for _ in range(5):
        writer.store(task, rng)
    watched.kill()
    checked = run([EVERSPACED, "fsck", str(watched.data_dir)])
    assert (checked.returncode, checked.stderr) == (0, ""), checked
    watched.start()
    writer.compare(watched)
