"""The memory calls of the naive model: mmap and its family, loads and stores, page by page."""

from dataclasses import replace

from engine.constants import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_TYPE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    O_RDONLY,
    PROT_ALL,
)
from engine.credentials import Credentials
from tests.engine.model_state import READ, WRITE, Cell, Page, Refused, Space, State, Task, held_in


class MemoryCalls(State):
    """Calls of a thread on what it sees."""

    def read(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, given: object
    ) -> bytes:
        if length < 0:
            raise Refused("EINVAL")
        cells = self._access(cred, pid, tid, address, length, READ)
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
        cells = self._access(cred, pid, tid, address, len(data), WRITE)
        self._store(lambda number: cells[number], address, data, durable=durable)
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
        task, space, read_only = self.view(cred, pid, tid)
        if read_only:
            raise Refused("EACCES")
        owner = space or task
        start = self._place(owner, address, length, flags)
        kind = flags & MAP_TYPE
        if kind not in (MAP_PRIVATE, MAP_SHARED) or not flags & MAP_ANONYMOUS:
            raise Refused("EINVAL")
        if kind == MAP_SHARED and flags & MAP_GROWSDOWN:
            raise Refused("EINVAL")
        memory = self._new_memory() if kind == MAP_SHARED and space is None else 0
        grows = bool(flags & MAP_GROWSDOWN) and space is None
        for vpn in self.numbers(start, length):
            owner.pages[vpn] = Page(
                self._zero_cell(), prot & PROT_ALL, memory, vpn, kind == MAP_SHARED, grows=grows
            )
        return start

    def munmap(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, given: object
    ) -> None:
        task, space, read_only = self.view(cred, pid, tid)
        if address % self.page or length <= 0 or address < 0 or address + length > self.geometry.user_end:
            raise Refused("EINVAL")
        went = self.numbers(address, length)
        if space is not None and held_in(space.pages, went):
            if read_only:
                raise Refused("EACCES")
            if any(space.pages[vpn].sid for vpn in held_in(space.pages, went)):
                raise Refused("EBUSY")
        for pages in (task.pages,) if space is None else (task.pages, space.pages):
            for vpn in held_in(pages, went):
                del pages[vpn]

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
        task, space, read_only = self.view(cred, pid, tid)
        if address % self.page or length < 0 or address < 0:
            raise Refused("EINVAL")
        if length and prot & ~PROT_ALL:
            raise Refused("EINVAL")
        for vpn in self.numbers(address, length):
            partial = vpn * self.page > address
            inside = space is not None and vpn in space.pages
            pages = space.pages if space is not None and inside else task.pages
            if vpn not in pages:
                raise Refused("ENOMEM", vpn * self.page, partial=partial)
            page = pages[vpn]
            if (inside and read_only) or (page.sid and page.type == O_RDONLY and prot & WRITE):
                raise Refused("EACCES", partial=partial)
            pages[vpn] = replace(page, prot=prot)

    def brk(self, cred: Credentials, pid: int, tid: int | None, address: int, given: object) -> int:
        task, _, _ = self.view(cred, pid, tid)
        start, now = task.heap
        if address < start:
            return now
        if address > self.geometry.arena_start:
            raise Refused("ENOMEM")
        old_end, new_end = -(-now // self.page), -(-address // self.page)
        more, less = range(old_end, new_end), range(new_end, old_end)
        if any(held_in(pages, more) for pages in (task.pages, *self.peers(task))):
            raise Refused("ENOMEM")
        for vpn in more:
            task.pages[vpn] = Page(self._zero_cell(), READ | WRITE, 0, vpn)
        for vpn in less:
            task.pages.pop(vpn, None)
        task.heap = (start, address)
        return address

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
        task, space, _ = self.view(cred, pid, tid)
        known = MS_ASYNC | MS_INVALIDATE | MS_SYNC
        if address % self.page or length < 0 or flags & ~known or flags & 5 == 5:
            raise Refused("EINVAL")
        pages = task.pages | (space.pages if space is not None else {})
        wanted = self.numbers(address, length or self.geometry.user_end)
        for vpn in held_in(pages, wanted):
            pages[vpn].cell.durable = pages[vpn].cell.data
        if length and any(vpn not in pages for vpn in wanted):
            raise Refused("ENOMEM", partial=True)

    def _access(
        self, cred: Credentials, pid: int, tid: int | None, address: int, length: int, wanted: int
    ) -> dict[int, Cell]:
        """The cells that an access touches, by page number; EFAULT at the first byte that refuses."""
        task, space, read_only = self.view(cred, pid, tid)
        cells = {}
        for vpn in self.numbers(address, length) if length else ():
            first = max(address, vpn * self.page)
            page = task.pages.get(vpn)
            prot = page.prot if page is not None else 0
            if page is None and space is not None and vpn in space.pages:
                page = space.pages[vpn]
                prot = page.prot & 5 if read_only else page.prot
            if page is None or not prot & (WRITE if wanted == WRITE else READ | WRITE):
                raise Refused("EFAULT", first)
            cells[vpn] = page.cell
        return cells

    def _place(self, owner: Task | Space, address: int, length: int, flags: int) -> int:
        geometry, page = self.geometry, self.page
        if length <= 0:
            raise Refused("EINVAL")
        size = -(-length // page) * page
        fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)
        if size > geometry.user_end or (fixed and not 0 <= address <= geometry.user_end - size):
            raise Refused("ENOMEM")
        if not fixed:
            return self._search(owner, address // page * page, size)
        if address % page:
            raise Refused("EINVAL")
        if address < geometry.user_start:
            raise Refused("EPERM")
        wanted = self.numbers(address, length)
        mine = held_in(owner.pages, wanted)
        theirs = any(held_in(pages, wanted) for pages in self.peers(owner))
        if theirs or any(owner.pages[vpn].sid for vpn in mine) or (mine and flags & MAP_FIXED_NOREPLACE):
            raise Refused("EEXIST")
        return address

    def _search(self, owner: Task | Space, hint: int, size: int) -> int:
        geometry = self.geometry
        used = set(owner.pages).union(*self.peers(owner))
        if hint > 0:
            hint = max(hint, geometry.user_start)
            if hint + size <= geometry.user_end and not held_in(used, self.numbers(hint, size)):
                return hint
        places = [(geometry.arena_start, geometry.arena_end)]
        if isinstance(owner, Task):
            low = geometry.text_start + 4 * self.page
            places = [(geometry.arena_end, geometry.mmap_top), (low, geometry.arena_start)]
        for low, high in places:
            for start in range(high - size, low - 1, -self.page):
                if not held_in(used, self.numbers(start, size)):
                    return start
        raise Refused("ENOMEM")
