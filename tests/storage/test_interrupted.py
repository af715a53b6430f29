"""Backup, restore and compaction, killed at system calls or refused by them: what there was, or what there was to be."""

import errno
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from engine.geometry import X86_64
from storage import open_store
from storage.upkeep.backup import back_up_store
from storage.upkeep.restoring import restore
from tests.crash.below import Call, Watched
from tests.crash.victims import ROOT, environment
from tests.crash.workload import Expectation, transaction

SEED = 7
EARLIER, LAST = 8, 13
"""Transactions in the backup that there is, and in the directory."""
COMMANDS = {
    "backup": ("backup", "data", "backup"),
    "restore": ("restore", "backup", "new"),
    "restore over": ("restore", "--force", "backup", "data"),
    "compact": ("compact", "data"),
}
CODES = (errno.EIO, errno.ENOSPC)
HEAD, TAIL, BETWEEN = 2, 8, 3
"""Calls at the beginning and at the end that are tried, and how many between them."""


@dataclass
class Moment:
    """Ends or refuses the n-th call that changes something below a folder."""

    folder: Path
    n: int = 0
    code: int = 0
    """errno of the refusal, 0: SIGKILL."""
    met: int = 0

    def __call__(self, call: Call) -> int:
        if not call.path.startswith(str(self.folder)) or (call.name == "openat" and not call.writes):
            return 0
        self.met += 1
        if self.met != self.n:
            return 0
        if not self.code:
            os.kill(call.pid, signal.SIGKILL)
        return self.code


def run(command: str, folder: Path, moment: Moment) -> tuple[int, str]:
    """(status, what it said on standard error) of a command in a folder."""
    words = [
        str(folder / word) if word in ("data", "new", "backup") else word for word in COMMANDS[command][1:]
    ]
    script = [str(ROOT / "app" / "cli.py"), COMMANDS[command][0], *words]
    try:
        watched = Watched.start(
            script, moment, environment(), stderr=subprocess.PIPE, preload="tests.crash.workload"
        )
    except OSError as refused:
        pytest.skip(f"calls cannot be watched here: {refused}")
    _, said = watched.process.communicate()
    watched.finish()
    return watched.process.returncode, said.decode()


def holds(command: str, folder: Path, *, done: bool) -> None:
    """The directory, or the backup, is the one or the other, as a whole."""
    last, looked = LAST, folder / "data"
    if command == "backup":
        restore(folder / "backup", folder / "of the backup")
        looked, least = folder / "of the backup", LAST if done else EARLIER
    elif command == "compact":
        least = LAST
    else:
        looked, least = folder / COMMANDS[command][-1], EARLIER
        last = EARLIER if done or command == "restore" else LAST
        there = any((looked / name).exists() for name in ("store.lmdb", "restored"))
        if command == "restore" and not done and not there:
            return
    assert Expectation(SEED).examine(looked, least, last) in (least, last)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup, and a directory with more than that."""
    folder = tmp_path_factory.mktemp("interrupted")
    store = open_store(folder / "data", X86_64)
    for number in range(1, LAST + 1):
        store.commit([transaction(SEED, number)])
        if number == EARLIER:
            back_up_store(store.tables, folder / "data", folder / "backup")
    store.close()
    return folder


def copied(made: Path, folder: Path) -> Path:
    shutil.copytree(made, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_at_a_system_call(made: Path, tmp_path: Path, seed: int, command: str) -> None:
    rng = Random(seed)
    folder = copied(made, tmp_path / "whole")
    moment = Moment(folder)
    assert run(command, folder, moment) == (0, "")
    holds(command, folder, done=True)
    calls = moment.met
    tried = {*range(1, HEAD + 1), *range(calls - TAIL, calls + 1), *rng.sample(range(1, calls + 1), BETWEEN)}
    for n in sorted(number for number in tried if 0 < number <= calls):
        code = (0, *CODES)[n % 3]
        folder = copied(made, tmp_path / str(n))
        moment = Moment(folder, n, code)
        status, said = run(command, folder, moment)
        if code and status:
            assert (status, said.count("\n")) == (2, 1), said
        assert status in ((0, 2) if code else (-signal.SIGKILL, 0)), said
        holds(command, folder, done=not status)
        shutil.rmtree(folder / "of the backup", ignore_errors=True)
        if command == "restore" and (folder / "new" / "store.lmdb").exists():
            continue
        assert run(command, folder, Moment(folder)) == (0, "")
        holds(command, folder, done=True)
