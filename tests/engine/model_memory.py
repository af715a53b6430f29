"""The memory calls of the naive model: mmap, munmap, mprotect, brk, msync, loads and stores, page by page."""

from dataclasses import replace

from engine.constants import (
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_STACK,
    MAP_TYPE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    O_RDONLY,
    PROT_ALL,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_SEM,
)
from engine.credentials import Credentials
from engine.regions.vm_flags import ACCOUNT, GROWS_DOWN, LOCK_ON_FAULT, LOCKED, NOHUGEPAGE, NORESERVE
from tests.engine.model_places import Places
from tests.engine.model_state import (
    READ,
    WRITE,
    Cell,
    Owner,
    Page,
    Refused,
    Space,
    Task,
    View,
    held_in,
    limit_of,
    region_of,
)


class MemoryCalls(Places):
    """Calls of a thread on what it sees."""

    def read(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, given: object
    ) -> bytes:
        if length < 0:
            raise Refused("EINVAL")
        cells = self._access(self.view(cred, pid, tid), address, length, READ)
        if not length:
            return b""
        whole = b"".join(cell.data for cell in cells.values())
        return whole[address % self.page :][:length]

    def write(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        address: int,
        data: bytes,
        durable: bool,
        given: object,
    ) -> int:
        cells = self._access(self.view(cred, pid, tid), address, len(data), WRITE)
        self.store(lambda number: cells[number], address, data, durable=durable)
        return len(data)

    def mmap(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        address: int,
        length: int,
        prot: int,
        flags: int,
        given: object,
    ) -> int:
        view = self.view(cred, pid, tid)
        if view.read_only:
            raise Refused("EACCES")
        owner = view.space or view.task
        start = self.place(owner, address, length, flags)
        wanted, kind = self.numbers(start, length), flags & MAP_TYPE
        if flags & MAP_LOCKED and not limit_of(view.task, "locked"):
            raise Refused("EPERM")
        if flags & MAP_LOCKED and owner is view.task and not self.fits_locked(owner, len(wanted)):
            raise Refused("EAGAIN")
        if kind not in (MAP_PRIVATE, MAP_SHARED) or not flags & MAP_ANONYMOUS:
            raise Refused("EINVAL")
        if kind == MAP_SHARED and flags & MAP_GROWSDOWN:
            raise Refused("EINVAL")
        page = self._new_page(owner, prot & PROT_ALL, flags)
        try:
            held = len(held_in(owner.pages, wanted))
            self.require_room(owner, len(wanted) - held, data=page.counts_as_data)
        except Refused as refused:
            self.cut(owner, wanted.start)
            self.cut(owner, wanted.stop)
            refused.partial = True
            raise
        self.take(owner, wanted)
        if page.memory:
            self.memories[page.memory] = [self.zero_cell() for _ in wanted]
        new = {}
        for position, vpn in enumerate(wanted):
            cell = self.memories[page.memory][position] if page.memory else self.zero_cell()
            new[vpn] = replace(page, cell=cell, index=position if page.memory else vpn)
        self.put(owner, new)
        if flags & (MAP_POPULATE | MAP_LOCKED):
            self.populate(view, wanted)
        return start

    def munmap(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, given: object
    ) -> None:
        view = self.view(cred, pid, tid)
        if address % self.page or length <= 0 or address < 0 or address + length > self.geometry.user_end:
            raise Refused("EINVAL")
        self.unmap(view, self.numbers(address, length))

    def unmap(self, view: View, numbers: range) -> None:
        """Drop what is seen there. EACCES: the space is read-only; EBUSY: a segment."""
        space = view.space
        if space is not None and held_in(space.pages, numbers):
            if view.read_only:
                raise Refused("EACCES")
            if any(space.pages[vpn].sid for vpn in held_in(space.pages, numbers)):
                raise Refused("EBUSY")
        for owner, part in view.seen(numbers):
            self.take(owner, part)

    def mprotect(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        address: int,
        length: int,
        prot: int,
        given: object,
    ) -> None:
        view = self.view(cred, pid, tid)
        grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
        if address % self.page or length < 0 or address < 0 or grows == PROT_GROWSDOWN | PROT_GROWSUP:
            raise Refused("EINVAL")
        if not length:
            return
        if prot & ~(PROT_ALL | PROT_SEM | grows):
            raise Refused("EINVAL")
        numbers = self.numbers(address, length)
        if grows == PROT_GROWSUP:
            raise Refused("ENOMEM" if view.find(numbers.start) is None else "EINVAL")
        if grows:
            numbers = self._from_the_stack_s_start(view, numbers)
        position = numbers.start
        while position in numbers:
            partial = position > numbers.start
            found = view.find(position)
            if found is None:
                raise Refused("ENOMEM", position * self.page, partial=partial)
            owner, page = found
            part = range(position, min(region_of(owner.pages, position).stop, numbers.stop))
            try:
                self._protect(view, owner, page, part, prot & PROT_ALL)
            except Refused as refused:
                refused.partial = partial
                raise
            position = part.stop

    def _from_the_stack_s_start(self, view: View, numbers: range) -> range:
        pages = view.task.pages
        first = min((vpn for vpn in pages if vpn >= numbers.start), default=numbers.stop)
        if first >= numbers.stop:
            raise Refused("ENOMEM")
        start = region_of(pages, first).start
        if not pages[start].flags & GROWS_DOWN:
            raise Refused("EINVAL")
        return range(start, numbers.stop)

    def _protect(self, view: View, owner: Owner, page: Page, part: range, prot: int) -> None:
        writable = bool(prot & WRITE)
        if (owner is view.space and view.read_only) or (page.sid and page.type == O_RDONLY and writable):
            raise Refused("EACCES")
        flags = page.flags
        becomes = writable and not page.prot & WRITE
        becomes_data = becomes and replace(page, prot=prot).counts_as_data
        if becomes_data and self.fits(owner, len(part)) and not self.fits_data(owner, len(part)):
            raise Refused("ENOMEM")
        if becomes and not page.shared and not flags & (ACCOUNT | NORESERVE) and owner is view.task:
            flags |= ACCOUNT
        if not writable and not page.shared and not page.anon and prot != page.prot:
            flags &= ~ACCOUNT
        self.change(owner, part, prot, flags)
        if becomes and not page.shared and flags & (LOCKED | LOCK_ON_FAULT) == LOCKED:
            self.populate(view, part)

    def change(self, owner: Owner, part: range, prot: int, flags: int) -> None:
        """Give pages of one region other rights and flags."""
        pages = owner.pages
        if (prot, flags) != (pages[part.start].prot, pages[part.start].flags):
            self.put(owner, {vpn: replace(pages[vpn], prot=prot, flags=flags) for vpn in part})

    def brk(self, cred: Credentials, pid: int, tid: int | None, address: int, given: object) -> int:
        task = self.view(cred, pid, tid).task
        start, now = task.heap
        if address < start:
            return now
        if address > self.geometry.arena_start or address - start > limit_of(task, "data"):
            raise Refused("ENOMEM")
        old_end, new_end = -(-now // self.page), -(-address // self.page)
        more, less = range(old_end, new_end), range(new_end, old_end)
        if more:
            self._grow_heap(task, more)
        elif less:
            if not held_in(task.pages, less):
                raise Refused("ENOMEM")
            self.take(task, less)
        task.heap = (start, address)
        return address

    def _grow_heap(self, task: Task, more: range) -> None:
        """One page above stays free, a stack's gap too. The new pages are one with the rest of the heap only."""
        wanted = range(more.start, more.stop + 1)
        for pages in (task.pages, *self.peers(task)):
            if held_in(pages, wanted):
                raise Refused("ENOMEM")
            above = min((vpn for vpn in pages if vpn >= wanted.stop), default=None)
            if above is not None and any(vpn in wanted for vpn in self.gap(pages, above)):
                raise Refused("ENOMEM")
        self.require_room(task, len(more), data=True)
        heap = {vpn: Page(self.zero_cell(), READ | WRITE, 0, vpn, flags=ACCOUNT) for vpn in more}
        self.put(task, heap, left=more.start * self.page > task.heap[0], right=False)

    def msync(
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
        known = MS_ASYNC | MS_INVALIDATE | MS_SYNC
        if address % self.page or length < 0 or flags & ~known or flags & 5 == 5:
            raise Refused("EINVAL")
        wanted = self.numbers(address, length or self.geometry.user_end)
        parts = view.seen(wanted)
        for owner, part in parts:
            if length and flags & MS_INVALIDATE and owner.pages[part.start].flags & LOCKED:
                raise Refused("EBUSY", partial=True)
            for cell in self.cells(owner, part):
                cell.durable = cell.data
        if length and sum(len(part) for _, part in parts) < len(wanted):
            raise Refused("ENOMEM", partial=True)

    # -- what the calls share ------------------------------------------------------------------------------------

    def cells(self, owner: Owner, part: range) -> list[Cell]:
        """The cells of a part of a region; behind the end of shared memory there are none."""
        found = [owner.pages[vpn].cell for vpn in part]
        return [cell for cell in found if cell is not None]

    def populate(self, view: View, numbers: range, *, strict: bool = False) -> None:
        """What can be accessed gets its pages as by an access; `strict`: what cannot be is ENOMEM."""
        for owner, part in view.seen(numbers):
            page = owner.pages[part.start]
            if page.flags & LOCK_ON_FAULT:
                continue
            rights = view.rights(owner, page)
            if strict and (not rights or len(self.cells(owner, part)) < len(part)):
                raise Refused("ENOMEM", partial=True)
            if rights & WRITE:
                self.mark(owner, part.start)

    def _access(self, view: View, address: int, length: int, wanted: int) -> dict[int, Cell]:
        """The cells that an access touches, by page number; EFAULT at the first byte that refuses.

        Nothing is written then. But a stack that was to grow has grown, or is marked at least; and what lay before it
        is marked as written before that.
        """
        cells: dict[int, Cell] = {}
        marked: list[tuple[Owner, int]] = []
        tried = False
        for vpn in self.numbers(address, length) if length else ():
            found = view.find(vpn)
            if found is None and self.stack_above(view, vpn) is not None:
                self._mark_all(marked)
                tried = True
                self.grow_stack(view, vpn)
                found = view.find(vpn)
            rights = view.rights(*found) if found is not None else 0
            cell = found[1].cell if found is not None else None
            if found is None or cell is None or not rights & (WRITE if wanted == WRITE else READ | WRITE):
                raise Refused("EFAULT", max(address, vpn * self.page), partial=tried)
            if wanted == WRITE:
                marked.append((found[0], vpn))
            cells[vpn] = cell
        self._mark_all(marked)
        return cells

    def _mark_all(self, pages: list[tuple[Owner, int]]) -> None:
        for owner, vpn in pages:
            self.mark(owner, vpn)
        pages.clear()

    def _new_page(self, owner: Owner, prot: int, flags: int) -> Page:
        """What all pages of a new region have in common. A space keeps no flags."""
        shared = flags & MAP_TYPE == MAP_SHARED
        if isinstance(owner, Space):
            return Page(None, prot, 0, 0, shared)
        kept = LOCKED if flags & MAP_LOCKED else 0
        if flags & MAP_STACK and self.geometry.has_huge_pages:
            kept |= NOHUGEPAGE
        if flags & MAP_NORESERVE:
            kept |= NORESERVE
        elif prot & WRITE and not shared:
            kept |= ACCOUNT
        if flags & MAP_GROWSDOWN:
            kept |= GROWS_DOWN
        return Page(None, prot, self.new_number() if shared else 0, 0, shared, flags=kept)
