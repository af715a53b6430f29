"""A machine on modelled processors: real calls of the engine, charged by what the engine did.

After each call the simulation looks at what changed - faults, page-table entries built and taken out, regions that came
and went, pages filled - and charges that. Only what has no trace in the engine (a system call's entry, making a
process) is charged by the call. Time passes by charges alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from engine.changes import Change
from engine.constants import EXCLUSIVE, O_RDWR
from engine.credentials import ROOT, Credentials
from engine.errors import EngineError, PagesNeeded
from engine.journal import Transaction
from engine.machine import Machine
from engine.memory.frames import ABSENT, ZERO_FRAME
from engine.regions.vma import Vma
from engine.simulated.costs import Clock, Costs, Work
from engine.simulated.mmu import Cpu, Hardware, Mmu
from engine.tasks.tasks import Task, Thread
from engine.union import Union

T = TypeVar("T")
_FETCHES_MAX = 64


class Backing(Protocol):
    """A store behind the machine, for simulations that run out of frames."""

    def commit(self, batches: Sequence[Sequence[Change]]) -> object:
        """Remember changes."""

    def fetch(self, object_id: int, pages: Sequence[int]) -> dict[int, bytes]:
        """Bytes of pages."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The counters before a call."""

    built: int
    faults: int
    fetches: int


