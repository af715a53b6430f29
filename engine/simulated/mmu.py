"""Modelled processors: which address space each has loaded, its TLB, and shootdowns between them.

A page table tells here which entries it lost; `shoot_down` then takes them out of every TLB that may hold them. So a
TLB never has a translation that the page table does not have: `check` names the ones that it has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from engine.geometry import Geometry
from engine.invariant import invariant
from engine.memory.page_table import FRAME_SHIFT, PRESENT, WRITABLE
from engine.simulated.costs import Clock, Work
from engine.simulated.tags import UNTAGGED, Context, Tags
from engine.simulated.tlb import Tlb
from engine.union import Union

FLUSH_CEILING: Final = 33
"""With more pages than this to be taken out, the whole tag is flushed (Linux: tlb_single_page_flush_ceiling)."""
CPUS_MAX: Final = 64
TLB_ENTRIES_MAX: Final = 1 << 16
TAGS_MIN: Final = 3
"""Of one CPU; each more needs one more: a number for what each is using, one to give out, one to spare."""
TAGS_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Hardware:
    """Processors and their TLBs, by default those of the RFC's machine (Xeon E5620) with x86's number of tags.

    `tags` is 0 for none: then every load of an address space flushes. ValueError: a number that cannot be built.
    """

    cpus: int = 1
    tlb_entries: int = 512
    ways: int = 4
    tags: int = 4096

    def __post_init__(self) -> None:
        if not 1 <= self.cpus <= CPUS_MAX:
            raise ValueError(f"{self.cpus} CPUs are not 1 to {CPUS_MAX}")
        if (
            self.ways < 1
            or not self.ways <= self.tlb_entries <= TLB_ENTRIES_MAX
            or self.tlb_entries % self.ways
        ):
            raise ValueError(
                f"{self.tlb_entries} TLB entries are not a multiple of {self.ways} ways up to {TLB_ENTRIES_MAX}"
            )
        if self.tags and not TAGS_MIN + self.cpus - 1 <= self.tags <= TAGS_MAX:
            raise ValueError(
                f"{self.tags} tags are neither 0 nor {TAGS_MIN + self.cpus - 1} (two more than CPUs) to {TAGS_MAX}"
            )


@dataclass(slots=True, eq=False)
class Cpu:
    """`thread` is (pid, tid) of what runs, None when idle; `contexts` are those its TLB may hold entries of."""

    number: int
    tlb: Tlb
    thread: tuple[int, int] | None = None
    loaded: Context | None = None
    tag: int = UNTAGGED
    contexts: dict[int, Context] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Loss:
    context: Context
    vpn: int
    count: int
    removed: int


class Mmu:
    """All processors. What they do is charged to `clock`; one clock for all, since one thing happens at a time."""

    def __init__(
        self,
        geometry: Geometry,
        hardware: Hardware,
        clock: Clock,
        make_tlb: Callable[[int, int, int], Tlb] = Tlb,
        make_tags: Callable[[int, int], Tags] = Tags,
    ) -> None:
        self.clock = clock
        self.hardware = hardware
        self._geometry = geometry
        leaf_bits = geometry.level_bits[-1]
        self.cpus = [
            Cpu(number, make_tlb(hardware.tlb_entries, hardware.ways, leaf_bits))
            for number in range(hardware.cpus)
        ]
        self.tags = make_tags(hardware.tags, hardware.cpus) if hardware.tags else None
        self.contexts: dict[Union, Context] = {}
        self._losses: list[_Loss] = []

    # -- address spaces ------------------------------------------------------------------------------------------

    def adopt(self, union: Union) -> Context:
        """Watch a union's page table from now on."""
        context = self.contexts[union] = Context(union)
        union.table.observer = partial(self._lost, context)
        return context

    def abandon(self, union: Union) -> None:
        """A union that nobody can enter any more; its tag comes back with the next generation."""
        self.contexts.pop(union).alive = False
        union.table.observer = None

    def load(self, cpu: Cpu, union: Union) -> None:
        """Let `cpu` see a union: nothing to do when it does already."""
        context = self.contexts[union]
        if cpu.loaded is context:
            return
        self.clock.charge(Work.ROOT_LOAD)
        if self.tags is None:
            flush = True
        else:
            before = self.tags.assigned
            flush = self.tags.load(cpu.number, context)
            self.clock.charge(Work.TAG_ASSIGN, self.tags.assigned - before)
        if flush:
            cpu.tlb.flush()
            cpu.contexts.clear()
            self.clock.charge(Work.TLB_FLUSH)
        cpu.loaded, cpu.tag = context, context.tag
        cpu.contexts[cpu.tag] = context

    # -- translations --------------------------------------------------------------------------------------------

    def translate(self, cpu: Cpu, first: int, count: int, *, write: bool) -> list[int]:
        """Look pages up in the TLB and walk the page table where that misses; the pages that missed."""
        needed = PRESENT | WRITABLE if write else PRESENT
        missed = []
        for vpn in range(first, first + count):
            entry = cpu.tlb.lookup(cpu.tag, vpn, needed)
            if entry:
                reason = self._stale(cpu, vpn, entry)
                invariant(not reason, reason)
                continue
            missed.append(vpn)
            levels = 1 if cpu.tlb.walk(cpu.tag, vpn) else len(self._geometry.level_bits)
            self.clock.charge(Work.WALK_LEVEL, levels)
        return missed

    def refill(self, cpu: Cpu, pages: list[int]) -> None:
        """Cache what the page table has for pages that missed."""
        if cpu.loaded is not None:
            table = cpu.loaded.union.table
            for vpn in pages:
                entry = table.entry(vpn)
                if entry:
                    cpu.tlb.insert(cpu.tag, vpn, entry)

    # -- shootdowns ----------------------------------------------------------------------------------------------

    def shoot_down(self, initiator: Cpu | None) -> None:
        """Take everything that page tables lost since the last time out of all TLBs.

        Each other CPU that may hold some of it is interrupted once. A CPU that is None interrupts all.
        """
        if not self._losses:
            return
        losses, self._losses = self._losses, []
        self.clock.charge(Work.ENTRY_DROP, sum(loss.removed for loss in losses))
        for cpu in self.cpus:
            held = [loss for loss in losses if cpu.contexts.get(loss.context.tag) is loss.context]
            if not held:
                continue
            if cpu is not initiator:
                self.clock.charge(Work.IPI)
            for context in {loss.context: None for loss in held}:
                self._forget(cpu, context, [loss for loss in held if loss.context is context])

    def _forget(self, cpu: Cpu, context: Context, losses: list[_Loss]) -> None:
        pages = sum(loss.removed for loss in losses)
        if pages > FLUSH_CEILING:
            cpu.tlb.flush_tag(context.tag)
            self.clock.charge(Work.TLB_FLUSH)
            return
        for loss in losses:
            cpu.tlb.invalidate(context.tag, loss.vpn, loss.count)
        self.clock.charge(Work.PAGE_INVALIDATE, pages)

    def _lost(self, context: Context, vpn: int, count: int, removed: int) -> None:
        self._losses.append(_Loss(context, vpn, count, removed))

    # -- safety --------------------------------------------------------------------------------------------------

    def check(self) -> Iterator[str]:
        """Every translation in a TLB that a thread could come to use and that its page table does not have."""
        for cpu in self.cpus:
            for tag, vpn, entry in cpu.tlb.entries():
                context = cpu.contexts.get(tag)
                reachable = tag == cpu.tag or self.tags is None or not self.tags.must_flush(cpu.number)
                if context is not None and context.alive and reachable:
                    reason = self._difference(context, vpn, entry)
                    if reason:
                        yield f"CPU {cpu.number}, tag {tag}: {reason}"

    def _stale(self, cpu: Cpu, vpn: int, entry: int) -> str:
        return "" if cpu.loaded is None else self._difference(cpu.loaded, vpn, entry)

    def _difference(self, context: Context, vpn: int, entry: int) -> str:
        held = context.union.table.entry(vpn)
        same_frame = held & PRESENT and held >> FRAME_SHIFT == entry >> FRAME_SHIFT
        if same_frame and not (entry & WRITABLE and not held & WRITABLE):
            return ""
        return f"page {vpn:#x} of {context.union.own.label} is {entry:#x} in the TLB and {held:#x} in the page table"
