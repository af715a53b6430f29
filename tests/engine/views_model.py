"""Random histories of a task with views, beside a naive model: for each view a dictionary of pages.

Some transactions wait, as in the service: the oldest is settled, or the newest are taken back.
"""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from engine import constants as c
from engine.check import check
from engine.credentials import ROOT
from engine.errors import EngineError, PagesNeeded
from engine.geometry import Geometry
from engine.journal import Transaction
from engine.memory.frames import SWAPPED, ZERO_FRAME
from engine.memory.memory_object import MemoryObject
from engine.tasks.task import View
from tests.engine.host import FIXED, PRIVATE, ROUNDS_MAX, RW, SHARED_MAP, Host

PAGES = 7
"""Of the arena, that the task uses; the next one is a space's."""
VIEWS_MAX = 4
THREADS_MAX = 4
WAITING_MAX = 4


class Divergence(AssertionError):
    """The engine did something else than the model."""


@dataclass(eq=False)
class Cell:
    """The first byte of a page, by whomever it is seen."""

    data: bytes = b"\0"


@dataclass
class Page:
    """What a view shows. `private`: the view's own, and so are its rights; `mapped_shared`: MAP_SHARED."""

    cell: Cell
    prot: int
    private: bool = False
    mapped_shared: bool = False

    def copy(self, *, apart: bool) -> "Page":
        return Page(Cell(self.cell.data) if apart else self.cell, self.prot, self.private, self.mapped_shared)


@dataclass
class ModelView:
    pages: dict[int, Page] = field(default_factory=dict)
    deleted: bool = False


@dataclass
class Model:
    """One task: its views, its threads with their views, and those inside the space."""

    views: dict[int, ModelView]
    threads: dict[int, int]
    inside: set[int] = field(default_factory=set)
    base: int = 0
    next_view: int = 1


