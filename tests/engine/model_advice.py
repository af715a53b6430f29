"""madvise, mlock, mincore and limits of the naive model."""

from engine import constants as c
from engine.credentials import Credentials
from engine.regions import vm_flags as f
from engine.regions.limits import RESOURCES
from tests.engine.model_memory import MemoryCalls
from tests.engine.model_state import READ, WRITE, Owner, Refused, Space, View, limit_of, region_of

SETS = {
    c.MADV_NORMAL: (0, f.RAND_READ | f.SEQ_READ),
    c.MADV_RANDOM: (f.RAND_READ, f.SEQ_READ),
    c.MADV_SEQUENTIAL: (f.SEQ_READ, f.RAND_READ),
    c.MADV_DONTFORK: (f.DONT_COPY, 0),
    c.MADV_DOFORK: (0, f.DONT_COPY),
    c.MADV_DONTDUMP: (f.DONT_DUMP, 0),
    c.MADV_DODUMP: (0, f.DONT_DUMP),
    c.MADV_HUGEPAGE: (f.HUGEPAGE, f.NOHUGEPAGE),
    c.MADV_NOHUGEPAGE: (f.NOHUGEPAGE, f.HUGEPAGE),
    c.MADV_VAS_PRIVATE: (f.VAS_PRIVATE, 0),
    c.MADV_VAS_SHARED: (0, f.VAS_PRIVATE),
}
"""Advice -> flags that a region gets, and those it loses."""
NEVER_LOCKED = (c.MADV_DONTNEED, c.MADV_FREE, c.MADV_REMOVE, c.MADV_COLD, c.MADV_PAGEOUT)
FORGET = (c.MADV_DONTNEED, c.MADV_DONTNEED_LOCKED, c.MADV_FREE)
POPULATE = {c.MADV_POPULATE_READ: READ, c.MADV_POPULATE_WRITE: WRITE}
KNOWN = {*SETS, *NEVER_LOCKED, *FORGET, *POPULATE, c.MADV_WILLNEED, c.MADV_COLLAPSE}
HUGE_PAGES = 512
HUGE = (c.MADV_HUGEPAGE, c.MADV_NOHUGEPAGE, c.MADV_COLLAPSE)


