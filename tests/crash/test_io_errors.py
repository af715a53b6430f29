"""The disk refuses what LMDB asks of it: the commit is answered with a clear error and never was, reading goes on, and
writing works again as soon as the disk does, in the same process.
"""

import errno
import os
import signal
from collections.abc import Callable

import pytest

from tests.crash.below import Call
from tests.crash.conftest import MakeStore
from tests.crash.rounds import Refusals
from tests.crash.victims import Store
from tests.crash.workload import Expectation

META_BYTES = 120
SEED = 7


def is_meta(call: Call) -> bool:
    return call.name == "pwrite" and call.arguments[2] == META_BYTES


KINDS: dict[str, Callable[[Call], bool]] = {
    "pages": lambda call: call.name in ("pwrite", "writev") and not is_meta(call),
    "sync": lambda call: call.name in ("fdatasync", "fsync"),
    "meta": is_meta,
    "everything": lambda call: call.name != "openat",
    "writing and opening": lambda call: call.name != "openat" or call.writes,
}


def sound(store: Store, last: int) -> None:
    """Kill the process: the directory must hold exactly transactions 1 to `last`."""
    store.kill()
    Expectation(SEED).examine(store.data_dir, last, last)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", KINDS)
def test_writing_fails_and_works_again(watched_store: MakeStore, kind: str, code: int) -> None:
    store = watched_store(SEED)
    assert [store.told("commit") for _ in range(3)] == ["ok"] * 3
    store.decide = lambda call: code if KINDS[kind](call) else 0
    for _ in range(3):
        assert store.told("commit") in ("StoreFailed", "StoreFull")
        assert store.told("failing") in ("StoreFailed", "StoreFull")
        assert store.told("check") == "same"
    assert store.told("probe") in ("StoreFailed", "StoreFull")
    store.decide = lambda call: 0
    assert store.told("probe") == "ok"
    assert (store.told("failing"), store.told("check")) == ("no", "same")
    assert [store.told("commit") for _ in range(12)] == ["ok"] * 12
    assert store.told("tidy") == "ok"
    assert store.told("check") == "same"
    sound(store, 15)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_the_nth_call_fails(watched_store: MakeStore, code: int) -> None:
    """n = 1, 2, … until a commit and its chores go through: each time as before, and the next attempt succeeds."""
    store = watched_store(SEED, "eager")
    committed = 0
    failures = n = calm = 0
    while calm < 3:
        n += 1
        store.decide = refusals = Refusals(n, 1, code)
        answers = [store.told("commit"), store.told("tidy")]
        store.decide = lambda call: 0
        assert set(answers) <= {"ok", "StoreFailed", "StoreFull"}
        failures += answers != ["ok", "ok"]
        calm = calm + 1 if refusals.met < n else 0
        committed += answers[0] == "ok"
        assert store.told("check") == "same"
        assert store.told("commit") == "ok"
        committed += 1
    assert failures > 10
    assert store.told("check") == "same"
    sound(store, committed)


@pytest.mark.parametrize("second", range(1, 6))
def test_taking_back_fails_too(watched_store: MakeStore, second: int) -> None:
    """The meta page cannot be written, and a later call of the recovery fails as well."""
    store = watched_store(SEED)
    assert [store.told("commit") for _ in range(3)] == ["ok"] * 3
    calls = 0

    def decide(call: Call) -> int:
        nonlocal calls
        if is_meta(call) or calls:
            calls += 1
        return errno.EIO if calls in (1, second) else 0

    store.decide = decide
    assert store.told("commit") == "StoreFailed"
    store.decide = lambda call: 0
    assert store.told("check") == "same"
    assert store.told("commit") == "ok"
    assert store.told("check") == "same"
    sound(store, 4)


def test_reading_meets_no_error_meanwhile(watched_store: MakeStore) -> None:
    store = watched_store(SEED)
    assert store.told("commit") == store.told("commit") == store.told("watch") == "ok"
    for _ in range(20):
        store.decide = lambda call: errno.EIO if is_meta(call) else 0
        assert store.told("commit") == "StoreFailed"
        store.decide = lambda call: 0
        assert store.told("commit") == "ok"
    assert store.told("seen") == "nothing"
    assert store.told("check") == "same"
    sound(store, 22)


def test_a_commit_that_failed_is_not_there_after_a_crash(watched_store: MakeStore) -> None:
    """Its meta page reached the file before the error was told, and the first attempt to take it back reached nothing."""
    store = watched_store(SEED)
    assert [store.told("commit") for _ in range(3)] == ["ok"] * 3

    def reaches_the_file(call: Call) -> int:
        if not is_meta(call):
            return 0
        with (store.data_dir / "store.lmdb").open("r+b") as file:
            file.seek(call.offset)
            file.write(call.data)
        return errno.EIO

    store.decide = reaches_the_file
    assert store.told("commit") == "StoreFailed"
    store.decide = lambda call: 0
    assert store.told("probe") == "ok"
    assert store.told("check") == "same"
    sound(store, 3)


def test_killed_when_it_was_taken_back(watched_store: MakeStore) -> None:
    store = watched_store(SEED, failpoint="recover.taken_back:2")
    assert [store.told("commit") for _ in range(3)] == ["ok"] * 3
    store.decide = lambda call: errno.EIO if call.name == "fdatasync" else 0
    assert store.told("commit") == "StoreFailed"
    assert store.told("check") == "same"
    assert store.told("commit") == ""
    sound(store, 3)


@pytest.mark.parametrize("place", range(1, 7))
def test_killed_while_it_is_taken_back(watched_store: MakeStore, place: int) -> None:
    """At each call behind the one that failed, which is the last write of the commit."""
    store = watched_store(SEED)
    assert [store.told("commit") for _ in range(3)] == ["ok"] * 3
    behind = 0

    def decide(call: Call) -> int:
        nonlocal behind
        if behind:
            behind += 1
        if behind == place + 1:
            os.kill(call.pid, signal.SIGKILL)
        if not behind and is_meta(call):
            behind = 1
            return errno.EIO
        return 0

    store.decide = decide
    assert store.told("commit") in ("", "StoreFailed")
    sound(store, 3)
