"""A deliberately naive model of the machine: spaces, segments and tasks; memory is in model_memory.py and its likes.

Ids are not predicted: each call is handed what the engine answered as `given`.
"""

from dataclasses import replace

from engine.constants import EXCLUSIVE, MAP_COUNT_MAX, O_RDONLY, RLIM_INFINITY, SHARING
from engine.credentials import Credentials
from engine.regions.vm_flags import ACCOUNT, DONT_COPY, GROWS_DOWN, LOCK_FLAGS
from tests.engine.model_remap import RemapCalls
from tests.engine.model_state import (
    READ,
    WRITE,
    Page,
    Pages,
    Refused,
    Segment,
    Space,
    Task,
    held_in,
    regions_in,
)


class Model(RemapCalls):
    """All calls."""

    # -- spaces --------------------------------------------------------------------------------------------------

    def vas_create(self, cred: Credentials, name: str, mode: int, sharing: str, given: int) -> int:
        self._check_name(name, mode, sharing)
        if any(space.name == name for space in self.spaces.values()):
            raise Refused("EEXIST")
        self.spaces[given] = Space(given, name, mode & 0o666, cred.uid, cred.gids[0], sharing)
        return given

    def vas_delete(self, cred: Credentials, vid: int, given: object) -> None:
        space = self.space(vid)
        self.require(space, cred, WRITE)
        if self.holders(vid):
            raise Refused("EBUSY")
        del self.spaces[vid]

    def vas_setattr(
        self,
        cred: Credentials,
        vid: int,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        sharing: str | None,
        given: object,
    ) -> None:
        self._setattr(cred, self.space(vid), (mode, uid, gid, sharing), bool(self.holders(vid)))

    def vas_attach(self, cred: Credentials, pid: int, vid: int, kind: int, lazy: bool, given: object) -> None:
        if pid < 0 or vid < 0:
            raise Refused("EINVAL")
        if pid not in self.tasks:
            raise Refused("ESRCH")
        if kind & 3 == 3:
            raise Refused("EINVAL")
        task, space = self.task(cred, pid), self.space(vid)
        self.require(space, cred, (READ, WRITE, READ | WRITE)[kind & 3])
        if vid in task.attached:
            if task.attached[vid] != kind & 3:
                raise Refused("EEXIST")
            return
        self._may_share(space.sharing, [held.attached[vid] for held in self.holders(vid)], kind & 3)
        if space.pages.keys() & task.pages.keys():
            raise Refused("EFAULT")
        task.attached[vid] = kind & 3

    def vas_detach(self, cred: Credentials, pid: int, vid: int, given: object) -> None:
        if pid < 0 or vid < 0:
            raise Refused("EINVAL")
        task = self.task(cred, pid)
        if vid not in task.attached:
            raise Refused("EINVAL")
        if vid in task.threads.values():
            raise Refused("EBUSY")
        del task.attached[vid]

    def vas_switch(self, cred: Credentials, pid: int, tid: int | None, vid: int, given: object) -> None:
        task, number = self.thread(cred, pid, tid)
        if vid and vid not in task.attached:
            raise Refused("EINVAL")
        task.threads[number] = vid

    # -- segments ------------------------------------------------------------------------------------------------

    def vas_seg_create(
        self, cred: Credentials, name: str, start: int, end: int, mode: int, sharing: str, given: int
    ) -> int:
        if start < 0 or start % self.page or end % self.page or end <= start:
            raise Refused("EINVAL")
        self._check_name(name, mode, sharing)
        if start < self.geometry.user_start or end > self.geometry.user_end:
            raise Refused("EFAULT")
        if any(segment.name == name for segment in self.segments.values()):
            raise Refused("EEXIST")
        cells = [self.zero_cell() for _ in range((end - start) // self.page)]
        self.segments[given] = Segment(
            given, name, start, end, mode & 0o666, cred.uid, cred.gids[0], sharing, cells
        )
        return given

    def vas_seg_delete(self, cred: Credentials, sid: int, given: object) -> None:
        self.require(self.segment(sid), cred, WRITE)
        if self.spaces_with(sid):
            raise Refused("EBUSY")
        del self.segments[sid]

    def vas_seg_setattr(
        self,
        cred: Credentials,
        sid: int,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        sharing: str | None,
        given: object,
    ) -> None:
        self._setattr(cred, self.segment(sid), (mode, uid, gid, sharing), bool(self.spaces_with(sid)))

    def vas_seg_attach(self, cred: Credentials, vid: int, sid: int, kind: int, given: object) -> None:
        if vid < 0 or sid < 0 or kind & 3 == 3:
            raise Refused("EINVAL")
        space, segment = self.space(vid), self.segment(sid)
        self.require(segment, cred, (READ, WRITE, READ | WRITE)[kind & 3])
        self.require(space, cred, WRITE)
        if space in self.spaces_with(sid):
            if self.type_in(space, sid) != kind & 3:
                raise Refused("EEXIST")
            return
        self._may_share(
            segment.sharing, [self.type_in(held, sid) for held in self.spaces_with(sid)], kind & 3
        )
        wanted = self.numbers(segment.start, segment.end - segment.start)
        if any(held_in(pages, wanted) for pages in (space.pages, *self.peers(space))):
            raise Refused("EFAULT")
        prot = READ if kind & 3 == O_RDONLY else READ | WRITE
        cells = enumerate(zip(wanted, segment.cells, strict=True))
        self.put(space, {vpn: Page(cell, prot, -sid, n, True, sid, kind & 3) for n, (vpn, cell) in cells})

    def vas_seg_detach(self, cred: Credentials, vid: int, sid: int, given: object) -> None:
        space = self.space(vid)
        if sid == 0 or not any(page.sid == sid for page in space.pages.values()):
            raise Refused("EINVAL")
        self.require(space, cred, WRITE)
        if self.holders(vid):
            raise Refused("EBUSY")
        for vpn in [vpn for vpn, page in space.pages.items() if page.sid == sid]:
            self.take(space, range(vpn, vpn + 1))

    def seg_read(self, cred: Credentials, sid: int, offset: int, length: int, given: object) -> bytes:
        segment = self._part(cred, sid, READ, offset, length)
        return b"".join(cell.data for cell in segment.cells)[offset : offset + length]

    def seg_write(
        self, cred: Credentials, sid: int, offset: int, data: bytes, durable: bool, given: object
    ) -> int:
        segment = self._part(cred, sid, WRITE, offset, len(data))
        self.store(lambda number: segment.cells[number], offset, data, durable=durable)
        return len(data)

    # -- tasks ---------------------------------------------------------------------------------------------------

    def spawn(self, cred: Credentials, given: int) -> int:
        limits = {
            "address_space": RLIM_INFINITY,
            "data": RLIM_INFINITY,
            "stack": self.geometry.stack_limit,
            "locked": 8 << 20 if cred.uid else RLIM_INFINITY,
            "map_count": MAP_COUNT_MAX,
        }
        self.tasks[given] = Task(given, cred, *self._program(), {given: 0}, limits, dict(limits), False)
        return given

    def fork(self, cred: Credentials, pid: int, tid: int | None, given: int) -> int:
        """Regions stay apart as they are; what was written has a mark of its own in the child."""
        parent, _ = self.thread(cred, pid, tid)
        child: Pages = {}
        for region in regions_in(parent.pages):
            if parent.pages[region.start].flags & DONT_COPY:
                continue
            mark = self.new_number()
            for vpn in region:
                page = parent.pages[vpn]
                page = replace(page, flags=page.flags & ~LOCK_FLAGS)
                if page.anon:
                    page = replace(page, anon=mark, forked=True)
                if page.cell is not None and not page.shared:
                    page = replace(page, cell=replace(page.cell))
                child[vpn] = page
        self.tasks[given] = replace(
            parent, pid=given, pages=child, threads={given: 0}, limits=dict(parent.limits), attached={}
        )
        return given

    def exec(self, cred: Credentials, pid: int, given: object) -> None:
        task = self.task(cred, pid)
        task.pages, task.heap = self._program()
        task.threads, task.attached = {pid: 0}, {}
        task.bottom_up = task.limits["stack"] == RLIM_INFINITY

    def thread_new(self, cred: Credentials, pid: int, tid: int | None, given: int) -> int:
        task, _ = self.thread(cred, pid, tid)
        task.threads[given] = 0
        return given

    def exit_thread(self, cred: Credentials, pid: int, tid: int, given: object) -> None:
        task, number = self.thread(cred, pid, tid)
        if number == pid and len(task.threads) > 1:
            raise Refused("EINVAL")
        if number == pid:
            del self.tasks[pid]
        else:
            del task.threads[number]

    def exit(self, cred: Credentials, pid: int, given: object) -> None:
        self.task(cred, pid)
        del self.tasks[pid]

    # -- details -------------------------------------------------------------------------------------------------

    def _check_name(self, name: str, mode: int, sharing: str) -> None:
        bad = not 1 <= len(name.encode()) <= 255 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
        if bad or not 0 <= mode <= 0xFFFF or sharing not in SHARING:
            raise Refused("EINVAL")

    def _setattr(
        self,
        cred: Credentials,
        thing: Space | Segment,
        wanted: tuple[int | None, int | None, int | None, str | None],
        attached: bool,
    ) -> None:
        mode = thing.mode if wanted[0] is None else wanted[0]
        uid = thing.uid if wanted[1] is None else wanted[1]
        gid = thing.gid if wanted[2] is None else wanted[2]
        sharing = thing.sharing if wanted[3] is None else wanted[3]
        if (
            not 0 <= mode <= 0xFFFF
            or min(uid, gid) < 0
            or max(uid, gid) > 2**32 - 2
            or sharing not in SHARING
        ):
            raise Refused("EINVAL")
        if cred.uid and (cred.uid != thing.uid or (uid, gid) != (thing.uid, thing.gid)):
            raise Refused("EPERM")
        if sharing != thing.sharing and attached:
            raise Refused("EBUSY")
        thing.mode, thing.uid, thing.gid, thing.sharing = mode & 0o666, uid, gid, sharing

    def _may_share(self, sharing: str, held: list[int], wanted: int) -> None:
        if sharing == EXCLUSIVE and held and (wanted != O_RDONLY or any(kind != O_RDONLY for kind in held)):
            raise Refused("EBUSY")

    def _part(self, cred: Credentials, sid: int, wanted: int, offset: int, length: int) -> Segment:
        segment = self.segment(sid)
        self.require(segment, cred, wanted)
        if offset < 0 or length < 0 or offset + length > segment.end - segment.start:
            raise Refused("EINVAL")
        return segment

    def _program(self) -> tuple[Pages, tuple[int, int]]:
        """The first regions of a program: text, data, stack; and its empty heap."""
        geometry, pages = self.geometry, Pages()
        text, stack = geometry.text_start // self.page, geometry.user_end - geometry.stack_size
        pages[text] = Page(self.zero_cell(), 5, 0, text)
        pages[text + 1] = Page(self.zero_cell(), 3, 0, text + 1, flags=ACCOUNT)
        for vpn in self.numbers(stack, geometry.stack_size):
            joined = vpn * self.page > stack
            pages[vpn] = Page(self.zero_cell(), 3, 0, vpn, flags=ACCOUNT | GROWS_DOWN, joined=joined)
        heap = geometry.text_start + 3 * self.page
        return pages, (heap, heap)