class AdviceCalls(MemoryCalls):
    """Calls that say how memory is to be treated."""

    def madvise(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        address: int,
        length: int,
        advice: int,
        given: object,
    ) -> None:
        view = self.view(cred, pid, tid)
        if advice not in KNOWN or (advice in HUGE and not self.geometry.has_huge_pages):
            raise Refused("EINVAL")
        if address % self.page or address < 0 or length < 0 or address + length > 1 << 63:
            raise Refused("EINVAL")
        numbers = self.numbers(address, length) if length else range(0)
        if advice in POPULATE:
            self._populate_all(view, numbers, POPULATE[advice])
            return
        followed = 0
        for owner, part in view.seen(numbers):
            try:
                self._follow(view, owner, part, advice)
            except Refused as refused:
                refused.partial = part.start > numbers.start
                raise
            followed += len(part)
        if followed < len(numbers):
            raise Refused("ENOMEM", partial=True)

    def _follow(self, view: View, owner: Owner, part: range, advice: int) -> None:
        page = owner.pages[part.start]
        if advice in NEVER_LOCKED and page.flags & f.LOCKED:
            raise Refused("EINVAL")
        if advice == c.MADV_VAS_SHARED and isinstance(owner, Space):
            raise Refused("EINVAL")
        if (advice == c.MADV_FREE and page.shared) or (advice == c.MADV_REMOVE and not page.shared):
            raise Refused("EINVAL")
        if advice == c.MADV_REMOVE and not self._may_ever_write(view, owner, part.start):
            raise Refused("EACCES")
        if advice in SETS and isinstance(owner, Space):
            return
        if advice == c.MADV_COLLAPSE:
            region = region_of(owner.pages, part.start)
            has_room = region.stop // HUGE_PAGES > -(-region.start // HUGE_PAGES)
            if page.flags & f.NOHUGEPAGE or not page.anon or not has_room:
                raise Refused("EINVAL")
        if advice in SETS:
            gained, lost = SETS[advice]
            self.change(owner, part, page.prot, page.flags & ~lost | gained)
        elif advice in FORGET and not page.shared:
            if view.read_only and owner is view.space:
                raise Refused("EACCES")
            self._forget(owner, part, lazily=advice == c.MADV_FREE)
        elif advice == c.MADV_REMOVE:
            self._forget(owner, part, lazily=False)

    def _may_ever_write(self, view: View, owner: Owner, vpn: int) -> bool:
        """Whether mprotect could give the right to write."""
        page = owner.pages[vpn]
        return not (page.sid and page.type == c.O_RDONLY) and not (view.read_only and owner is view.space)

    def _forget(self, owner: Owner, part: range, *, lazily: bool) -> None:
        for cell in self.cells(owner, part):
            if lazily:
                cell.other, cell.kept = self.zeros, False
            else:
                cell.data, cell.durable, cell.other = self.zeros, self.zeros, None

    def _populate_all(self, view: View, numbers: range, wanted: int) -> None:
        position = numbers.start
        while position in numbers:
            partial = position > numbers.start
            found = view.find(position)
            if found is None:
                raise Refused("ENOMEM", partial=partial)
            owner, page = found
            part = range(position, min(region_of(owner.pages, position).stop, numbers.stop))
            if not view.rights(owner, page) & wanted:
                raise Refused("EINVAL", partial=partial)
            if len(self.cells(owner, part)) < len(part):
                there = len(self.cells(owner, part))
                if wanted == WRITE and there:
                    self.mark(owner, position)
                end = (position + there) * self.page
                raise Refused("EFAULT", end, partial=partial or there > 0)
            if wanted == WRITE:
                self.mark(owner, position)
            position = part.stop

    def mlock(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        address: int,
        length: int,
        flags: int,
        given: object,
    ) -> None:
        view = self.view(cred, pid, tid)
        if flags & ~c.MLOCK_ONFAULT:
            raise Refused("EINVAL")
        if not limit_of(view.task, "locked"):
            raise Refused("EPERM")
        numbers = self._lockable_range(address, length)
        locked = sum(
            len(part) for owner, part in view.seen(numbers) if owner.pages[part.start].flags & f.LOCKED
        )
        if not self.fits_locked(view.task, len(numbers) - locked):
            raise Refused("ENOMEM")
        self._lock(view, numbers, f.LOCKED | (f.LOCK_ON_FAULT if flags else 0))
        if not flags:
            self.populate(view, numbers, strict=True)

    def munlock(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, given: object
    ) -> None:
        view = self.view(cred, pid, tid)
        self._lock(view, self._lockable_range(address, length), 0)

    def _lockable_range(self, address: int, length: int) -> range:
        if address < 0 or length < 0:
            raise Refused("EINVAL")
        return self.numbers(address, length)

    def _lock(self, view: View, numbers: range, lock: int) -> None:
        position = numbers.start
        while position in numbers:
            found = view.find(position)
            partial = position > numbers.start
            if found is None:
                raise Refused("ENOMEM", partial=partial)
            owner, page = found
            part = range(position, min(region_of(owner.pages, position).stop, numbers.stop))
            position = part.stop
            if isinstance(owner, Space):
                continue
            try:
                self.change(owner, part, page.prot, page.flags & ~(f.LOCKED | f.LOCK_ON_FAULT) | lock)
            except Refused as refused:
                refused.partial = partial
                raise

    def mincore(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, given: object
    ) -> object:
        """Which pages are resident is not the model's to know; how many answers there are is."""
        view = self.view(cred, pid, tid)
        if address % self.page or address < 0:
            raise Refused("EINVAL")
        if length < 0 or address + length > self.geometry.user_end:
            raise Refused("ENOMEM")
        numbers = self.numbers(address, length) if length else range(0)
        if any(view.find(vpn) is None for vpn in numbers):
            raise Refused("ENOMEM")
        fits = isinstance(given, bytes) and len(given) == len(numbers) and not given.strip(b"\0\1")
        return given if fits else b"\0" * len(numbers)

    def prlimit(self, cred: Credentials, pid: int, resource: str, value: int | None, given: object) -> int:
        task = self.task(cred, pid)
        if resource not in RESOURCES or (value is not None and not 0 <= value <= c.RLIM_INFINITY):
            raise Refused("EINVAL")
        former = limit_of(task, resource)
        if value is not None:
            if cred.uid and value > task.hard[resource]:
                raise Refused("EPERM")
            task.limits[resource] = value
        return former
