"""Arguments of the calls as JSON has them: strict, and closed against unknown members."""

from typing import Annotated, Any

from pydantic import Field

from app.calls.fields import (
    Address,
    Args,
    AttachType,
    Lifetime,
    LimitValue,
    Resource,
    Seconds,
    Sharing,
    Tid,
    Word,
    WordAddress,
)
from engine.constants import MS_SYNC, RLIM_INFINITY
from everspace.wire import LEASE_SECONDS_DEFAULT


class VasCreate(Args):
    """vas_create."""

    name: str
    mode: int
    sharing: Sharing = "exclusive"
    lifetime: Lifetime = "persistent"


class SegCreate(Args):
    """vas_seg_create; [start, end) is page aligned."""

    name: str
    start: Address
    end: Address
    mode: int
    sharing: Sharing = "exclusive"
    lifetime: Lifetime = "persistent"


class SetAttr(Args):
    """vas_setattr and vas_seg_setattr; null or absent leaves as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    sharing: Sharing | None = None
    name: str | None = None
    lifetime: Lifetime | None = None

    def given(self) -> tuple[Any, ...]:
        """In the order of the calls."""
        return self.mode, self.uid, self.gid, self.sharing, self.name, self.lifetime


class NewName(Args):
    """vas_clone, vas_snapshot and the same for segments."""

    name: str


class SegAttach(Args):
    """vas_seg_attach."""

    type: AttachType


class VasAttach(Args):
    """vas_attach."""

    type: AttachType
    lazy: bool = True


class Spawn(Args):
    """A new task; `lease_s` in seconds, 1 to 86400."""

    name: str | None = None
    lease_s: Seconds = LEASE_SECONDS_DEFAULT


class OfThread(Args):
    """A call of one thread."""

    tid: Tid = None


class Nothing(Args):
    """A call without arguments."""


class Switch(Args):
    """vas_switch; `timeout_s` in seconds, null waits without end."""

    vid: int
    timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class VasFork(OfThread):
    """vas_fork; by default the space is named after the task."""

    name: str | None = None


class VasExec(Args):
    """vas_exec."""

    vid: int


class SwitchAs(OfThread):
    """switch_as."""

    n: int


class Mmview(OfThread):
    """mmview: `id` goes with DELETE and MIGRATE, `addr` and `len` with UNSHARE and SHARE, none of them with the others."""

    op: int
    id: int | None = None
    addr: WordAddress | None = None
    len: Word | None = None


class OfView(OfThread):
    """mmview_migrate and mmview_delete."""

    id: int


class MmviewUnshare(OfThread):
    """mmview_unshare: `len` bytes from `addr`."""

    addr: WordAddress
    len: Word


class Malloc(OfThread):
    """vas_malloc: `size` in bytes; null takes the only segment that is attached rw."""

    size: Word
    sid: int | None = None


class Place(Args):
    """Where a root points."""

    addr: Address


class SpaceMmap(Args):
    """as_mmap, into a space from outside; prot and flags as those of mmap."""

    addr: WordAddress
    length: Word
    prot: Word
    flags: Word


class SpaceRange(Args):
    """as_munmap: `length` bytes from `addr`."""

    addr: WordAddress
    length: Word


class SpaceMprotect(SpaceRange):
    """as_mprotect."""

    prot: Word


class Mmap(OfThread):
    """mmap(2); prot and flags are those of Linux on x86-64."""

    addr: WordAddress
    length: Word
    prot: Word
    flags: Word


class Range(OfThread):
    """munmap(2), mincore(2) and munlock(2): `length` bytes from `addr`."""

    addr: WordAddress
    length: Word


class Mprotect(Range):
    """mprotect(2)."""

    prot: Word


class Mremap(OfThread):
    """mremap(2); `new_addr` counts with MREMAP_FIXED and MREMAP_DONTUNMAP."""

    old_addr: WordAddress
    old_size: Word
    new_size: Word
    flags: Word = 0
    new_addr: WordAddress = 0


class Madvise(Range):
    """madvise(2), and the advice MADV_VAS_PRIVATE and MADV_VAS_SHARED."""

    advice: Word


class Mlock(Range):
    """mlock2(2); flags 0 or MLOCK_ONFAULT."""

    flags: Word = 0


class Brk(OfThread):
    """brk(2); 0 asks for the present break."""

    addr: WordAddress = 0


class Msync(OfThread):
    """msync(2); length 0 means the whole space."""

    addr: WordAddress = 0
    length: Word = 0
    flags: Word = MS_SYNC


class Prlimit(Args):
    """prlimit(2): a value that is absent or null leaves the limit as it is; 2**64 - 1 is no limit."""

    resource: Resource
    value: int | None = None


class SetLimits(Args):
    """Limits in bytes, `map_count` in regions. Null: no limit; what is absent stays as it is."""

    address_space: LimitValue = None
    data: LimitValue = None
    stack: LimitValue = None
    locked: LimitValue = None
    map_count: LimitValue = None

    def given(self) -> dict[str, int]:
        """The limits that are to be set."""
        values = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        return {name: RLIM_INFINITY if value is None else value for name, value in values.items()}
