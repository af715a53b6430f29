"""Named crash seams at the durability edges. They do nothing unless armed, by the environment or by a test.

`EVERSPACE_FAILPOINT=name` (or `name:3` for the third passage) makes the process kill itself with SIGKILL when it gets
there. A test in the same process arms `fail_at(n, error)` instead: the n-th passage of any seam raises `error`.

A seam is written `failpoint("commit.chunks_put")` where an operation can still fail and nothing has been changed, and
`killpoint("commit.synced")` where it can no longer fail, so that only a crash can happen.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "EVERSPACE_FAILPOINT"

FAILPOINTS: Final = (
    "create.begin",
    "create.before_sync",
    "commit.begin",
    "commit.drops_put",
    "commit.chunks_put",
    "commit.rows_put",
    "commit.housekept",
    "merge.staged",
    "recover.taken_back",
    "migrate.begin",
    "migrate.rows_put",
    "backup.begin",
    "backup.log_copied",
    "backup.rows_copied",
    "backup.written",
    "restore.begin",
    "restore.built",
    "restore.synced",
    "compact.begin",
    "compact.built",
    "compact.checked",
    "repair.begin",
    "repair.staged",
)
"""Seams where an operation may still fail."""

KILLPOINTS: Final = (
    "create.synced",
    "commit.synced",
    "commit.published",
    "migrate.synced",
    "backup.renamed",
    "restore.committed",
    "restore.moved",
    "compact.renamed",
    "repair.synced",
)
"""Seams behind the point of no return."""


@dataclass(slots=True)
class Armed:
    """Kill at the `passages`-th passage of `name`, or raise `error` at that passage of any seam."""

    name: str | None
    passages: int
    error: Exception | None = None
    reached: int = 0
    """Passages so far."""


def _parse(seam: str) -> Armed | None:
    name, _, passages = seam.partition(":")
    return Armed(name, int(passages or "1")) if name else None


_armed: Armed | None = _parse(os.environ.get(VARIABLE, ""))


def arm(seam: str) -> None:
    """Arm a seam as the environment does; an empty string arms none."""
    global _armed
    _armed = _parse(seam)


def failpoint(name: str) -> None:
    """A seam where the operation may fail or the process may die."""
    if _armed is not None:
        _reach(_armed, name, may_raise=True)


def killpoint(name: str) -> None:
    """A seam where the process may die."""
    if _armed is not None:
        _reach(_armed, name, may_raise=False)


def _reach(armed: Armed, name: str, *, may_raise: bool) -> None:
    if armed.error is None:
        if name != armed.name:
            return
        armed.reached += 1
        if armed.reached == armed.passages:
            os.kill(os.getpid(), signal.SIGKILL)
    elif may_raise:
        armed.reached += 1
        if armed.reached == armed.passages:
            raise armed.error


@contextmanager
def fail_at(passages: int, error: Exception) -> Iterator[Armed]:
    """Raise `error` at the `passages`-th failpoint that is passed inside the block, whatever its name."""
    global _armed
    before = _armed
    _armed = armed = Armed(None, passages, error)
    try:
        yield armed
    finally:
        _armed = before
