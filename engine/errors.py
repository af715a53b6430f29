"""What the engine refuses, with the errno of the source.

EngineError                 errno, detail, data
├── PageFault               EFAULT: a load or store hit no mapping, or one without the right
└── Collision               a range is held by another region (EFAULT, EEXIST, ENOMEM, EBUSY by call)
PagesNeeded                 not an error: pages to be fetched before the call is run again
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from engine.address import VirtRange

EACCES = "EACCES"
EAGAIN = "EAGAIN"
EBUSY = "EBUSY"
EDQUOT = "EDQUOT"
EEXIST = "EEXIST"
EFAULT = "EFAULT"
EINVAL = "EINVAL"
EIO = "EIO"
ENOENT = "ENOENT"
ENOMEM = "ENOMEM"
ENOSPC = "ENOSPC"
EPERM = "EPERM"
ESRCH = "ESRCH"


class EngineError(Exception):
    """A call was refused.

    `errno` is the name ("EBUSY"), `detail` one sentence, `data` what a program needs (addresses, ranges, holder).
    `partial` says that the call keeps what it did before it failed, as Linux's mprotect does; else nothing changed.
    """

    def __init__(self, errno: str, detail: str, *, partial: bool = False, **data: object) -> None:
        super().__init__(f"{errno}: {detail}")
        self.errno = errno
        self.detail = detail
        self.partial = partial
        self.data = data


class PageFault(EngineError):  # noqa: N818 - the field's term
    """A load or store failed at `address`, the first byte that could not be accessed. Nothing was stored.

    `partial`: a stack has grown on the way, and stays so.
    """

    def __init__(self, address: int, access: str, reason: str, *, partial: bool = False) -> None:
        super().__init__(
            EFAULT,
            f"{access} fault at {address:#x}: {reason}",
            partial=partial,
            address=address,
            access=access,
            reason=reason,
        )
        self.address = address


class Collision(EngineError):  # noqa: N818 - the field's term
    """The wanted range overlaps a region of `holder`; both ranges are named."""

    def __init__(self, errno: str, wanted: VirtRange, held: VirtRange, holder: str) -> None:
        super().__init__(
            errno,
            f"{wanted} collides with {held} of {holder}",
            address=max(wanted.start, held.start),
            wanted=wanted,
            held=held,
            holder=holder,
        )
        self.wanted = wanted
        self.held = held
        self.holder = holder


class Lacking(Protocol):
    """Memory whose pages are fetched on demand. `pending`: the last transaction that changed it; `epoch` counts evictions."""

    pending: int
    epoch: int

    def supply(self, need: "PagesNeeded", pages: dict[int, bytes]) -> None:
        """Take the pages of `need` that exist; the others are zeros."""

    def pin(self, need: "PagesNeeded") -> None:
        """What the call needs stays resident once it is, until `unpin`."""

    def unpin(self, need: "PagesNeeded") -> None:
        """Undo one `pin` of the same need."""

    @property
    def gone(self) -> bool:
        """Whether nobody can ask for it any more."""


class PagesNeeded(Exception):  # noqa: N818 - the field's term
    """Pages that the store has are not resident: fetch them, `Machine.supply` them, run the call again.

    `pages` are page indexes of the store's object `object_id`, ascending and unique; `memory` is what lacks them.
    `epoch` proves at supply that nothing was evicted meanwhile. `spans` are the ranges (first, count) that the call
    looks at, those of its pages that are resident among them.
    """

    def __init__(
        self,
        object_id: int,
        pages: Sequence[int],
        epoch: int,
        memory: "Lacking",
        spans: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__(f"object {object_id}: {len(pages)} pages from {pages[0]}")
        self.spans = tuple(spans)
        self.object_id = object_id
        self.pages = list(pages)
        self.epoch = epoch
        self.memory = memory

    def widened(self, pages: Sequence[int]) -> "PagesNeeded":
        """The same need for other pages."""
        return PagesNeeded(self.object_id, pages, self.epoch, self.memory, self.spans)

    def parts(self, size: int) -> Iterator["PagesNeeded"]:
        """The same need in parts of at most `size` pages, each as of the moment when it is asked for."""
        for first in range(0, len(self.pages), size):
            pages = self.pages[first : first + size]
            yield PagesNeeded(self.object_id, pages, self.memory.epoch, self.memory, self.spans)

    def joined(self, other: "PagesNeeded") -> "PagesNeeded":
        """What this and `other` need of the same memory."""
        pages, spans = sorted({*self.pages, *other.pages}), dict.fromkeys((*self.spans, *other.spans))
        return PagesNeeded(self.object_id, pages, self.epoch, self.memory, tuple(spans))
