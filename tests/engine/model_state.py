"""State of the naive model: one dictionary of pages for each owner, no sharing but by reference.

It knows nothing of frames, tables, journals or laziness.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from engine.constants import O_RDONLY
from engine.credentials import Credentials
from engine.geometry import Geometry

READ, WRITE = 1, 2


class Refused(Exception):  # noqa: N818 - as EngineError does
    """The model's refusal: the errno, and the address where it says one."""

    def __init__(self, errno: str, address: int | None = None, *, partial: bool = False) -> None:
        super().__init__(errno)
        self.errno = errno
        self.address = address
        self.partial = partial


@dataclass
class Cell:
    """A page's bytes now, and as they would be after a crash."""

    data: bytes
    durable: bytes


@dataclass(frozen=True)
class Page:
    """What an owner has at one page number. `memory` and `index` say whose page it is, for merging."""

    cell: Cell
    prot: int
    memory: int
    index: int
    shared: bool = False
    sid: int = 0
    type: int = 2
    grows: bool = False

    def continues(self, left: "Page") -> bool:
        """Whether this page belongs to one region with the page on its left."""
        return self == replace(left, cell=self.cell, index=left.index + 1)


Pages = dict[int, Page]


@dataclass
class Segment:
    sid: int
    name: str
    start: int
    end: int
    mode: int
    uid: int
    gid: int
    sharing: str
    cells: list[Cell]


@dataclass
class Space:
    vid: int
    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    pages: Pages = field(default_factory=dict)


@dataclass
class Task:
    pid: int
    cred: Credentials
    pages: Pages
    heap: tuple[int, int]
    """Where the heap starts, and the break."""
    threads: dict[int, int]
    """tid -> the space that the thread is in."""
    attached: dict[int, int] = field(default_factory=dict)
    """vid -> type."""


def held_in(pages: Iterable[int], numbers: range) -> list[int]:
    """Those of the page numbers that are in use."""
    return [vpn for vpn in pages if vpn in numbers]


Region = tuple[int, int, int, bool, int, int]
"""start, end, prot, shared, sid, type."""


class State:
    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.page = geometry.page_size
        self.zeros = bytes(self.page)
        self.tasks: dict[int, Task] = {}
        self.spaces: dict[int, Space] = {}
        self.segments: dict[int, Segment] = {}
        self.last_memory = 0

    # -- copies --------------------------------------------------------------------------------------------------

    def copy(self) -> Self:
        """An independent copy in which shared cells are shared again."""
        cells: dict[int, Cell] = {}

        def cell(old: Cell) -> Cell:
            return cells.setdefault(id(old), replace(old))

        def pages(old: Pages) -> Pages:
            return {vpn: replace(page, cell=cell(page.cell)) for vpn, page in old.items()}

        new = type(self)(self.geometry)
        new.last_memory = self.last_memory
        for sid, segment in self.segments.items():
            new.segments[sid] = replace(segment, cells=[cell(old) for old in segment.cells])
        for vid, space in self.spaces.items():
            new.spaces[vid] = replace(space, pages=pages(space.pages))
        for pid, task in self.tasks.items():
            new.tasks[pid] = replace(
                task, pages=pages(task.pages), threads=dict(task.threads), attached=dict(task.attached)
            )
        return new

    def after_restart(self, *, crashed: bool) -> Self:
        """What survives: no tasks; after a crash only bytes that were made durable."""
        new = self.copy()
        new.tasks.clear()
        for cell in new.persistent_cells():
            if crashed:
                cell.data = cell.durable
            else:
                cell.durable = cell.data
        return new

    def persistent_cells(self) -> Iterator[Cell]:
        for segment in self.segments.values():
            yield from segment.cells
        for space in self.spaces.values():
            yield from (page.cell for page in space.pages.values())

    # -- looking -------------------------------------------------------------------------------------------------

    def regions(self, pages: Pages) -> list[Region]:
        """Neighbouring pages that differ in nothing, as regions."""
        found: list[Region] = []
        for vpn in sorted(pages):
            page, start = pages[vpn], vpn * self.page
            if vpn - 1 in pages and page.continues(pages[vpn - 1]):
                start = found.pop()[0]
            found.append((start, (vpn + 1) * self.page, page.prot, page.shared, page.sid, page.type))
        return found

    def task(self, cred: Credentials, pid: int) -> Task:
        if pid not in self.tasks:
            raise Refused("ESRCH")
        if cred.uid not in (0, self.tasks[pid].cred.uid):
            raise Refused("EPERM")
        return self.tasks[pid]

    def thread(self, cred: Credentials, pid: int, tid: int | None) -> tuple[Task, int]:
        task = self.task(cred, pid)
        if (tid or pid) not in task.threads:
            raise Refused("ESRCH")
        return task, tid or pid

    def view(self, cred: Credentials, pid: int, tid: int | None) -> tuple[Task, Space | None, bool]:
        """The task, the space its thread is in, and whether that is attached read-only."""
        task, number = self.thread(cred, pid, tid)
        vid = task.threads[number]
        if vid == 0:
            return task, None, False
        return task, self.spaces[vid], task.attached[vid] == O_RDONLY

    def space(self, vid: int) -> Space:
        if vid not in self.spaces:
            raise Refused("EINVAL")
        return self.spaces[vid]

    def segment(self, sid: int) -> Segment:
        if sid not in self.segments:
            raise Refused("EINVAL")
        return self.segments[sid]

    def holders(self, vid: int) -> list[Task]:
        return [task for task in self.tasks.values() if vid in task.attached]

    def spaces_with(self, sid: int) -> list[Space]:
        return [
            space for space in self.spaces.values() if any(page.sid == sid for page in space.pages.values())
        ]

    def type_in(self, space: Space, sid: int) -> int:
        return next(page.type for page in space.pages.values() if page.sid == sid)

    def peers(self, owner: Task | Space) -> list[Pages]:
        """The pages of everybody with whom the owner may not collide."""
        if isinstance(owner, Task):
            return [self.spaces[vid].pages for vid in owner.attached]
        return [task.pages for task in self.holders(owner.vid)]

    def require(self, thing: Space | Segment, cred: Credentials, wanted: int) -> None:
        if cred.uid == 0:
            return
        shift = 6 if cred.uid == thing.uid else 3 if thing.gid in cred.gids else 0
        bits = thing.mode >> shift
        if (wanted & READ and not bits & 4) or (wanted & WRITE and not bits & 2):
            raise Refused("EACCES")

    def numbers(self, address: int, length: int) -> range:
        """Page numbers of a byte range."""
        return range(address // self.page, -(-(address + length) // self.page))

    def _store(self, cell_at: Callable[[int], Cell], address: int, data: bytes, *, durable: bool) -> None:
        position = 0
        while position < len(data):
            number, low = divmod(address + position, self.page)
            part = data[position : position + self.page - low]
            cell = cell_at(number)
            cell.data = cell.data[:low] + part + cell.data[low + len(part) :]
            cell.durable = cell.data if durable else cell.durable
            position += len(part)

    def _zero_cell(self) -> Cell:
        return Cell(self.zeros, self.zeros)

    def _new_memory(self) -> int:
        self.last_memory += 1
        return self.last_memory
