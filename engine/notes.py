"""Notes: one for each thing that a settled transaction changed, for those who follow the machine.

A note is (kind, members). Members are names and numbers: `vid`, `sid`, `pid`, `tid`, `uid` and what the kind has
beside them; `ranges` are address ranges. chronicle.py derives what concerns the store; what is volatile, as tasks and
attachments are, the calls tell the journal in one line: `journal.note(kind, **members)`.
"""

from collections.abc import Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, Final

import numpy as np

Note = tuple[str, dict[str, Any]]
Span = tuple[int, int]
"""Pages [first, end) of an object."""

RANGES_MAX: Final = 16
"""Ranges of one note. What was written in more places is told by wider ones."""


class Audience(Enum):
    """Who may be told."""

    EVERYBODY = 1
    READERS = 2
    """Whom the mode of the space or the segment lets read."""
    SAME_UID = 3
    """The uid of the task, and root."""


KINDS: Final[Mapping[str, Audience]] = {
    "space.created": Audience.EVERYBODY,
    "space.cloned": Audience.EVERYBODY,
    "space.snapshot": Audience.EVERYBODY,
    "space.changed": Audience.EVERYBODY,
    "space.deleted": Audience.EVERYBODY,
    "space.reset": Audience.EVERYBODY,
    "space.attached": Audience.EVERYBODY,
    "space.detached": Audience.EVERYBODY,
    "space.regions": Audience.READERS,
    "space.written": Audience.READERS,
    "space.root": Audience.READERS,
    "segment.created": Audience.EVERYBODY,
    "segment.cloned": Audience.EVERYBODY,
    "segment.snapshot": Audience.EVERYBODY,
    "segment.changed": Audience.EVERYBODY,
    "segment.deleted": Audience.EVERYBODY,
    "segment.reset": Audience.EVERYBODY,
    "segment.attached": Audience.EVERYBODY,
    "segment.detached": Audience.EVERYBODY,
    "segment.written": Audience.READERS,
    "task.spawned": Audience.SAME_UID,
    "task.forked": Audience.SAME_UID,
    "task.exec": Audience.SAME_UID,
    "task.exited": Audience.SAME_UID,
    "task.expired": Audience.SAME_UID,
    "thread.started": Audience.SAME_UID,
    "thread.exited": Audience.SAME_UID,
    "thread.switched": Audience.SAME_UID,
    "view.created": Audience.SAME_UID,
    "view.deleted": Audience.SAME_UID,
    "view.switched": Audience.SAME_UID,
    "view.base": Audience.SAME_UID,
    "view.unshared": Audience.SAME_UID,
    "view.shared": Audience.SAME_UID,
    "slot.created": Audience.SAME_UID,
    "slot.switched": Audience.SAME_UID,
}
"""Every kind of note. docs/events.md has an example of each."""


def spans_of(pages: tuple[int, ...]) -> list[Span]:
    """Runs of consecutive pages, which ascend and are unique; not more than RANGES_MAX, wider ones if need be."""
    first, last = pages[0], pages[-1]
    if last - first + 1 == len(pages):
        return [(first, last + 1)]
    numbers = np.array(pages, np.int64)
    edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(pages)]
    return joined([(pages[low], pages[high - 1] + 1) for low, high in pairwise(edges)])


def joined(spans: list[Span]) -> list[Span]:
    """What covers all of `spans`, ascending and apart; not more than RANGES_MAX: the narrowest gaps are covered, too."""
    apart: list[Span] = []
    for first, end in sorted(spans):
        if apart and first <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(end, apart[-1][1])
        else:
            apart.append((first, end))
    if len(apart) <= RANGES_MAX:
        return apart
    gaps = [right[0] - left[1] for left, right in pairwise(apart)]
    widest = sorted(sorted(range(len(gaps)), key=gaps.__getitem__)[1 - RANGES_MAX :])
    edges = [0, *(position + 1 for position in widest), len(apart)]
    return [(apart[low][0], apart[high - 1][1]) for low, high in pairwise(edges)]
