"""Processes that crash tests kill, and stores whose system calls they decide."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.failpoints import VARIABLE
from tests.crash.below import Call, Decide, Watched

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "client" / "src")])


def environment() -> dict[str, str]:
    """Of a Python that finds this tree."""
    return {**os.environ, "PYTHONPATH": PATHS, "OPENBLAS_NUM_THREADS": "1"}


class Nursery:
    """`nursery.py`, asked for one victim after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def victim(
        self,
        data_dir: Path,
        seed: int,
        *,
        eager: bool,
        count: int = 40_000,
        failpoint: str = "",
        seconds: float | None = None,
    ) -> tuple[int, bool]:
        """(the last transaction that is surely durable, whether it was killed) of a victim; see nursery.py."""
        order = {"data_dir": str(data_dir), "seed": seed, "count": count, "eager": eager}
        line = json.dumps({**order, "failpoint": failpoint, "seconds": seconds})
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return max(answer["first"], answer["acknowledged"]), answer["killed"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


class Store:
    """A store in a watched process (`obeying.py`).

    Calls on files with this suffix are decided by `decide`, which may be exchanged while no command is under way.
    """

    def __init__(
        self,
        data_dir: Path,
        seed: int,
        *options: str,
        decide: Decide = lambda call: 0,
        suffix: str = "/store.lmdb",
        failpoint: str = "",
    ) -> None:
        self.data_dir = data_dir
        self.decide: Callable[[Call], int] = decide
        self._suffix = suffix
        self._ended = False
        script = [str(HERE / "obeying.py"), str(data_dir), str(seed), *options]
        env = environment() | {VARIABLE: failpoint}
        self._watched = Watched.start(script, self._decide, env, preload="tests.crash.workload")

    def _decide(self, call: Call) -> int:
        return self.decide(call) if call.path.endswith(self._suffix) else 0

    def told(self, command: str) -> str:
        """The answer to a command; empty when the process died."""
        process = self._watched.process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        with suppress(BrokenPipeError):
            process.stdin.write(command.encode() + b"\n")
            process.stdin.flush()
        return process.stdout.readline().decode().strip()

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Idempotent."""
        if not self._ended:
            self._ended = True
            self._watched.kill()
            self._watched.finish()
