"""The real kernel's side, as seen by the tests: a small process of its own (kernel_child.py) that makes the calls."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.oracle.modes import Mode
from tests.oracle.play import Answer, Record, Region, Step
from tests.oracle.wire import receive, send

ROOT_FOLDER = Path(__file__).parents[2]


class Missing(Exception):  # noqa: N818 - no error of anybody's
    """The machine does not let a process be as a mode wants it."""


class Kernel:
    """The process that stands for the kernel, as seen by the tests. `Missing`: not here."""

    def __init__(self, mode: Mode, *, maps_text: bool = False) -> None:
        command = [sys.executable, "-S", "-m", "tests.oracle.kernel_child", mode.name]
        self._process = subprocess.Popen(
            [*command, *(["--maps-text"] if maps_text else [])],
            cwd=ROOT_FOLDER,
            env={**os.environ, "PYTHONMALLOC": "malloc"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.can: dict[str, Any] = self._answer()
        if "missing" in self.can:
            self.close()
            raise Missing(self.can["missing"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def start(self, steps: Sequence[Step]) -> None:
        """Begin with a sequence; `records` waits for it."""
        assert self._process.stdin is not None
        send(self._process.stdin, [[name, list(args)] for name, args in steps])

    def records(self) -> list[Record]:
        """What the sequence begun last did."""
        return [record(*entry) for entry in self._answer()]

    def run(self, steps: Sequence[Step]) -> list[Record]:
        """A whole sequence."""
        self.start(steps)
        return self.records()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            return receive(self._process.stdout)
        except EOFError as error:
            raise EOFError(f"the kernel's side has ended with status {self._process.wait()}") from error


def record(what: str, answer: Answer, maps: list[Region]) -> Record:
    """A record, its map as tuples again."""
    return what, answer, [(start, end, rights) for start, end, rights in maps]