class Views:
    """The engine and the model. `step` makes one random call in both; `compare` looks at everything."""

    def __init__(self, seed: int, geometry: Geometry, frames: int = 64, swap: int = 0) -> None:
        self.rng = random.Random(seed)
        self.host = Host(geometry, frames, swap)
        self.pid = self.host.task()
        self.first = self.host.base // self.host.page
        self.model = Model({0: ModelView()}, {self.pid: 0})
        self.waiting: list[tuple[Transaction, Model]] = []
        self.vid = self.host.space()
        other = self.host.task()
        self.host.do("vas_attach", other, self.vid, 2)
        self.host.do("vas_switch", other, None, self.vid)
        self.host.map_at(other, PAGES, PAGES + 1)
        self.host.do("exit", other)
        self.log: list[str] = []
        self.mmap(self.pid, 0, PAGES - 1)
        self.unshare(self.pid)

    # -- the engine ----------------------------------------------------------------------------------------------

    def at(self, page: int) -> int:
        return self.host.base + page * self.host.page

    def call(self, name: str, *args: object) -> str:
        """The errno, "" if there is none; the transaction waits."""
        self.log.append(f"{name}{args}")
        machine, before = self.host.machine, copy.deepcopy(self.model)
        for _ in range(ROUNDS_MAX):
            self.partial, errno = False, ""
            try:
                with machine.transaction() as txn:
                    self.value = getattr(machine, name)(ROOT, *args)
            except PagesNeeded as need:
                machine.supply(need, self.host.store.fetch(need.object_id, need.pages))
                continue
            except EngineError as error:
                self.partial, errno = error.partial, error.errno
            if self.partial or not errno:
                self.waiting.append((txn, before))
            return errno
        raise Divergence(f"{name} never had all its pages")

    def settle(self, count: int) -> None:
        """The oldest transactions are durable."""
        for txn, _ in self.waiting[:count]:
            self.host.settle(txn)
        del self.waiting[:count]

    def take_back(self, count: int) -> None:
        """The newest transactions never were."""
        for _ in range(count):
            txn, before = self.waiting.pop()
            txn.rollback()
            self.log.append("taken back")
            self.model = before

    def expect(self, errno: str, name: str, *args: object) -> bool:
        """Make a call whose outcome the model knows; whether it went well."""
        got = self.call(name, *args)
        if got != errno:
            raise Divergence(f"{name}{args}: {got or 'no error'}, the model says {errno or 'no error'}")
        return not errno

    # -- steps ---------------------------------------------------------------------------------------------------

    def step(self) -> None:
        tid = self.rng.choice(list(self.model.threads))
        steps: list[Callable[[int], None]] = [
            self.write, self.write, self.write, self.write, self.create, self.migrate, self.migrate, self.delete,
            self.delete, self.unshare, self.share, self.switch_base, self.new_thread, self.end_thread,
            self.protect, self.protect, self.discard, self.lock, self.go, self.fork, self.disturb,
        ]  # fmt: skip
        if tid not in self.model.inside:
            steps += [self.map, self.unmap, self.move, self.move, self.grow]
        if len(self.model.views) == 1:
            steps += [self.unshare] * 8 + [self.create] * 2
        self.rng.choice(steps)(tid)
        self.compare()
        if len(self.waiting) > WAITING_MAX or self.rng.random() < 0.3:
            self.settle(self.rng.randint(1, max(len(self.waiting), 1)))
        elif self.waiting and self.rng.random() < 0.2:
            self.take_back(self.rng.randint(1, len(self.waiting)))

    def seen(self, tid: int) -> dict[int, Page]:
        return self.model.views[self.model.threads[tid]].pages

    def range(self, most: int = 3) -> tuple[int, int]:
        low = self.rng.randrange(PAGES)
        return low, self.rng.randint(low + 1, min(low + most, PAGES))

    def write(self, tid: int) -> None:
        page, data = self.rng.randrange(PAGES), bytes([self.rng.randrange(1, 256)])
        held = self.seen(tid).get(page)
        errno = "" if held is not None and held.prot & c.PROT_WRITE else "EFAULT"
        if self.expect(errno, "write", self.pid, tid, self.at(page), data) and held is not None:
            held.cell.data = data

    def create(self, tid: int) -> None:
        if len(self.model.views) >= VIEWS_MAX:
            return
        self.expect("", "mmview", self.pid, tid, c.MMVIEW_CREATE)
        if self.value != self.model.next_view:
            raise Divergence(f"view {self.value}, the model says {self.model.next_view}")
        pages = {number: page.copy(apart=page.private) for number, page in self.seen(tid).items()}
        self.model.views[self.model.next_view] = ModelView(pages)
        self.model.next_view += 1

    def _some_view(self) -> int:
        return self.rng.choice(
            [*self.model.views, *self.model.views, self.rng.randrange(-1, self.model.next_view + 1)]
        )

    def migrate(self, tid: int) -> None:
        number = self._some_view()
        known = number in self.model.views and not self.model.views[number].deleted
        if self.expect("" if known else "EINVAL", "mmview", self.pid, tid, c.MMVIEW_MIGRATE, number):
            left, self.model.threads[tid] = self.model.threads[tid], number
            if self.value != left:
                raise Divergence(f"left {self.value}, the model says {left}")
            self._forget_unused()

    def delete(self, tid: int) -> None:
        number = self._some_view()
        errno = "EINVAL"
        if number in self.model.views and not self.model.views[number].deleted:
            errno = "EPERM" if number == self.model.base else ""
        if self.expect(errno, "mmview", self.pid, tid, c.MMVIEW_DELETE, number):
            self.model.views[number].deleted = True
            self._forget_unused()

    def _forget_unused(self) -> None:
        for number in [number for number, view in self.model.views.items() if view.deleted]:
            if number not in self.model.threads.values():
                del self.model.views[number]

    def unshare(self, tid: int) -> None:
        low, high = self.range(PAGES)
        pages = self.seen(tid)
        there = [number for number in range(low, high) if number in pages]
        errno = "EPERM" if len(self.model.views) > 1 else "" if there else "EINVAL"
        if not errno and any(pages[number].mapped_shared for number in there):
            errno = "EACCES"
        size = (high - low) * self.host.page
        if self.expect(errno, "mmview", self.pid, tid, c.MMVIEW_UNSHARE, self.at(low), size):
            for number in there:
                pages[number].private = True

    def share(self, tid: int) -> None:
        low, high = self.range(PAGES)
        pages = self.seen(tid)
        there = [number for number in range(low, high) if number in pages]
        errno = "EPERM" if len(self.model.views) > 1 else "" if there else "EINVAL"
        size = (high - low) * self.host.page
        if self.expect(errno, "mmview", self.pid, tid, c.MMVIEW_SHARE, self.at(low), size):
            for number in there:
                pages[number].private = False

    def switch_base(self, tid: int) -> None:
        number = self.model.threads[tid]
        errno = "EINVAL" if self.model.views[number].deleted else ""
        if self.expect(errno, "mmview", self.pid, tid, c.MMVIEW_SWITCH_BASE):
            self.model.base = number

    def new_thread(self, tid: int) -> None:
        if len(self.model.threads) < THREADS_MAX:
            self.expect("", "thread", self.pid, tid)
            self.model.threads[self.value] = self.model.threads[tid]

    def end_thread(self, tid: int) -> None:
        if tid != self.pid:
            self.expect("", "exit_thread", self.pid, tid)
            del self.model.threads[tid]
            self.model.inside.discard(tid)
            self._forget_unused()

    def protect(self, tid: int) -> None:
        low, high = self.range()
        prot, pages = self.rng.choice((0, 1, 3)), self.seen(tid)
        kinds = {pages[number].private for number in range(low, high) if number in pages}
        stop = next((number for number in range(low, high) if number not in pages), high)
        if any(page.private for page in pages.values()) and len(kinds) > 1:
            errno, stop = "EACCES", low
        else:
            errno = "" if stop == high else "ENOMEM"
        self.expect(errno, "mprotect", self.pid, tid, self.at(low), (high - low) * self.host.page, prot)
        for number in range(low, stop):
            for view in (
                [self.model.views[self.model.threads[tid]]]
                if pages[number].private
                else self.model.views.values()
            ):
                view.pages[number].prot = prot

    def discard(self, tid: int) -> None:
        low, high = self.range()
        pages = self.seen(tid)
        holes = any(number not in pages for number in range(low, high))
        size = (high - low) * self.host.page
        self.expect("ENOMEM" if holes else "", "madvise", self.pid, tid, self.at(low), size, c.MADV_DONTNEED)
        for number in range(low, high):
            if number in pages and not pages[number].mapped_shared:
                pages[number].cell.data = b"\0"

    def lock(self, tid: int) -> None:
        """It changes nothing that the model knows, but the bounds of regions. Nothing stays locked for long."""
        low, high = self.range()
        size = (high - low) * self.host.page
        self.call("mlock", self.pid, tid, self.at(low), size, self.rng.choice((0, c.MLOCK_ONFAULT)))
        for view in sorted(set(self.model.threads.values())):
            other = next(tid for tid, number in self.model.threads.items() if number == view)
            for number in range(PAGES):
                self.call("munlock", self.pid, other, self.at(number), self.host.page)
        self.settle(len(self.waiting))

    def go(self, tid: int) -> None:
        """In or out of the space; the first attaches it, and the last detaches it."""
        if not self.host.machine.vas_dir(ROOT, self.pid):
            self.expect("", "vas_attach", self.pid, self.vid, 2, self.rng.random() < 0.5)
        if tid in self.model.inside:
            self.expect("", "vas_switch", self.pid, tid, 0)
            self.model.inside.discard(tid)
            if not self.model.inside:
                self.expect("", "vas_detach", self.pid, self.vid)
        else:
            self.expect("", "vas_switch", self.pid, tid, self.vid)
            self.model.inside.add(tid)
            self.expect("", "write", self.pid, tid, self.at(PAGES), b"s")

    def map(self, tid: int) -> None:
        self.mmap(tid, *self.range())

    def mmap(self, tid: int, low: int, high: int) -> None:
        shared, prot = self.rng.random() < 0.2, self.rng.choice((RW, RW, 1))
        flags = FIXED | (SHARED_MAP if shared else PRIVATE)
        size = (high - low) * self.host.page
        self.expect("", "mmap", self.pid, tid, self.at(low), size, prot, flags)
        for number in range(low, high):
            cell = Cell()
            for view in self.model.views.values():
                view.pages[number] = Page(cell, prot, mapped_shared=shared)

    def unmap(self, tid: int) -> None:
        low, high = self.range()
        self.expect("", "munmap", self.pid, tid, self.at(low), (high - low) * self.host.page)
        for view in self.model.views.values():
            for number in range(low, high):
                view.pages.pop(number, None)

    def move(self, tid: int) -> None:
        """mremap with MREMAP_FIXED: everything in the range moves, in every view; gaps stay."""
        size = self.rng.randint(1, PAGES // 2)
        low = self.rng.randrange(PAGES - size + 1)
        to = self.rng.choice([at for at in range(PAGES - size + 1) if abs(at - low) >= size] or [low])
        if to == low:
            return
        errno = "" if low in self.seen(tid) else "EFAULT"
        length = size * self.host.page
        flags = c.MREMAP_MAYMOVE | c.MREMAP_FIXED
        stays = self.rng.random() < 0.3
        if stays:
            flags |= c.MREMAP_DONTUNMAP
        if self.expect(errno, "mremap", self.pid, tid, self.at(low), length, length, flags, self.at(to)):
            for number in [number for number in range(low, low + size) if number in self.seen(tid)]:
                left = Cell()
                for view in self.model.views.values():
                    page = view.pages.pop(number)
                    view.pages[to + number - low] = page
                    if stays:
                        cell = page.cell if page.mapped_shared else Cell() if page.private else left
                        view.pages[number] = Page(cell, page.prot, page.private, page.mapped_shared)

    def grow(self, tid: int) -> None:
        """mremap to twice the size, where it is or anywhere; whatever is outside the arena then goes."""
        low, pages = self.rng.randrange(PAGES), self.seen(tid)
        if low not in pages or pages[low].mapped_shared:
            return
        page = self.host.page
        errno = self.call("mremap", self.pid, tid, self.at(low), page, 2 * page, self.rng.choice((0, 1)))
        if errno not in ("", "ENOMEM") or (errno and self.partial):
            raise Divergence(f"mremap: {errno}")
        if errno:
            return
        where = (self.value - self.host.base) // page
        for view in self.model.views.values():
            held = view.pages[low] if where == low else view.pages.pop(low)
            view.pages[where] = held
        new = Cell()
        for view in self.model.views.values():
            like = view.pages[where]
            view.pages[where + 1] = Page(Cell() if like.private else new, like.prot, like.private)
        if not 0 <= where < PAGES - 1:
            self.compare()
            self.expect("", "munmap", self.pid, tid, self.value, 2 * page)
            for view in self.model.views.values():
                del view.pages[where], view.pages[where + 1]

    def fork(self, tid: int) -> None:
        """The child shows what the caller's view does, and nobody sees what it writes."""
        self.expect("", "fork", self.pid, tid)
        child = self.value.pid
        task = self.host.machine.tasks_table.get(child)
        self._compare_view(f"child {child}", task.base, ModelView(self.seen(tid)))
        for number, page in self.seen(tid).items():
            if page.prot & c.PROT_WRITE and not page.mapped_shared:
                self.expect("", "write", child, None, self.at(number), b"!")
        self.expect("", "exit", child)

    def disturb(self, tid: int) -> None:
        """What nobody may notice: translations are dropped, frames go to swap."""
        for union in self.host.machine.tasks_table.get(self.pid).unions():
            union.table.drop()
        if self.host.swap.capacity:
            self.host.machine.reclaim.free(self.rng.randrange(8))

    # -- comparison ----------------------------------------------------------------------------------------------

    def compare(self) -> None:
        task = self.host.machine.tasks_table.get(self.pid)
        if {number: view.deleted for number, view in task.views.items()} != {
            number: view.deleted for number, view in self.model.views.items()
        }:
            raise Divergence(f"views {sorted(task.views)}, the model says {sorted(self.model.views)}")
        threads = {tid: (thread.view.id, bool(thread.active)) for tid, thread in task.threads.items()}
        ideal = {tid: (number, tid in self.model.inside) for tid, number in self.model.threads.items()}
        if threads != ideal or task.base.id != self.model.base:
            raise Divergence(f"threads {threads}, the model says {ideal}; base {task.base.id}")
        for number, view in self.model.views.items():
            self._compare_view(f"view {number}", task.views[number], view)
        if problems := list(check(self.host.machine, pending=bool(self.waiting))):
            raise Divergence("\n".join(problems))

    def _compare_view(self, name: str, view: View, model: ModelView) -> None:
        shift = self.host.geometry.page_shift
        start, end = self.host.base, self.host.geometry.arena_end
        shown = {
            (vma.start >> shift) + number - self.first: (
                int(vma.access),
                self._peek(vma.obj, vma.offset + number),
            )
            for vma in view.space.vmas.overlapping(start, end)
            for number in range((vma.end - vma.start) >> shift)
        }
        ideal = {number: (page.prot, page.cell.data) for number, page in model.pages.items()}
        ideal = {number: told for number, told in ideal.items() if start <= self.at(number) < end}
        if shown != ideal:
            raise Divergence(f"{name}\nengine: {sorted(shown.items())}\nmodel:  {sorted(ideal.items())}")

    def _peek(self, obj: MemoryObject, page: int) -> bytes:
        entry = int(obj.pages.entries(page, 1)[0])
        if entry <= SWAPPED:
            return bytes(self.host.machine.slots.load(np.array([entry]))[:1])
        return bytes(self.host.machine.pool.pages[max(entry, ZERO_FRAME)][:1])


def run(world: Views, steps: int) -> None:
    """Take steps, comparing after each; a divergence tells the last calls."""
    for _ in range(steps):
        try:
            world.step()
            world.compare()
        except Exception as error:
            error.add_note("\n".join(world.log[-25:]))
            raise