class Simulation:
    """One machine; `mmu` has its processors, `clock` the simulated time.

    Every call names the task and the thread (None: the main thread) that makes it. The thread runs where it ran last,
    else on CPU 0; `run` puts it elsewhere. Calls raise what the machine's calls raise; what was done until then is
    charged.
    """

    def __init__(
        self,
        machine: Machine,
        costs: Costs | None = None,
        hardware: Hardware | None = None,
        backing: Backing | None = None,
        make_mmu: Callable[..., Mmu] = Mmu,
        cred: Credentials = ROOT,
    ) -> None:
        self.machine = machine
        self.cred = cred
        self.clock = Clock(costs or Costs())
        self.mmu = make_mmu(machine.geometry, hardware or Hardware(), self.clock)
        self._backing = backing
        self._places: dict[tuple[int, int], int] = {}
        self._watch()

    # -- processes and threads -----------------------------------------------------------------------------------

    def spawn(self, name: str | None = None) -> int:
        """A new program, as fork and exec make one; its pid."""
        task = self._made(lambda: self.machine.spawn(self.cred, name, 60))
        self.clock.charge(Work.PROCESS_FORK)
        self.clock.charge(Work.PROCESS_EXEC)
        self.clock.charge(Work.REGION_INSERT, len(list(task.space.vmas)))
        return task.pid

    def fork(self, pid: int, tid: int | None = None) -> int:
        """fork(2); the child's pid. It runs when it is made to."""
        with self._call(pid, tid):
            child = self._made(lambda: self.machine.fork(self.cred, pid, tid))
            self.clock.charge(Work.PROCESS_FORK)
            self.clock.charge(Work.REGION_COPY, len(list(child.space.vmas)))
        return child.pid

    def exec(self, pid: int) -> None:
        """execve(2) by the main thread."""
        with self._call(pid, None):
            self._made(lambda: self.machine.exec(self.cred, pid))
            self.clock.charge(Work.PROCESS_EXEC)

    def thread(self, pid: int, tid: int | None = None) -> int:
        """A new thread, made by `tid`; its id."""
        with self._call(pid, tid):
            made = self._do(lambda: self.machine.thread(self.cred, pid, tid))
            self.clock.charge(Work.THREAD_CREATE)
        return made

    def exit(self, pid: int) -> None:
        """exit_group(2) by the main thread: the CPUs that ran its threads are idle."""
        task = self.machine.require_task(self.cred, pid)
        attached = len(task.attachments)
        with self._call(pid, None):
            regions = sum(len(space.vmas) for space in task.spaces())
            entries = sum(view.union.table.present() for view in task.views.values())
            self._made(lambda: self.machine.exit(self.cred, pid))
            self.clock.charge(Work.PROCESS_EXIT)
            self.clock.charge(Work.REGION_REMOVE, regions)
            self.clock.charge(Work.ENTRY_DROP, entries)
            self.clock.charge(Work.SPACE_DETACH, attached)

    def run(self, pid: int, tid: int | None = None, cpu: int | None = None) -> None:
        """Who runs on the CPU gives it up by a system call (sched_yield, a blocking read) and this thread gets it."""
        thread = self._thread(pid, tid)
        if cpu is not None:
            self._move(pid, thread, cpu)
        self.clock.charge(Work.SYSCALL)
        self._schedule(pid, thread)

    # -- spaces --------------------------------------------------------------------------------------------------

    def vas_create(self, pid: int, name: str, mode: int = 0o666, sharing: str = EXCLUSIVE) -> int:
        """vas_create by a task; the id."""
        with self._call(pid, None):
            vid = self._do(lambda: self.machine.vas_create(self.cred, name, mode, sharing))
            self.clock.charge(Work.SPACE_CREATE)
        return vid

    def vas_attach(
        self, pid: int, vid: int, type: int = O_RDWR, *, lazy: bool = True, tid: int | None = None
    ) -> None:
        """vas_attach by a task for itself."""
        with self._call(pid, tid):
            attached = len(self.mmu.contexts)
            self._made(lambda: self.machine.vas_attach(self.cred, pid, vid, type, lazy))
            self.clock.charge(Work.SPACE_ATTACH, len(self.mmu.contexts) - attached)

    def vas_detach(self, pid: int, vid: int, tid: int | None = None) -> None:
        """vas_detach by a task for itself."""
        with self._call(pid, tid):
            self._made(lambda: self.machine.vas_detach(self.cred, pid, vid))
            self.clock.charge(Work.SPACE_DETACH)

    def vas_switch(self, pid: int, vid: int, tid: int | None = None) -> None:
        """vas_switch of a thread."""
        with self._call(pid, tid) as task:
            switches = task.counters.switches
            self._do(lambda: self.machine.vas_switch(self.cred, pid, tid, vid))
            self.clock.charge(Work.SPACE_SWITCH, task.counters.switches - switches)

    # -- views and slots -----------------------------------------------------------------------------------------

    def mmview(self, pid: int, op: int, *args: int, tid: int | None = None) -> int:
        """An operation on views by a thread. A new view costs as much as the regions and tables that it takes."""
        with self._call(pid, tid) as task:
            thread = self._thread(pid, tid)
            before, regions = thread.view, len(thread.view.space.vmas)
            views = len(task.views)
            value = self._made(lambda: self.machine.mmview(self.cred, pid, tid, op, *args))
            self._charge_views(len(task.views) - views, regions, moved=thread.view is not before)
        return value

    def new_as(self, pid: int, tid: int | None = None) -> int:
        """A new slot by a thread; its number."""
        with self._call(pid, tid):
            regions = len(self._thread(pid, tid).view.space.vmas)
            value = self._made(lambda: self.machine.new_as(self.cred, pid, tid))
            self._charge_views(1, regions, moved=False)
        return value

    def switch_as(self, pid: int, number: int, tid: int | None = None) -> None:
        """switch_as of a thread."""
        with self._call(pid, tid):
            thread = self._thread(pid, tid)
            before = thread.view
            self._do(lambda: self.machine.switch_as(self.cred, pid, tid, number))
            self._charge_views(0, 0, moved=thread.view is not before)

    def _charge_views(self, made: int, regions: int, *, moved: bool) -> None:
        if made > 0:
            self.clock.charge(Work.SPACE_CREATE, made)
            self.clock.charge(Work.REGION_COPY, regions)
        self.clock.charge(Work.SPACE_SWITCH, int(moved))

    # -- memory --------------------------------------------------------------------------------------------------

    def mmap(self, pid: int, addr: int, length: int, prot: int, flags: int, tid: int | None = None) -> int:
        """mmap(2)."""
        with self._call(pid, tid):
            return self._do(lambda: self.machine.mmap(self.cred, pid, tid, addr, length, prot, flags))

    def munmap(self, pid: int, addr: int, length: int, tid: int | None = None) -> None:
        """munmap(2)."""
        with self._call(pid, tid):
            self._do(lambda: self.machine.munmap(self.cred, pid, tid, addr, length))

    def mprotect(self, pid: int, addr: int, length: int, prot: int, tid: int | None = None) -> None:
        """mprotect(2)."""
        with self._call(pid, tid):
            self._do(lambda: self.machine.mprotect(self.cred, pid, tid, addr, length, prot))

    def brk(self, pid: int, addr: int = 0, tid: int | None = None) -> int:
        """brk(2)."""
        with self._call(pid, tid):
            return self._do(lambda: self.machine.brk(self.cred, pid, tid, addr))

    def system_call(self, pid: int, call: Callable[[Machine], T], tid: int | None = None) -> T:
        """Any other call of the machine by a thread, if it makes or ends neither tasks nor attachments."""
        with self._call(pid, tid):
            return self._do(lambda: call(self.machine))

    def read(self, pid: int, addr: int, length: int, tid: int | None = None) -> bytes:
        """Loads of the thread."""
        with self._access(pid, tid, addr, length, write=False):
            return self._do(lambda: self.machine.read(self.cred, pid, tid, addr, length))

    def write(self, pid: int, addr: int, data: bytes, tid: int | None = None) -> None:
        """Stores of the thread."""
        with self._access(pid, tid, addr, len(data), write=True):
            self._do(lambda: self.machine.write(self.cred, pid, tid, addr, data))

    # -- how a call is charged -----------------------------------------------------------------------------------

    @contextmanager
    def _call(self, pid: int, tid: int | None) -> Iterator[Task]:
        """A system call: in, the engine's work, out."""
        task = self.machine.require_task(self.cred, pid)
        thread = self._thread(pid, tid)
        cpu = self._schedule(pid, thread)
        self.clock.charge(Work.SYSCALL)
        union = thread.union
        before, regions = _look(task, union), _regions(union)
        try:
            yield task
        finally:
            self._charge(task, union, before)
            now = _regions(union)
            self.clock.charge(Work.REGION_INSERT, len(now - regions))
            self.clock.charge(Work.REGION_REMOVE, len(regions - now))
            self.mmu.shoot_down(cpu)
            self._resume()

    @contextmanager
    def _access(self, pid: int, tid: int | None, addr: int, length: int, *, write: bool) -> Iterator[None]:
        """Loads or stores: through the TLB, then whatever faults the engine takes."""
        task = self.machine.require_task(self.cred, pid)
        thread = self._thread(pid, tid)
        cpu = self._schedule(pid, thread)
        shift = self.machine.geometry.page_shift
        first = addr >> shift
        count = ((addr + length - 1) >> shift) - first + 1 if length > 0 and addr >= 0 else 0
        missed = self.mmu.translate(cpu, first, count, write=write)
        union = thread.union
        before, held = _look(task, union), _entries(union, first, count if write else 0)
        try:
            yield
        finally:
            self._charge(task, union, before)
            self._charge_pages(held, _entries(union, first, count if write else 0))
            self.mmu.shoot_down(cpu)
            self.mmu.refill(cpu, missed)

    def _do(self, action: Callable[[], T]) -> T:
        """A call of the engine, made durable; pages that it lacks are fetched."""
        fetches = 0
        while True:
            try:
                with self.machine.transaction() as txn:
                    value = action()
            except PagesNeeded as need:
                fetches += 1
                if self._backing is None or fetches > _FETCHES_MAX:
                    raise
                self.machine.supply(need, self._backing.fetch(need.object_id, need.pages))
            except EngineError:
                self._settle(txn)  # what a partial failure leaves
                raise
            else:
                self._settle(txn)
                return value

    def _settle(self, txn: Transaction) -> None:
        if self._backing is not None:
            self._backing.commit([txn.changes])
        txn.settle()

    def _made(self, action: Callable[[], T]) -> T:
        """A call that makes or ends tasks or attachments."""
        try:
            return self._do(action)
        finally:
            self.clock.charge(Work.ENTRY_BUILD, self._watch())

    def _charge(self, task: Task, union: Union, before: _Seen) -> None:
        """What the engine did for this thread's address space and its task."""
        after = _look(task, union)
        self.clock.charge(Work.FAULT, after.faults - before.faults)
        self.clock.charge(Work.PAGE_FETCH, after.fetches - before.fetches)
        self.clock.charge(Work.ENTRY_BUILD, after.built - before.built)

    def _charge_pages(self, before: list[int], after: list[int]) -> None:
        """New frames: zeros where nothing was, copies of frames that stay with others. What was fetched is charged so."""
        for had, has in zip(before, after, strict=True):
            if has > ZERO_FRAME and has != had and had >= ABSENT:
                self.clock.charge(Work.PAGE_COPY if had > ZERO_FRAME else Work.PAGE_ZERO)

    def _resume(self) -> None:
        """CPUs see what their threads see, and are idle when those have ended."""
        for cpu in self.mmu.cpus:
            if cpu.thread is not None:
                thread = self._alive(*cpu.thread)
                if thread is None:
                    cpu.thread = None
                else:
                    self.mmu.load(cpu, thread.union)

    # -- scheduling ----------------------------------------------------------------------------------------------

    def _schedule(self, pid: int, thread: Thread) -> Cpu:
        """The CPU on which the thread runs now."""
        key = (pid, thread.tid)
        cpu = self.mmu.cpus[self._places.setdefault(key, 0)]
        if cpu.thread != key:
            self.clock.charge(Work.CONTEXT_SWITCH)
            cpu.thread = key
        self.mmu.load(cpu, thread.union)
        return cpu

    def _move(self, pid: int, thread: Thread, number: int) -> None:
        key = (pid, thread.tid)
        if not 0 <= number < len(self.mmu.cpus):
            raise ValueError(f"there is no CPU {number}")
        old = self._places.get(key)
        if old is not None and old != number and self.mmu.cpus[old].thread == key:
            self.mmu.cpus[old].thread = None
        self._places[key] = number

    def _thread(self, pid: int, tid: int | None) -> Thread:
        return self.machine.require_task(self.cred, pid).thread(tid)

    def _alive(self, pid: int, tid: int) -> Thread | None:
        for task in self.machine.tasks_table:
            if task.pid == pid:
                return task.threads.get(tid)
        return None

    def _watch(self) -> int:
        """Know every union that a thread could see, and no other; the page-table entries of those that are new."""
        unions = {union: None for task in self.machine.tasks_table for union in task.unions()}
        for union in [union for union in self.mmu.contexts if union not in unions]:
            self.mmu.abandon(union)
        came = [union for union in unions if union not in self.mmu.contexts]
        for union in came:
            self.mmu.adopt(union)
        return sum(union.table.built for union in came)


def _look(task: Task, union: Union) -> _Seen:
    return _Seen(union.table.built, task.counters.minor_faults, task.counters.major_faults)


def _regions(union: Union) -> set[tuple[int, Vma]]:
    """Those that a call of this thread may change, each with the number of the view that has it."""
    owners = union.own.views if union.space is None else [*union.own.views, union.space]
    return {(number, vma) for number, owner in enumerate(owners) for vma in owner.vmas}


def _entries(union: Union, first: int, count: int) -> list[int]:
    """The page-map entries behind pages: frames, ABSENT (also where no region is), or less: the bytes are elsewhere."""
    shift = union.own.geometry.page_shift
    entries = []
    for vpn in range(first, first + count):
        found = union.find(vpn << shift)
        entry = ABSENT
        if found is not None:
            vma = found[1]
            entry = int(vma.obj.pages.entries(vma.page_of(vpn << shift, shift), 1)[0])
        entries.append(entry)
    return entries
