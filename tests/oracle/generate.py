"""Sequences of calls from a seed: mostly valid, mostly in each other's way, now and then nonsense.

The generator keeps a rough idea of what is mapped, only to choose well; it need not be right. Each sequence prefers
calls and places of its own, so that rare combinations come up in some of them.
"""

from collections.abc import Callable, Collection
from random import Random

from engine import constants as c
from tests.oracle.calls import (
    CORE,
    CORE_PAGES,
    HEAP,
    HUGE,
    PAGE,
    RESOURCES,
    SIGNATURES,
    UNLIMITED_PAGES,
    WINDOW,
    WINDOW_SIZE,
    Call,
)
from tests.oracle.modes import Mode

ANONYMOUS = c.MAP_PRIVATE | c.MAP_ANONYMOUS
SHARED_MEMORY = c.MAP_SHARED | c.MAP_ANONYMOUS
PROTS = (3, 3, 3, 3, 3, 1, 1, 0, 2, 5, 6, 7)
ODD_PROTS = (c.PROT_SEM, c.PROT_GROWSDOWN, c.PROT_GROWSUP, c.PROT_GROWSDOWN | c.PROT_GROWSUP, 0x10)
"""Bits that may come on top; mmap takes no notice of them."""
EXTRAS = {
    c.MAP_GROWSDOWN: 0.06, c.MAP_NORESERVE: 0.06, c.MAP_POPULATE: 0.1, c.MAP_LOCKED: 0.05, c.MAP_STACK: 0.03,
}  # fmt: skip
"""Flags of mmap and how often they are set."""
ADVICE = (
    c.MADV_NORMAL, c.MADV_RANDOM, c.MADV_SEQUENTIAL, c.MADV_WILLNEED, c.MADV_DONTNEED, c.MADV_DONTNEED, c.MADV_FREE,
    c.MADV_REMOVE, c.MADV_DONTFORK, c.MADV_DOFORK, c.MADV_HUGEPAGE, c.MADV_NOHUGEPAGE, c.MADV_DONTDUMP,
    c.MADV_DODUMP, c.MADV_COLD, c.MADV_POPULATE_READ, c.MADV_POPULATE_WRITE, c.MADV_DONTNEED_LOCKED,
)  # fmt: skip
"""Left out: PAGEOUT, since which pages it takes depends on which processor saw them last; COLLAPSE, since the core is
smaller than a huge page; VAS_PRIVATE and VAS_SHARED, whose numbers mean something else to Linux."""
BAD_ADVICE = (5, 7, 99, 2**31 - 1)
BAD_LENGTHS = (0, 1, PAGE - 1, PAGE + 1, 2**64 - PAGE, 2**64 - 1, 2**63, 2**62)
WRAPPING = 6
"""So many of them are short or wrap around; the others reach over all that is mapped."""
WEIGHTS = {
    "mmap": 9, "munmap": 3, "mprotect": 6, "mremap": 7, "brk": 2, "madvise": 7, "msync": 1, "mincore": 2, "mlock": 3,
    "munlock": 2, "load": 4, "store": 9, "look": 1, "fork": 1, "exit": 1, "limit": 4,
}  # fmt: skip
FORKS_MAX = 3
DEFAULT_PAGES = 2048
HEAP_PAGES = (HEAP - CORE) // PAGE


