"""kill -9 at every seam and at random moments: what was acknowledged is there, every transaction whole or absent."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from engine.changes import Change
from engine.geometry import X86_64
from storage import open_store
from storage.failpoints import FAILPOINTS, KILLPOINTS, VARIABLE
from storage.fsck import check_dir
from storage.memory import MemoryStore

CHILD = Path(__file__).with_name("crash_child.py")
Transaction = Callable[[int, int], list[Change]]


def load_child() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crash_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


child = load_child()


def start(
    data_dir: Path, seed: int, count: int, *options: str, failpoint: str = ""
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(data_dir), str(seed), str(count), *options],
        stdout=subprocess.PIPE,
        env={**os.environ, VARIABLE: failpoint},
    )


def acknowledged(process: "subprocess.Popen[bytes]") -> int:
    """The greatest number that the child said is durable; 0 when it said nothing."""
    out, _ = process.communicate()
    lines = out.decode().split("\n")[:-1]
    return int(lines[-1]) if lines else 0


def reached(data_dir: Path) -> int:
    """The last transaction in the store, by the mark in its page."""
    store = open_store(data_dir, X86_64)
    mark = store.fetch(1, [0]).get(0, bytes(8))
    store.close()
    return int.from_bytes(mark[:8], "little")


def verify(data_dir: Path, seed: int, last: int) -> None:
    """The directory is sound and holds exactly transactions 1 to `last`."""
    assert list(check_dir(data_dir)) == []
    expected = MemoryStore(X86_64)
    expected.commit([child.transaction(seed, number) for number in range(1, last + 1)])
    store = open_store(data_dir, X86_64)
    assert store.load() == expected.load()
    clones = [child.CLONES + number for number in range(last + 2)]
    for object_id in (*range(1, last + 3), *clones):
        wanted = range(child.PAGES + 1) if object_id == 1 or object_id in clones else [object_id - 1]
        assert store.fetch(object_id, wanted) == expected.fetch(object_id, wanted)
    store.close()
    assert list(check_dir(data_dir)) == []


@pytest.mark.parametrize("passage", [1, 2, 9, 30])
@pytest.mark.parametrize(
    "name", [name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith(("commit.", "merge."))]
)
def test_killed_at_a_seam(tmp_path: Path, name: str, passage: int) -> None:
    process = start(tmp_path, 1, 400, "eager", failpoint=f"{name}:{passage}")
    durable = acknowledged(process)
    assert process.returncode == -signal.SIGKILL
    last = reached(tmp_path)
    assert durable <= last <= durable + 4
    verify(tmp_path, 1, last)


@pytest.mark.parametrize("name", [name for name in (*FAILPOINTS, *KILLPOINTS) if name.startswith("create.")])
def test_killed_while_the_store_is_made(tmp_path: Path, name: str) -> None:
    process = start(tmp_path, 1, 4, failpoint=name)
    assert acknowledged(process) == 0
    assert process.returncode == -signal.SIGKILL
    assert acknowledged(start(tmp_path, 1, 4)) == 4
    verify(tmp_path, 1, 4)


def test_every_seam_is_passed(tmp_path: Path) -> None:
    """Each name in the list is one that the process meets, so that no test above waits for nothing."""
    for name in (*FAILPOINTS, *KILLPOINTS):
        if name.startswith(("migrate.", "recover.")):
            continue  # test_migration.py and tests/crash kill there
        process = start(tmp_path / name, 1, 40, failpoint=name)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, name


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("eager",)], ids=["", "eager"])
def test_killed_at_random_moments(tmp_path: Path, seed: int, options: tuple[str, ...]) -> None:
    """One directory lives through many deaths: each child goes on where the last one was killed."""
    rng = random.Random(seed)
    durable = 0
    for _ in range(12):
        process = start(tmp_path, seed, 40_000, *options)
        assert process.stdout is not None
        first = int(process.stdout.readline())
        timer = threading.Timer(rng.uniform(0.0, 0.5), process.kill)
        timer.start()
        durable = max(first, acknowledged(process))
        timer.cancel()
        assert process.returncode == -signal.SIGKILL
        last = reached(tmp_path)
        assert durable <= last <= durable + 4
        durable = last
    verify(tmp_path, seed, durable)
