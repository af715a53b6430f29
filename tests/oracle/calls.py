"""What a sequence is made of: calls with their arguments by name, as data that both sides understand.

All numbers are engine.constants': were one of them wrong, the kernel would do something else than the engine.
"""

from dataclasses import dataclass

from engine import constants

PAGE = 4096
WINDOW = 0x7100_0000_0000
"""Both sides work in [WINDOW, WINDOW + WINDOW_SIZE), which nothing else uses."""
WINDOW_SIZE = 64 << 20
CORE_PAGES = 64
"""Calls name addresses in this many pages, so that they collide."""
CORE = WINDOW + (16 << 20) - CORE_PAGES // 2 * PAGE
"""The core lies across the border of two page tables."""
HEAP = CORE + 48 * PAGE
"""Where the heap of a sequence starts."""
HUGE = 1 << 40
"""Lengths above this are nonsense and fit nowhere."""

SIGNATURES: dict[str, tuple[str, ...]] = {
    "mmap": ("addr", "length", "prot", "flags", "home"),
    "munmap": ("addr", "length"),
    "mprotect": ("addr", "length", "prot"),
    "mremap": ("old_addr", "old_size", "new_size", "flags", "new_addr", "home"),
    "brk": ("addr",),
    "madvise": ("addr", "length", "advice"),
    "msync": ("addr", "length", "flags"),
    "mincore": ("addr", "length"),
    "mlock": ("addr", "length", "flags"),
    "munlock": ("addr", "length"),
    "load": ("addr", "length"),
    "store": ("addr", "length", "tag"),
    "look": (),
    "fork": (),
    "exit": (),
    "limit": ("resource", "pages"),
}
"""Names of the arguments. `home` is where a region is moved to when the call put it outside the window; `tag` says
which bytes are stored; `look` reads all memory that can be read; `exit` ends the process that the last fork made; `limit` lets so many pages
(regions for map_count) be used beyond those in use, or in all for stack and locked."""
RESOURCES = ("address_space", "data", "stack", "locked", "map_count")
UNLIMITED_PAGES = 2**52
"""As the argument of `limit`: no limit."""

_PREFIX = {
    ("mmap", "prot"): "PROT_",
    ("mprotect", "prot"): "PROT_",
    ("mmap", "flags"): "MAP_",
    ("mremap", "flags"): "MREMAP_",
    ("madvise", "advice"): "MADV_",
    ("msync", "flags"): "MS_",
    ("mlock", "flags"): "MLOCK_",
}
_NOT_BITS = ("MAP_TYPE", "PROT_ALL")


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `args` are in the order of SIGNATURES; addresses and lengths in bytes."""

    name: str
    args: tuple[int, ...] = ()

    def __str__(self) -> str:
        named = zip(SIGNATURES[self.name], self.args, strict=True)
        shown = ", ".join(f"{name}={_shown(self.name, name, value)}" for name, value in named)
        return f"{self.name}({shown})"


def address_text(value: int) -> str:
    """An address in the core as "P5" or "P5+0x10" (page 5 of the core), else in hexadecimal."""
    if not WINDOW <= value < WINDOW + WINDOW_SIZE:
        return hex(value)
    page, rest = divmod(value - CORE, PAGE)
    return f"P{page}" + (f"+{rest:#x}" if rest else "")


def _shown(call: str, name: str, value: int) -> str:
    prefix = _PREFIX.get((call, name))
    if name == "resource":
        return RESOURCES[value]
    if prefix == "MADV_":
        return _one_of(prefix, value)
    if prefix:
        return _bits(prefix, value)
    if name in ("addr", "old_addr", "new_addr", "home"):
        return address_text(value)
    if value and value % PAGE == 0 and value >> 40 == 0:
        return f"{value // PAGE} pages"
    return hex(value) if value > PAGE else str(value)


def _named(prefix: str) -> dict[int, str]:
    names = [name for name in dir(constants) if name.startswith(prefix) and name not in _NOT_BITS]
    return {getattr(constants, name): name.removeprefix(prefix) for name in names}


def _one_of(prefix: str, value: int) -> str:
    return _named(prefix).get(value, str(value))


def _bits(prefix: str, value: int) -> str:
    names = []
    rest = value
    for bit, name in sorted(_named(prefix).items()):
        if bit and rest & bit == bit:
            names.append(name)
            rest &= ~bit
    if rest or not names:
        names.append(hex(rest) if rest else _named(prefix).get(0, "0"))
    return "|".join(names)