class Generator:
    """Makes one sequence."""

    def __init__(self, seed: int, mode: Mode, *, unreadable: bool, only: Collection[str] = ()) -> None:
        self.mode = mode
        self.prots = (*PROTS, c.PROT_EXEC) if unreadable else PROTS
        self.rng = rng = Random(seed)
        self.width = rng.choice((6, 12, 24, CORE_PAGES))
        self.first = rng.randrange(CORE_PAGES - self.width + 1)
        allowed = [name for name in mode.calls if not only or name in only]
        self.weights = {name: WEIGHTS[name] * rng.choice((0, 1, 1, 2, 4)) for name in allowed}
        if not any(self.weights.values()):
            self.weights = {name: WEIGHTS[name] for name in allowed}
        if "limit" in allowed:
            self.weights["limit"] = max(self.weights["limit"], 2)
        self.extras = dict(EXTRAS)
        if "locked" in mode.resources:
            self.extras[c.MAP_LOCKED] = 0.3
        if mode.filled:
            self.extras[c.MAP_GROWSDOWN] = 0.12
        self.plain = rng.random() < 0.4
        """Most regions of the sequence are of one kind, so that they merge."""
        anywhere = 8 if mode.filled else 1
        self.places = (10, 3, 4, anywhere) if not only or "mremap" in only else (10, 3, 0, 0)
        """How often mmap is FIXED, FIXED_NOREPLACE, with a hint, or without."""
        self.rights: dict[int, int] = {}
        """Pages of the core that should be mapped, with their PROT bits."""
        self.parents: list[dict[int, int]] = []
        self.forks = 0

    def sequence(self, calls: int) -> list[Call]:
        """So many calls."""
        makers: dict[str, Callable[[], Call]] = {name: getattr(self, f"_{name}") for name in self.weights}
        names, weights = list(self.weights), list(self.weights.values())
        made: list[Call] = []
        while len(made) < calls:
            name = self.rng.choices(names, weights)[0]
            if len(self.rights) < 3 and "mmap" in makers and self.rng.random() < 0.8:
                name = "mmap"
            if (name == "fork" and self.forks == FORKS_MAX) or (name == "exit" and not self.parents):
                continue
            made.append(makers[name]())
        return made

    # -- arguments -----------------------------------------------------------------------------------------------

    def _rarely(self, chance: float = 0.02) -> bool:
        return self.rng.random() < chance

    def _page(self, wanted: int = 0) -> int:
        """A page of the core's part that the sequence works in, mostly a mapped one with `wanted` rights."""
        rng = self.rng
        mapped = [page for page, rights in self.rights.items() if rights & wanted == wanted]
        if mapped and rng.random() < 0.9:
            page = rng.choice(mapped) + rng.choices((0, -1, 1), (14, 1, 1))[0]
            return min(max(page, 0), CORE_PAGES - 1)
        return self.first + rng.randrange(self.width)

    def _addr(self, page: int) -> int:
        address = CORE + page * PAGE
        return address + self.rng.choice((1, 8, PAGE // 2, PAGE - 1)) if self._rarely() else address

    def _length(self, page: int, pages: int = 0) -> int:
        """Mostly whole pages up to the core's end."""
        if self._rarely():
            bad = self.rng.choice(BAD_LENGTHS[:WRAPPING] if self.mode.filled else BAD_LENGTHS)
            return bad if bad > HUGE else min(bad, (CORE_PAGES - page) * PAGE)
        pages = pages or self.rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 8, 12))
        length = min(pages, CORE_PAGES - page) * PAGE
        return length - self.rng.randrange(1, PAGE) if self._rarely(0.05) else length

    def _extent(self, *, alike: bool = False) -> tuple[int, int]:
        """An address and a length, mostly of mapped pages only; `alike`: mostly of pages with the same rights."""
        page = self._page()
        pages = self.rng.choice((1, 1, 2, 2, 3, 4, 6, 8, 12))
        if page in self.rights and self.rng.random() < 0.85:
            wanted, pages, kind = pages, 1, self.rights[page]
            while pages < wanted and self.rights.get(page + pages, -1) in (range(8), (kind,))[alike]:
                pages += 1
        return self._addr(page), self._length(page, pages)

    def _home(self) -> int:
        return CORE + min(self._page(), CORE_PAGES - 16) * PAGE

    # -- calls ---------------------------------------------------------------------------------------------------

    def _mmap(self) -> Call:
        rng = self.rng
        page = self._page() if rng.random() < 0.3 else self.first + rng.randrange(self.width)
        addr, length = self._addr(page), self._length(page)
        flags = ANONYMOUS if self.plain or rng.random() < 0.7 else SHARED_MEMORY
        where = rng.choices((c.MAP_FIXED, c.MAP_FIXED_NOREPLACE, 0, -1), self.places)[0]
        if (
            where == c.MAP_FIXED_NOREPLACE
            and self._covered(addr, length) & self.rights.keys()
            and rng.random() < 0.7
        ):
            where = c.MAP_FIXED
        if where < 0:
            addr, where = rng.choice((0, 0, 1, PAGE)), 0
        flags |= where
        if not self.plain or self._rarely(0.1):
            flags |= sum(flag for flag, chance in self.extras.items() if rng.random() < chance)
        if flags & c.MAP_SHARED and flags & c.MAP_GROWSDOWN and not self._rarely(0.1):
            flags &= ~c.MAP_GROWSDOWN
        if self._rarely(0.01):
            flags = flags & ~c.MAP_TYPE | rng.choice((0, 3))
        prot = 3 if self.plain and rng.random() < 0.8 else rng.choice(self.prots)
        self._map(addr, length, prot)
        if self._rarely(0.01):
            prot |= rng.choice(ODD_PROTS)
        return Call("mmap", (addr, length, prot, flags, self._home()))

    def _munmap(self) -> Call:
        addr, length = self._extent()
        self._unmap(addr, length)
        return Call("munmap", (addr, length))

    def _mprotect(self) -> Call:
        prot = self.rng.choice(self.prots)
        addr, length = self._extent()
        for page in self._covered(addr, length) & self.rights.keys():
            self.rights[page] = prot
        if self._rarely(0.04):
            prot |= self.rng.choice(ODD_PROTS)
        if prot & c.PROT_GROWSDOWN and length > HUGE:
            length = 2**64 - PAGE  # else it asks what lies above: libraries here, a stack there
        return Call("mprotect", (addr, length, prot))

    def _mremap(self) -> Call:
        rng = self.rng
        addr, old = self._extent(alike=True)
        # in Linux what DONTUNMAP leaves behind stays counted as locked: not where locked memory is limited
        dontunmap = 0 if "locked" in self.mode.resources else 2
        flags = rng.choices((0, 1, 3, 5, 7), (3, 3, 8, dontunmap, dontunmap))[0]
        new = rng.choice((old, old, old, old + PAGE, old + 2 * PAGE, PAGE, 3 * PAGE, self._length(0)))
        if flags & c.MREMAP_DONTUNMAP and not self._rarely(0.1):
            new = old
        if self._rarely(0.03):
            old = 0
        if self._rarely():
            flags = rng.choice((2, 4, 6, 8, 9, 16))  # none of them is valid
        page = self.first + rng.randrange(self.width) if rng.random() < 0.6 else self._page()
        source = self._covered(addr, max(old, new))
        for _ in range(8):
            if not self._covered(CORE + page * PAGE, new) & source:
                break
            page = rng.randrange(CORE_PAGES - 11)
        if flags & c.MREMAP_FIXED and new < HUGE:
            new = min(new, (CORE_PAGES - page) * PAGE)
        target = self._addr(page) if flags & (c.MREMAP_FIXED | c.MREMAP_DONTUNMAP) else 0
        if HUGE < new < 2**62:
            new = 2**62
        prot = self.rights.get((addr - CORE) // PAGE, 3)
        if not flags & c.MREMAP_DONTUNMAP:
            self._unmap(addr, old)
        self._map(target if flags & c.MREMAP_FIXED else addr, new, prot)
        return Call("mremap", (addr, old, new, flags, target, self._home()))

    def _brk(self) -> Call:
        if self._rarely(0.1):
            return Call("brk", (self.rng.choice((0, 1, HEAP - 1, HEAP - PAGE, 2**63)),))
        pages = self.rng.randrange(CORE_PAGES - HEAP_PAGES)
        self._map(HEAP, pages * PAGE, 3)
        return Call("brk", (HEAP + pages * PAGE + self.rng.choice((0, 0, 1, 100)),))

    def _madvise(self) -> Call:
        advice = self.rng.choice(BAD_ADVICE) if self._rarely() else self.rng.choice(ADVICE)
        addr, length = self._extent()
        # madvise knows no upper end: only a length that wraps around is harmless
        return Call("madvise", (addr, length if length < HUGE else 2**64 - PAGE, advice))

    def _msync(self) -> Call:
        flags = self.rng.choice((c.MS_SYNC, c.MS_ASYNC, c.MS_INVALIDATE, 6, 3, 0, 5, 8, 16))
        return Call("msync", (*self._extent(), flags))

    def _mincore(self) -> Call:
        return Call("mincore", self._extent())

    def _mlock(self) -> Call:
        flags = 2 if self._rarely() else self.rng.choice((0, 0, c.MLOCK_ONFAULT))
        return Call("mlock", (*self._extent(), flags))

    def _munlock(self) -> Call:
        return Call("munlock", self._extent())

    def _access(self, wanted: int) -> tuple[int, int]:
        """Some bytes inside one page."""
        at = self.rng.choice((0, 0, 0, 8, 100, PAGE - 8))
        return CORE + self._page(wanted) * PAGE + at, self.rng.choice((1, 2, 4, 8))

    def _load(self) -> Call:
        return Call("load", self._access(c.PROT_READ))

    def _store(self) -> Call:
        return Call("store", (*self._access(c.PROT_WRITE), self.rng.randrange(1, 0xFFFF)))

    def _look(self) -> Call:
        return Call("look")

    def _fork(self) -> Call:
        self.forks += 1
        self.parents.append(dict(self.rights))
        return Call("fork")

    def _exit(self) -> Call:
        self.rights = self.parents.pop()
        return Call("exit")

    def _limit(self) -> Call:
        resources = [name for name in self.mode.resources if name != "data" or not self.weights.get("brk")]
        name = self.rng.choice(resources)
        pages = UNLIMITED_PAGES if self.rng.random() < 0.25 else self.rng.choice((0, 1, 2, 3, 5, 8, 13, 20))
        if name in (
            "stack",
            "locked",
        ):  # an unlimited stack, the program's own, would grow down into the core
            pages = min(pages, DEFAULT_PAGES)
        return Call("limit", (RESOURCES.index(name), pages))

    # -- what should be mapped -----------------------------------------------------------------------------------

    def _map(self, addr: int, length: int, prot: int) -> None:
        self.rights.update(dict.fromkeys(sorted(self._covered(addr, length)), prot))

    def _unmap(self, addr: int, length: int) -> None:
        for page in self._covered(addr, length):
            self.rights.pop(page, None)

    def _covered(self, addr: int, length: int) -> set[int]:
        """Pages of the core in [addr, addr + length); none of nonsense."""
        if addr % PAGE or length > HUGE or not WINDOW <= addr < WINDOW + WINDOW_SIZE:
            return set()
        first = (addr - CORE) // PAGE
        return set(range(max(first, 0), min(first + -(-length // PAGE), CORE_PAGES)))


def generate(
    seed: int, mode: Mode, calls: int = 40, *, unreadable: bool = True, only: Collection[str] = ()
) -> list[Call]:
    """The sequence of a seed. `unreadable`: memory that may only be executed cannot be read; else there is none.

    `only` limits it to some kinds of call.
    """
    unknown = set(only) - SIGNATURES.keys()
    if unknown:
        raise ValueError(f"no such calls: {sorted(unknown)}")
    return Generator(seed, mode, unreadable=unreadable, only=only).sequence(calls)
