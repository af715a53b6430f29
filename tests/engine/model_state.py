"""State of the naive model: one dictionary of pages for each owner, no sharing but by reference.

It knows nothing of frames, tables, journals or laziness. Which pages are one region is written down page by page
(`Page.joined`), since it depends on the history: regions that could be one are made one at certain moments only.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from engine.constants import MAP_COUNT_MAX, O_RDONLY, RLIM_INFINITY
from engine.credentials import Credentials
from engine.geometry import Geometry
from engine.regions.vm_flags import GROWS_DOWN, LOCKED, VAS_PRIVATE

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
    """A page's bytes now, and as they would be after a crash.

    `other`: what they are if the page was forgotten meanwhile, after MADV_FREE; `kept`: it cannot be forgotten any more,
    since it was written, but may have been just before.
    """

    data: bytes
    durable: bytes
    other: bytes | None = None
    kept: bool = False

    def write(self, low: int, part: bytes) -> None:
        high = low + len(part)
        self.data = self.data[:low] + part + self.data[high:]
        if self.other is not None:
            self.other = self.other[:low] + part + self.other[high:]
            self.kept = True

    def settle(self, shown: bytes) -> None:
        """Seen: it was forgotten, or it was not."""
        if self.other is not None and shown == self.other:
            self.data = self.durable = shown
            self.other = None
        elif self.kept:
            self.other = None


@dataclass(frozen=True)
class Page:
    """What an owner has at one page number. `memory` and `index` say whose page it is, for merging.

    `memory` is 0 for the owner's own, whose pages are numbered as they were when first written; `cell` is None behind
    the end of shared memory. `anon` is the mark of what was written together, 0 while nothing was; `forked` says that
    a parent may have the page too. `joined`: one region with the page on its left.
    """

    cell: Cell | None
    prot: int
    memory: int
    index: int
    shared: bool = False
    sid: int = 0
    type: int = 2
    flags: int = 0
    anon: int = 0
    forked: bool = False
    joined: bool = False

    def may_follow(self, left: "Page") -> bool:
        """Whether a region that begins with this page may be one with a region that ends with `left`."""
        marked_apart = self.anon != left.anon and bool(
            (self.anon and left.anon) or self.forked or left.forked
        )
        return not marked_apart and self.prot == left.prot and self.is_next_to(left)

    def is_next_to(self, left: "Page") -> bool:
        """Whether the two differ in nothing but rights and marks."""
        return (
            (self.memory, self.index) == (left.memory, left.index + 1)
            and (self.shared, self.sid, self.type) == (left.shared, left.sid, left.type)
            and self.flags == left.flags
        )

    @property
    def counts_as_data(self) -> bool:
        return bool(self.prot & WRITE) and not self.shared and not self.flags & GROWS_DOWN


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
    bottom_up: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    """None: a space is not limited."""


@dataclass
class Task:
    pid: int
    cred: Credentials
    pages: Pages
    heap: tuple[int, int]
    """Where the heap starts, and the break."""
    threads: dict[int, int]
    """tid -> the space that the thread is in."""
    limits: dict[str, int]
    hard: dict[str, int]
    bottom_up: bool
    attached: dict[int, int] = field(default_factory=dict)
    """vid -> type."""


Owner = Task | Space


def held_in(pages: Iterable[int], numbers: range) -> list[int]:
    """Those of the page numbers that are in use, ascending."""
    return sorted(vpn for vpn in pages if vpn in numbers)


def limit_of(owner: Owner, resource: str) -> int:
    return owner.limits.get(resource, MAP_COUNT_MAX if resource == "map_count" else RLIM_INFINITY)


def region_of(pages: Pages, vpn: int) -> range:
    """The page numbers of the region that holds `vpn`."""
    first, end = vpn, vpn + 1
    while pages[first].joined:
        first -= 1
    while end in pages and pages[end].joined:
        end += 1
    return range(first, end)


def regions_in(pages: Pages) -> list[range]:
    """All regions, ascending."""
    found = []
    for vpn in sorted(pages):
        if not pages[vpn].joined:
            found.append(region_of(pages, vpn))
    return found


Region = tuple[int, int, int, bool, int, int, int, int, int, bool]
"""start, end, prot, shared, sid, type, flags; pages moved, mark (numbered from the left), forked."""


class State:
    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.page = geometry.page_size
        self.zeros = bytes(self.page)
        self.tasks: dict[int, Task] = {}
        self.spaces: dict[int, Space] = {}
        self.segments: dict[int, Segment] = {}
        self.memories: dict[int, list[Cell]] = {}
        """Shared anonymous memory of tasks: its pages, as many as it was made with."""
        self.last = 0

    # -- copies --------------------------------------------------------------------------------------------------

    def copy(self) -> Self:
        """An independent copy in which shared cells are shared again."""
        cells: dict[int, Cell] = {}

        def cell(old: Cell) -> Cell:
            return cells.setdefault(id(old), replace(old))

        def pages(old: Pages) -> Pages:
            return {
                vpn: page if page.cell is None else replace(page, cell=cell(page.cell))
                for vpn, page in old.items()
            }

        new = type(self)(self.geometry)
        new.last = self.last
        used = {page.memory for task in self.tasks.values() for page in task.pages.values()}
        for memory in used & self.memories.keys():
            new.memories[memory] = [cell(old) for old in self.memories[memory]]
        for sid, segment in self.segments.items():
            new.segments[sid] = replace(segment, cells=[cell(old) for old in segment.cells])
        for vid, space in self.spaces.items():
            new.spaces[vid] = replace(space, pages=pages(space.pages))
        for pid, task in self.tasks.items():
            new.tasks[pid] = replace(
                task,
                pages=pages(task.pages),
                threads=dict(task.threads),
                attached=dict(task.attached),
                limits=dict(task.limits),
            )
        return new

    def after_restart(self, *, crashed: bool) -> Self:
        """What survives: no tasks, no flags; after a crash only bytes that were made durable."""
        new = self.copy()
        new.tasks.clear()
        for cell in new.persistent_cells():
            if crashed:
                cell.data = cell.durable
            else:
                cell.durable = cell.data
        for space in new.spaces.values():
            kept, space.pages = space.pages, {}
            for vpn in sorted(kept):
                new.put(space, {vpn: replace(kept[vpn], flags=0)})
        return new

    def persistent_cells(self) -> Iterator[Cell]:
        for segment in self.segments.values():
            yield from segment.cells
        for space in self.spaces.values():
            yield from (page.cell for page in space.pages.values() if page.cell is not None)

    # -- regions -------------------------------------------------------------------------------------------------

    def put(self, owner: Owner, new: Pages, *, left: bool = True, right: bool = True) -> None:
        """Put neighbouring pages in, as one region; `left` and `right`: it may become one with what is there.

        ENOMEM: too many regions.
        """
        pages, before = owner.pages, self._count(owner)
        first, after = min(new), max(new) + 1
        for vpn, page in new.items():
            pages[vpn] = replace(page, joined=vpn != first)
        if after in pages:
            pages[after] = replace(pages[after], joined=False)
        left = left and first - 1 in pages and pages[first].may_follow(pages[first - 1])
        right = right and after in pages and pages[after].may_follow(pages[after - 1])
        if left and right and pages[first - 1].anon and pages[after].anon:
            right = pages[first - 1].anon == pages[after].anon
        for vpn in [first] * left + [after] * right:
            pages[vpn] = replace(pages[vpn], joined=True)
            self._share_marks(pages, vpn)
        self._require_count(owner, before)

    def _share_marks(self, pages: Pages, vpn: int) -> None:
        """The region at `vpn` was two: both have the mark and the past of either."""
        marks = pages[vpn - 1].anon or pages[vpn].anon
        forked = pages[vpn - 1].forked or pages[vpn].forked
        for number in region_of(pages, vpn):
            pages[number] = replace(pages[number], anon=marks, forked=forked)

    def take(self, owner: Owner, numbers: range) -> None:
        """Take pages out. ENOMEM: too many regions."""
        before = self._count(owner)
        for vpn in held_in(owner.pages, numbers):
            del owner.pages[vpn]
        if numbers.stop in owner.pages:
            owner.pages[numbers.stop] = replace(owner.pages[numbers.stop], joined=False)
        self._require_count(owner, before)

    def cut(self, owner: Owner, vpn: int) -> None:
        """Let a region begin here if there is one."""
        before = self._count(owner)
        if vpn in owner.pages:
            owner.pages[vpn] = replace(owner.pages[vpn], joined=False)
        self._require_count(owner, before)

    def _count(self, owner: Owner) -> int:
        return sum(not page.joined for page in owner.pages.values())

    def _require_count(self, owner: Owner, before: int) -> None:
        now = self._count(owner)
        if now > before and now > limit_of(owner, "map_count"):
            raise Refused("ENOMEM")

    def mark(self, owner: Owner, vpn: int) -> None:
        """A page is written: from now on its region is one with those it was written together with.

        Never written before, it joins the region above, else the one below, if that is only its own history and
        nothing but rights is different.
        """
        pages, region = owner.pages, region_of(owner.pages, vpn)
        if isinstance(owner, Space) or pages[vpn].anon or pages[vpn].shared:
            return
        above, below = pages.get(region.stop), pages.get(region.start - 1)
        mark = 0
        if above is not None and not above.forked and above.is_next_to(pages[region.stop - 1]):
            mark = above.anon
        if not mark and below is not None and not below.forked and pages[region.start].is_next_to(below):
            mark = below.anon
        mark = mark or self.new_number()
        for number in region:
            pages[number] = replace(pages[number], anon=mark)

    # -- looking -------------------------------------------------------------------------------------------------

    def regions(self, pages: Pages) -> list[Region]:
        """All regions, with everything that is known of them."""
        found: list[Region] = []
        marks = {0: 0}
        for region in regions_in(pages):
            page = pages[region.start]
            moved = page.index - region.start if page.memory == 0 else 0
            mark = marks.setdefault(page.anon, len(marks))
            bounds = region.start * self.page, region.stop * self.page
            kind = page.prot, page.shared, page.sid, page.type, page.flags
            found.append((*bounds, *kind, moved, mark, page.forked))
        return found

    def task(self, cred: Credentials, pid: int) -> Task:
        if pid not in self.tasks:
            raise Refused("ESRCH")
        if cred.uid not in (0, self.tasks[pid].cred.uid):
            raise Refused("EPERM")
        return self.tasks[pid]

    def thread(self, cred: Credentials, pid: int, tid: int | None) -> tuple[Task, int]:
        task = self.task(cred, pid)
        if (pid if tid is None else tid) not in task.threads:
            raise Refused("ESRCH")
        return task, pid if tid is None else tid

    def view(self, cred: Credentials, pid: int, tid: int | None) -> "View":
        task, number = self.thread(cred, pid, tid)
        vid = task.threads[number]
        if vid == 0:
            return View(task, None, False)
        return View(task, self.spaces[vid], task.attached[vid] == O_RDONLY)

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

    def peers(self, owner: Owner) -> list[Pages]:
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

    # -- limits --------------------------------------------------------------------------------------------------

    def require_room(self, owner: Owner, count: int, *, data: bool) -> None:
        """ENOMEM: `count` pages more are too much address space, or too much data."""
        if not self.fits(owner, count):
            raise Refused("ENOMEM")
        if data and not self.fits_data(owner, count):
            raise Refused("ENOMEM")

    def fits(self, owner: Owner, count: int) -> bool:
        return len(owner.pages) + count <= limit_of(owner, "address_space") // self.page

    def fits_data(self, owner: Owner, count: int) -> bool:
        held = sum(page.counts_as_data for page in owner.pages.values())
        return held + count <= limit_of(owner, "data") // self.page

    def fits_locked(self, owner: Owner, count: int) -> bool:
        held = sum(bool(page.flags & LOCKED) for page in owner.pages.values())
        return held + count <= limit_of(owner, "locked") // self.page

    # -- small things --------------------------------------------------------------------------------------------

    def numbers(self, address: int, length: int) -> range:
        """Page numbers of a byte range."""
        return range(address // self.page, -(-(address + length) // self.page))

    def store(self, cell_at: Callable[[int], Cell], address: int, data: bytes, *, durable: bool) -> None:
        position = 0
        while position < len(data):
            number, low = divmod(address + position, self.page)
            part = data[position : position + self.page - low]
            cell = cell_at(number)
            cell.write(low, part)
            cell.durable = cell.data if durable else cell.durable
            position += len(part)

    def zero_cell(self) -> Cell:
        return Cell(self.zeros, self.zeros)

    def new_number(self) -> int:
        """For a mark or a memory."""
        self.last += 1
        return self.last


@dataclass(frozen=True)
class View:
    """What a thread sees: its task, the space it is in, and whether that is attached read-only."""

    task: Task
    space: Space | None
    read_only: bool

    @property
    def owners(self) -> list[Owner]:
        return [self.task] if self.space is None else [self.task, self.space]

    def find(self, vpn: int) -> tuple[Owner, Page] | None:
        """Whose page is seen at `vpn`. Inside a space a task's private regions are not."""
        page = self.task.pages.get(vpn)
        if page is not None and not (self.space is not None and page.flags & VAS_PRIVATE):
            return self.task, page
        if self.space is not None and vpn in self.space.pages:
            return self.space, self.space.pages[vpn]
        return None

    def seen(self, numbers: range) -> list[tuple[Owner, range]]:
        """The parts of regions that are seen in a range, ascending, each with its owner."""
        parts: list[tuple[Owner, range]] = []
        for owner in self.owners:
            for region in regions_in(owner.pages):
                part = range(max(region.start, numbers.start), min(region.stop, numbers.stop))
                found = self.find(part.start) if part else None
                if found is not None and found[0] is owner:
                    parts.append((owner, part))
        return sorted(parts, key=lambda each: each[1].start)

    def rights(self, owner: Owner, page: Page) -> int:
        return page.prot & 5 if self.read_only and owner is self.space else page.prot
