"""How many tasks, threads, views and roots there may be: one more is refused, and nothing else happens."""

from collections.abc import Callable

import pytest

from engine.check import check
from engine.constants import ROOTS_MAX, TASKS_MAX, THREADS_MAX, VIEWS_MAX
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import GEOMETRIES
from engine.machine import Machine
from engine.spaces import roots
from engine.tasks import mmview, tasks


@pytest.fixture
def machine() -> Machine:
    return Machine(GEOMETRIES["x86_64"])


def refused(errno: str, call: Callable[[], object]) -> None:
    with pytest.raises(EngineError) as caught:
        call()
    assert caught.value.errno == errno


def test_tasks_are_limited_and_an_exit_makes_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS_MAX", 3)
    first, *_ = (machine.spawn(ROOT, None, 60).pid for _ in range(3))
    before = machine.tasks(ROOT)
    refused("EAGAIN", lambda: machine.spawn(ROOT, None, 60))
    refused("EAGAIN", lambda: machine.fork(ROOT, first))
    assert machine.tasks(ROOT) == before
    machine.exit(ROOT, first)
    machine.spawn(ROOT, None, 60)
    assert list(check(machine)) == []


def test_threads_are_limited(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "THREADS_MAX", 3)
    pid = machine.spawn(ROOT, None, 60).pid
    tid, _ = (machine.thread(ROOT, pid) for _ in range(2))
    refused("EAGAIN", lambda: machine.thread(ROOT, pid))
    machine.exit_thread(ROOT, pid, tid)
    machine.thread(ROOT, pid)
    assert list(check(machine)) == []


def test_views_are_limited(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmview, "VIEWS_MAX", 3)
    pid = machine.spawn(ROOT, None, 60).pid
    number, _ = (machine.mmview_create(ROOT, pid, None) for _ in range(2))
    refused("ENOMEM", lambda: machine.mmview_create(ROOT, pid, None))
    machine.mmview_delete(ROOT, pid, None, number)
    machine.mmview_create(ROOT, pid, None)
    assert list(check(machine)) == []


def test_roots_are_limited_and_those_that_are_there_can_be_set(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "ROOTS_MAX", 2)
    vid = machine.vas_create(ROOT, "space", 0o600)
    for name in ("a", "b", "a"):
        machine.vas_set_root(ROOT, vid, name, 0x10000)
    refused("ENOSPC", lambda: machine.vas_set_root(ROOT, vid, "c", 0x10000))
    assert machine.vas_roots(ROOT, vid).keys() == {"a", "b"}
    machine.vas_delete_root(ROOT, vid, "a")
    machine.vas_set_root(ROOT, vid, "c", 0x10000)


def test_the_numbers_are_as_they_are_documented() -> None:
    assert (TASKS_MAX, THREADS_MAX, VIEWS_MAX, ROOTS_MAX) == (32_768, 4096, 1024, 65_536)
